"""An engine's time per sequence is found in other models' steps, and never in those of the model that is judged."""

import numpy as np
import pytest

from estimator.evaluate.engine_steps import SHAPES, Deployment, Loads
from estimator.evaluate.engine_time import ENGINE, FORMS, estimates, from_others, own_s, shared_s

MODELS = ("llama-7b", "llama-13b", "bigcode/starcoder")


def made(deployment: Deployment, *, scalar: float, per_sequence_s: float) -> Loads:
    """Steps of 1 to 40 sequences, every other one fitted to; the GPU's time is 10 ms and some for each sequence."""
    sequences = np.arange(1.0, 41.0)
    learned = 0.010 + 1e-4 * np.sqrt(sequences)
    return Loads(
        deployment=deployment,
        measured=scalar * learned + per_sequence_s * sequences,
        sequences=sequences,
        learned=learned,
        analytic=learned,
        fitted=sequences % 2 == 0,
    )


def errors(loads: Loads, estimated: np.ndarray) -> float:
    return float(np.abs(estimated / loads.measured[~loads.fitted] - 1.0).mean())


def test_the_time_of_a_deployment_is_found_beside_its_scalar() -> None:
    assert own_s(made(Deployment(MODELS[0], "A100", 1), scalar=1.7, per_sequence_s=8e-4)) == pytest.approx(8e-4)


@pytest.mark.parametrize("name", [ENGINE, "time per sequence and layer", "time per sequence and GPU"])
def test_one_number_is_exact_for_engines_whose_time_grows_so(name: str) -> None:
    form = FORMS[name]
    deployments = [Deployment(model, "A100", gpus) for model in MODELS for gpus in (1, 2)]
    found = [
        made(one, scalar=1.0 + index / 4, per_sequence_s=3e-4 * form.share(one) / form.share(deployments[0]))
        for index, one in enumerate(deployments)
    ]
    for loads, estimated in zip(found, from_others(found, form), strict=True):
        assert errors(loads, estimated) < 1e-6


def test_a_scalar_on_the_whole_step_is_exact_for_an_engine_that_is_slower_in_all() -> None:
    loads = made(Deployment(MODELS[0], "A100", 1), scalar=2.0, per_sequence_s=1e-3)
    assert errors(loads, estimates(loads, FORMS["the scalar on the whole step"], 5e-4)) < 1e-6
    assert errors(loads, estimates(loads, FORMS[ENGINE], 5e-4)) > 0.02


def test_the_time_of_a_judged_model_has_no_part_in_its_estimates() -> None:
    others = [made(Deployment(model, "A100", 1), scalar=1.0, per_sequence_s=6e-4) for model in MODELS[1:]]
    judged = Deployment(MODELS[0], "A100", 1)
    for per_sequence_s in (6e-4, 2e-3):
        loads = made(judged, scalar=1.0, per_sequence_s=per_sequence_s)
        estimated = from_others([loads, *others], FORMS[ENGINE])[0]
        assert estimated == pytest.approx(estimates(loads, FORMS[ENGINE], 6e-4))


def test_one_odd_deployment_does_not_move_the_number() -> None:
    own = {Deployment(MODELS[0], "A100", gpus): 5e-4 for gpus in (1, 2, 4)} | {Deployment(MODELS[1], "H100", 1): 5e-3}
    assert shared_s(own, FORMS[ENGINE]) == pytest.approx(5e-4, rel=0.01)


def test_without_another_model_there_is_nothing_to_learn_from() -> None:
    with pytest.raises(ValueError, match="0 measurements for 1 factors"):
        from_others([made(Deployment(MODELS[0], "A100", 1), scalar=1.0, per_sequence_s=0.0)], FORMS[ENGINE])


def test_every_model_has_a_share_in_every_form() -> None:
    assert all(form.share(Deployment(model, "A100", 2)) > 0 for form in FORMS.values() for model in SHAPES)
