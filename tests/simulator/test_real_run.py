"""The engine replays a recorded vLLM run: arrivals, token counts and KV cache are its own, step times are modeled."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from estimator.choice import choose_step
from estimator.evaluate.replay import LATENCIES, Run, latency_ratio, percentile, read_run, replay
from estimator.price import WeightSource
from estimator.step import Step, step_model
from simulator.request import Completion

RUN = Path(__file__).parents[3] / "shared/data/gpu/vllm_runs/RTX4090_Llama-3.1-8B"

pytestmark = pytest.mark.skipif(not RUN.is_dir(), reason=f"no recorded run at {RUN}")


class Replayed(NamedTuple):
    source: WeightSource
    done: Mapping[str, Completion]


@pytest.fixture(scope="module")
def run() -> Run:
    return read_run(RUN)


def step_of(run: Run, source: WeightSource) -> Step:
    if source is WeightSource.ANALYTIC:
        return step_model(run.architecture, run.accelerator)
    choice = choose_step(run.architecture, run.accelerator)
    assert choice.source is source, choice.reason
    return choice.step


@pytest.fixture(scope="module", params=list(WeightSource))
def simulated(request: pytest.FixtureRequest, run: Run) -> Replayed:
    return Replayed(request.param, replay(run, step_of(run, request.param)))


@pytest.mark.parametrize("latency", LATENCIES)
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9], ids=["p10", "p50", "p90"])
def test_simulated_latencies_are_near_the_recorded_ones(
    latency: str, ratio: float, run: Run, simulated: Replayed
) -> None:
    assert latency_ratio(run, simulated.done, latency, ratio) == pytest.approx(1.0, rel=0.065)


def test_the_run_ends_when_the_recorded_one_did(run: Run, simulated: Replayed) -> None:
    start_s = run.requests[0].queued_at_s
    got = max(done.finished_at_s for done in simulated.done.values()) - start_s
    assert got == pytest.approx(run.busy_s, rel=0.05)


def test_each_request_waits_about_as_long_as_it_did(run: Run, simulated: Replayed) -> None:
    misses = sorted(abs(simulated.done[row.request_id].first_token_at_s - row.first_token_at_s) for row in run.requests)
    # Waits go up to 130 s in this run.
    assert percentile(misses, 0.9) < 6.0
