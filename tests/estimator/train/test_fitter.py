"""Many sets at a time: in their order whatever the ops, the same as one by one, and an error is not swallowed."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the [train] extra")

from estimator.kernels.model import Op
from estimator.train.fit import NotFiniteError, fit
from estimator.train.fitter import SETS_AT_ONCE, Fitter, fitter
from estimator.train.samples import SampleSet
from tests.estimator.train.products import QUICK, samples

SHORT = replace(QUICK, steps=20, physics_steps=20)


def mixed_ops() -> list[SampleSet]:
    """Three sets, that in the middle said to be of another op."""
    first, second, third = (samples(gpu, seed) for seed, gpu in enumerate(("A100-80", "H100", "H200")))
    return [first, replace(second, op=Op.EXPERTS), third]


def every(sets: list[SampleSet]) -> list[np.ndarray]:
    return [np.ones(len(one), dtype=np.bool_) for one in sets]


def test_results_stand_in_the_order_of_the_sets(at_once: Fitter) -> None:
    sets, done = mixed_ops(), []
    found = at_once.start(sets, every(sets), SHORT).result(lambda: done.append(1))
    assert [one.key[0] for one in found] == ["A100-80", "H100", "H200"]
    assert len(done) == 2
    (alone,) = fit([sets[1]], recipe=SHORT)
    assert found[1].arrays["physics"] == pytest.approx(alone.arrays["physics"])


def test_more_sets_than_fit_at_once_are_fitted_in_turns(at_once: Fitter) -> None:
    sets = [replace(samples(), gpu=f"gpu-{number}") for number in range(SETS_AT_ONCE + 1)]
    fits = at_once.start(sets, every(sets), replace(SHORT, steps=2, physics_steps=2))
    assert [len(places) for places, _ in fits.batches] == [SETS_AT_ONCE, 1]
    assert [one.key[0] for one in fits.result(lambda: None)] == [one.gpu for one in sets]


def test_only_rows_to_train_on_are_seen(at_once: Fitter) -> None:
    one = samples()
    one.latency_s[0] = np.nan
    train = np.arange(len(one)) > 0
    assert at_once.start([one], [train], SHORT).result(lambda: None)
    with pytest.raises(NotFiniteError):
        at_once.start([one], every([one]), SHORT).result(lambda: None)


@pytest.mark.timeout(120)
def test_processes_find_what_one_process_finds() -> None:
    sets = mixed_ops()
    with fitter(2) as fits:
        found = fits.start(sets, every(sets), SHORT).result(lambda: None)
    for one, each in zip(sets, found, strict=True):
        (alone,) = fit([one], recipe=SHORT)
        assert each.arrays["w1"] == pytest.approx(alone.arrays["w1"], rel=1e-3, abs=1e-3)
