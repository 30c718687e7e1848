"""A pool on virtual time: nothing is lost or cut, replicas cost what they run, and the real law decides."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.observation import Known, observe
from autoscaler.offered import History, advance
from tests.weighbridge.backtest.scenes import arrival, model, scaling, steady, steps
from weighbridge.backtest.law import WeighbridgeRule
from weighbridge.backtest.pool import Arrival, SimulatedPool, Trip
from weighbridge.backtest.rule import HpaRule, KedaRule, StaticRule, concurrency
from weighbridge.backtest.run import Result, simulate


@dataclass
class Orders:
    """A rule that says what it was told to, and remembers what it saw."""

    plan: Sequence[tuple[float, int]]
    every_s: float = 5.0
    wake_s: float = inf
    seen: list[tuple[float, int, int, int]] = field(default_factory=list)
    """Time; ready, pending and draining replicas."""

    def desired(self, pool: SimulatedPool, now_s: float) -> int:
        fleet = pool.fleet()
        self.seen.append((now_s, fleet.ready, fleet.pending, fleet.draining))
        return [replicas for at_s, replicas in self.plan if at_s <= now_s][-1]


def run(arrivals: Sequence[Arrival], rule: object, *, start: int, cold_start_s: float = 60.0) -> Result:
    return simulate(
        arrivals,
        model(cold_start_s=cold_start_s),
        rule,  # type: ignore[arg-type]
        start_replicas=start,
        judged_tpot_s=inf,
    )


def prefill_s(tokens: int) -> float:
    return steps().time_s(
        prefill_tokens=tokens, prefill_pairs=0.5 * tokens * (tokens + 1), decode_sequences=0, decode_kv_tokens=0
    )


def test_one_request_takes_its_prefill_and_its_decode_steps() -> None:
    result = run([arrival(10.0, input_tokens=1000, output_tokens=1)], StaticRule(1), start=1)
    assert result.ttft_p50_s == pytest.approx(prefill_s(1000))
    assert result.replica_hours * 3600 == pytest.approx(10.0 + prefill_s(1000))
    assert (result.requests, result.dropped, result.changes) == (1, 0, 0)


def test_work_is_spread_over_replicas() -> None:
    arrivals = steady(per_s=8.0, begin_s=0.0, end_s=60.0)
    one, four = (run(arrivals, StaticRule(count), start=count) for count in (1, 4))
    assert one.ttft_p99_s > 5 * four.ttft_p99_s
    assert four.ttft_ratio == 1.0


def test_replicas_are_paid_from_their_order_to_their_end() -> None:
    """One runs for 100 s; another is ordered at 20 s and cancelled at 40 s, before it is ready."""
    rule = Orders(plan=[(0.0, 1), (20.0, 2), (40.0, 1)])
    result = run([arrival(0.0), arrival(100.0, output_tokens=1)], rule, start=1)
    assert result.replica_hours * 3600 == pytest.approx(100.0 + 20.0, abs=0.2)
    assert (result.changes, result.most_replicas) == (2, 2)


def test_a_replica_serves_after_its_cold_start() -> None:
    rule = Orders(plan=[(0.0, 1), (20.0, 3)])
    run(steady(per_s=1.0, begin_s=0.0, end_s=100.0), rule, start=1)
    states = {now_s: rest for now_s, *rest in rule.seen}
    assert states[20.0] == [1, 0, 0]
    assert states[75.0] == [1, 2, 0]
    assert states[85.0] == [3, 0, 0]


def test_scaling_down_cuts_no_request() -> None:
    """8 replicas under load become 1: those that have work drain."""
    rule = Orders(plan=[(0.0, 8), (30.0, 1)])
    result = run(steady(per_s=10.0, begin_s=0.0, end_s=35.0, output_tokens=600), rule, start=8)
    assert result.dropped == 0
    draining = {now_s: count for now_s, _, _, count in rule.seen}
    assert draining[35.0] == 7
    assert draining[max(draining)] < 7


def test_a_draining_replica_serves_again_before_a_new_one_starts() -> None:
    rule = Orders(plan=[(0.0, 2), (10.0, 1), (15.0, 2)])
    result = run([*(arrival(9.0, output_tokens=1500) for _ in range(4)), arrival(40.0)], rule, start=2)
    states = {now_s: rest for now_s, *rest in rule.seen}
    assert states[15.0] == [1, 0, 1]
    assert states[20.0] == [2, 0, 0]
    assert result.most_replicas == 2


def test_from_zero_requests_are_held_and_wait_for_the_cold_start_alone() -> None:
    burst = [arrival(100.1, input_tokens=400, output_tokens=20) for _ in range(20)]
    result = run(burst, WeighbridgeRule(scaling(min_replicas=0)), start=0)
    # 0.15 s to the next look of the autoscaler; the gateway sends 0.25 s of prefill at once.
    assert result.dropped == 0
    assert 60.1 < result.ttft_p50_s < 60.2 + 20 * prefill_s(400)
    assert result.ttft_p99_s < 60.2 + 25 * prefill_s(400)


def test_what_nobody_will_serve_ends_the_run_with_an_error() -> None:
    with pytest.raises(ValueError, match="2 requests wait for replicas that nobody will start"):
        run([arrival(1.0), arrival(2.0)], StaticRule(0), start=0)


def test_the_law_follows_the_load_up_and_down() -> None:
    low, high = (steady(per_s=rate, begin_s=begin, end_s=end) for rate, begin, end in ((2, 0, 300), (12, 300, 900)))
    arrivals = [*low, *high, *steady(per_s=2, begin_s=900, end_s=1800)]
    result = run(arrivals, WeighbridgeRule(scaling(max_replicas=12)), start=2)
    assert result.dropped == 0
    assert 4 <= result.most_replicas <= 12
    assert result.replica_hours < 0.5 * result.most_replicas * 0.75
    assert result.ttft_ratio > 0.8


def test_what_the_law_observes_is_what_happens() -> None:
    """Offered load, misses and work in flight, as `autoscaler.observation` has them from the pool's report."""
    ended: list[Trip] = []
    pool = SimulatedPool(model(), ended.append)
    pool.start(1)
    history = advance(History(), pool.view(0.0), keep_s=120.0, now_s=0.0)
    weights = [arrival(0.0, ttft_limit_s=limit_s).weight for limit_s in (9.0, 0.0)]
    for weight, limit_s in zip(weights, (9.0, 0.0), strict=True):
        pool.arrive(Trip(1000, 200, 1.0, weight=weight, ttft_limit_s=limit_s), 1.0)
    while len(ended) < 2:
        pool.advance(0, pool.ends_at_s[0])
    pool.arrive(Trip(1000, 200, 39.0, weight=weights[0], ttft_limit_s=9.0), 39.0)
    view = pool.view(40.0)
    history = advance(history, view, keep_s=120.0, now_s=40.0)
    seen = observe(view, history, pool.fleet(), scaling(), known_age_s=0.0, now_s=40.0)
    assert isinstance(seen.offered_load, Known)
    assert isinstance(seen.misses, Known)
    assert isinstance(seen.work, Known)
    assert seen.offered_load.value == pytest.approx(3 * weights[0].gpu_s / 40.0)
    assert seen.misses.value.ttft_ratio == 0.5
    assert (seen.work.value.in_flight, seen.work.value.waiting) == (1, 0)
    assert seen.work.value.backlog_s == pytest.approx(weights[0].prefill_s)


def test_the_same_workload_has_the_same_result() -> None:
    rng = random.Random(3)
    arrivals = sorted(arrival(rng.uniform(0, 200), output_tokens=rng.randrange(1, 300)) for _ in range(600))
    first, again = (run(arrivals, WeighbridgeRule(scaling()), start=1) for _ in range(2))
    assert first == again


RULES = {
    "weighbridge": lambda: WeighbridgeRule(scaling(max_replicas=4)),
    "hpa": lambda: HpaRule(metric=concurrency, target=8, min_replicas=1, max_replicas=4),
    "keda": lambda: KedaRule(target=2, min_replicas=0, max_replicas=4),
    "random": lambda: Orders(plan=[(5.0 * tick, (tick * 7919) % 4 + 1) for tick in range(200)]),
}


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 120), st.sampled_from((50, 1000, 9000)), st.integers(1, 400)), min_size=1, max_size=60
    )
)
def test_no_request_is_lost_in_any_history(name: str, drawn: list[tuple[float, int, int]]) -> None:
    arrivals = sorted(arrival(at_s, input_tokens=new, output_tokens=out) for at_s, new, out in drawn)
    result = run(arrivals, RULES[name](), start=1, cold_start_s=10.0)
    assert (result.requests, result.dropped) == (len(drawn), 0)
    assert result.most_replicas <= 8
    assert 0 < result.ttft_p50_s <= result.ttft_p95_s <= result.ttft_p99_s < inf
    assert 0.0 <= result.busy_ratio <= 1.0 + 1e-9


def test_a_tpot_limit_counts_in_both_and_not_in_ttft() -> None:
    arrivals = steady(per_s=4.0, begin_s=0.0, end_s=30.0)
    strict = simulate(
        arrivals, replace(model(), tpot_limit_s=0.02), StaticRule(2), start_replicas=2, judged_tpot_s=0.02
    )
    assert strict.ttft_ratio == 1.0
    assert strict.both_ratio == 0.0
