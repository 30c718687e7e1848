"""Both step models against measured kernels. Prints their errors with `-s`; decisions 0004 and 0014 quote them.

The learned one is trained on these kernels: it shows that a step puts them together right, not how it generalizes.
"""

from collections import defaultdict
from statistics import median, quantiles

import pytest

from estimator.accelerator import ACCELERATORS
from estimator.choice import choose_step
from estimator.price import WeightSource
from estimator.step import Step, step_model
from estimator.work import kv_capacity_tokens, prefill_pairs
from tests.estimator.shapes import LLAMA_8B
from tests.estimator.tables import MeasuredStep, available, measured_steps

BOUNDS = {
    "analytic": {"decode": (0.03, 0.08), "prefill": (0.05, 0.18), "mixed": (0.06, 0.17)},
    "learned": {"decode": (0.03, 0.08), "prefill": (0.04, 0.10), "mixed": (0.03, 0.08)},
}
"""Of the median and the 90th percentile of |predicted / measured - 1|."""


def relative_errors(gpu: str, model: Step) -> dict[str, list[float]]:
    accelerator = ACCELERATORS[gpu]
    errors = defaultdict(list)

    def error(step: MeasuredStep) -> float:
        predicted_s = model.time_s(
            prefill_tokens=step.prefill_tokens,
            prefill_pairs=prefill_pairs(step.prefill_tokens, step.cached_tokens),
            decode_sequences=step.decode_sequences,
            decode_kv_tokens=step.decode_kv_tokens,
        )
        return predicted_s / step.time_s - 1

    for step in measured_steps(gpu, kv_capacity_tokens=kv_capacity_tokens(LLAMA_8B, accelerator)):
        errors[step.kind].append(error(step))
    return errors


@pytest.mark.parametrize("source", BOUNDS)
@pytest.mark.parametrize("gpu", ["RTX4090", "RTXPRO6000"])
def test_step_times_meet_the_measured_ones(gpu: str, source: str) -> None:
    if not available(gpu):
        pytest.skip(f"the measured tables of {gpu} are not on this machine")
    choice = choose_step(LLAMA_8B, ACCELERATORS[gpu])
    assert choice.source == WeightSource.LEARNED
    model = choice.step if source == "learned" else step_model(LLAMA_8B, ACCELERATORS[gpu])
    errors = relative_errors(gpu, model)
    for kind, (median_bound, p90_bound) in BOUNDS[source].items():
        sizes = [abs(error) for error in errors[kind]]
        p90 = quantiles(sizes, n=10)[-1]
        middle, worst = median(sizes), max(sizes)
        print(f"{gpu} {source} {kind}: {len(sizes)} steps, median {middle:.3f}, p90 {p90:.3f}, max {worst:.3f}")
        assert median(sizes) <= median_bound, kind
        assert p90 <= p90_bound, kind
    everything = [error for kind in errors.values() for error in kind]
    assert abs(median(everything)) <= 0.03
