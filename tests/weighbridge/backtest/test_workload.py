"""A trace becomes a workload: its rate, its mix, its shape over the day, and weights that do not know the future."""

import csv
import os
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.weighbridge.backtest.scenes import price
from weighbridge.backtest.day import DAY, FLAT, Warp
from weighbridge.backtest.workload import Source, Workload, make_workload, sources_of
from weighbridge.replay.trace import TracedRequest

SHARED = Path(os.environ.get("WEIGHBRIDGE_SHARED", Path(__file__).parents[4] / "shared"))
RATES = SHARED / "data" / "traces" / "servegen_m_small_rates"


def trace(count: int, *, gap_s: float = 1.0, input_tokens: int = 500, output_tokens: int = 50) -> list[TracedRequest]:
    return [
        TracedRequest(at_s=gap_s * index, input_tokens=input_tokens, output_tokens=output_tokens)
        for index in range(count)
    ]


def workload(sources: Sequence[Source], *, rate_per_s: float = 2.0, seed: int = 0, context: int = 10_000) -> Workload:
    return make_workload(
        sources,
        price(),
        rate_per_s=rate_per_s,
        length_s=1000.0,
        shape=FLAT,
        ttft_slo_s=2.0,
        max_context_tokens=context,
        rng=random.Random(seed),
    )


def test_a_short_trace_is_repeated_at_the_rate_asked_for() -> None:
    made = workload([Source(requests=trace(30), share=1.0)])
    gaps = [later.at_s - earlier.at_s for earlier, later in pairwise(made.arrivals)]
    assert len(made.arrivals) == pytest.approx(2000, abs=2)
    assert max(gaps) == pytest.approx(0.5)
    assert min(gaps) == pytest.approx(0.5)


def test_traces_mix_by_their_shares_and_keep_the_order_of_time() -> None:
    sources = sources_of([trace(100), trace(100, gap_s=9.0, input_tokens=6000)], "7:3")
    made = workload(sources)
    long = [arrival for arrival in made.arrivals if arrival.weight.input_tokens == 6000]
    assert len(made.arrivals) == pytest.approx(2000, abs=4)
    assert len(long) / len(made.arrivals) == pytest.approx(0.3, abs=0.01)
    assert all(earlier.at_s <= later.at_s for earlier, later in pairwise(made.arrivals))


def test_without_shares_traces_keep_their_own_rates() -> None:
    shares = [source.share for source in sources_of([trace(101, gap_s=1.0), trace(101, gap_s=4.0)])]
    assert shares == pytest.approx([0.8, 0.2])


@pytest.mark.parametrize("shares", ["7", "7:3:1", "7:0", "7:-3", "a:b", "", "7:nan", "7:inf"])
def test_shares_that_cannot_be_used_are_refused(shares: str) -> None:
    with pytest.raises(ValueError, match=f"^--shares {shares}: must be 2 numbers above 0"):
        sources_of([trace(5), trace(5)], shares)


def test_a_seed_turns_the_trace_and_the_same_seed_gives_the_same() -> None:
    rows = [TracedRequest(at_s=float(index), input_tokens=100 + index, output_tokens=9) for index in range(50)]
    first, again, other = (workload([Source(requests=rows, share=1.0)], seed=seed) for seed in (1, 1, 2))
    assert first.arrivals == again.arrivals
    assert first.arrivals[0].weight.input_tokens != other.arrivals[0].weight.input_tokens


def test_requests_that_no_replica_holds_are_left_out_and_counted() -> None:
    sources = [Source(requests=[*trace(9), *trace(1, input_tokens=20_000)], share=1.0)]
    made = workload(sources)
    assert made.left_out == 1
    assert {arrival.weight.input_tokens for arrival in made.arrivals} == {500}
    with pytest.raises(ValueError, match="no request of a trace fits 100 tokens"):
        workload(sources, context=100)


def test_offered_work_is_that_of_the_outputs_there_were() -> None:
    made = workload([Source(requests=trace(30), share=1.0)])
    used = price().used(input_tokens=500, output_tokens=50)
    assert made.offered_erlangs == pytest.approx(2.0 * used.gpu_s, rel=0.01)


def test_a_long_prompt_is_granted_its_own_prefill() -> None:
    made = workload([Source(requests=trace(30, input_tokens=8000), share=1.0)])
    arrival = made.arrivals[0]
    assert arrival.ttft_limit_s == pytest.approx(2.0 + 1.5 * arrival.weight.prefill_s)
    assert workload([Source(requests=trace(30), share=1.0)]).arrivals[0].ttft_limit_s == 2.0


def test_a_weight_does_not_know_its_own_output() -> None:
    """Two traces that differ in one output have the same weights until that output has ended."""
    rows = trace(4000, gap_s=0.1)
    surprise = TracedRequest(at_s=rows[2500].at_s, input_tokens=500, output_tokens=4000)
    other = [*rows[:2500], surprise, *rows[2501:]]
    made = [workload([Source(requests=some, share=1.0)], rate_per_s=3.9) for some in (rows, other)]
    outputs = [[arrival.output_tokens for arrival in one.arrivals] for one in made]
    at = next(index for index, (a, b) in enumerate(zip(*outputs, strict=True)) if a != b)
    for index in range(at + 1):
        assert made[0].arrivals[index].weight == made[1].arrivals[index].weight


@given(st.lists(st.floats(0.1, 5), min_size=1, max_size=30), st.floats(10, 1e5), st.data())
def test_a_warp_keeps_order_and_length(shape: list[float], length_s: float, data: st.DataObject) -> None:
    warp = Warp(tuple(shape), length_s)
    parts = sorted(data.draw(st.lists(st.floats(0, 1), min_size=2, max_size=20)))
    times = [warp.at_s(part * length_s) for part in parts]
    assert all(earlier <= later + 1e-9 * length_s for earlier, later in pairwise(times))
    assert warp.at_s(0.0) == 0.0
    assert warp.at_s(length_s) == pytest.approx(length_s)


def test_a_warp_gives_each_hour_its_part_of_the_requests() -> None:
    warp = Warp((1.0, 1.0, 3.0, 1.0), 4000.0)
    times = [warp.at_s(index) for index in range(4000)]
    assert sum(2000 <= at_s < 3000 for at_s in times) / 4000 == pytest.approx(2 / 6, abs=0.01)


def test_the_day_is_the_second_of_servegen() -> None:
    if not RATES.is_dir():
        pytest.skip("no ServeGen rates here")
    sums = [0.0] * 144
    for path in RATES.glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as lines:
            for row in csv.reader(lines):
                window = int(float(row[0])) // 600 - 144
                if 0 <= window < 144:
                    sums[window] += float(row[1])
    mean = sum(sums) / 144
    assert [round(value / mean, 3) for value in sums] == list(DAY)
