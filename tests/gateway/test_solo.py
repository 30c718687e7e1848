"""What one of several workers sends while Redis is away: its share of the replicas and of the tenants' limits."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.solo import Solo
from tests.gateway.builders import RULE, ticket


def solo(workers: int = 1) -> Solo:
    one = Solo()
    one.share = 1.0 / workers
    return one


def test_alone_the_rule_is_that_of_the_pool() -> None:
    assert solo().rule(RULE, away=True) is RULE


def test_one_of_four_uses_a_quarter() -> None:
    rule = solo(4).rule(RULE, away=True)
    assert (rule.dispatch_prefill_s, rule.kv_capacity_tokens) == (0.0625, 25_000)
    assert rule.max_in_flight is None
    assert (rule.externality, rule.prefill_chunk_tokens) == (RULE.externality, RULE.prefill_chunk_tokens)


@pytest.mark.parametrize(("slots", "share"), [(8, 2), (7, 1), (3, 1), (1, 1)])
def test_of_slots_one_of_four_uses_a_quarter_and_at_least_one(slots: int, share: int) -> None:
    assert solo(4).rule(replace(RULE, max_in_flight=slots), away=True).max_in_flight == share


@given(st.integers(1, 200_000))
def test_all_workers_together_use_no_more_than_there_is(workers: int) -> None:
    rule = solo(workers).rule(RULE, away=True)
    assert rule.kv_capacity_tokens >= 1
    assert rule.dispatch_prefill_s * workers == pytest.approx(RULE.dispatch_prefill_s)
    if workers <= RULE.kv_capacity_tokens:
        assert rule.kv_capacity_tokens * workers <= RULE.kv_capacity_tokens


def test_without_a_limit_everything_is_allowed() -> None:
    one, unlimited = solo(), ticket(gpu_s=1e6, prefill_s=1e6)
    one.sent(unlimited, 0.0)
    assert one.allows(unlimited, {"blue": 1e6}, 0.0)


@pytest.mark.parametrize(
    ("flying_gpu_s", "gpu_s", "allowed"),
    [
        pytest.param(0.0, 5.0, True, id="up to its share of the limit"),
        pytest.param(0.0, 50.0, True, id="above the limit, alone"),
        pytest.param(2.0, 3.0, True, id="together just at it"),
        pytest.param(2.0, 3.1, False, id="together above it"),
    ],
)
def test_a_share_of_the_work_in_flight(flying_gpu_s: float, gpu_s: float, allowed: bool) -> None:
    limited = ticket(gpu_s=gpu_s, concurrent_gpu_s=10.0)
    assert solo(2).allows(limited, {"blue": flying_gpu_s, "red": 99.0}, 0.0) is allowed


def test_a_share_of_the_prefill_pace() -> None:
    one, paced = solo(2), ticket(prefill_s=1.5, prefill_pace=1.0)
    assert one.allows(paced, {}, 10.0)
    one.sent(paced, 10.0)
    # Half a second was saved, so a second is owed, which half a second per second pays in two.
    assert not one.allows(paced, {}, 11.9)
    assert one.allows(paced, {}, 12.0)
    assert one.allows(ticket(tenant="red", prefill_s=1.5, prefill_pace=1.0), {}, 10.0)


def test_no_more_than_one_second_is_saved() -> None:
    one, paced = solo(), ticket(prefill_s=3.0, prefill_pace=1.0)
    one.sent(paced, 0.0)
    one.sent(paced, 1000.0)
    assert not one.allows(paced, {}, 1001.9)
    assert one.allows(paced, {}, 1002.0)


@given(st.lists(st.tuples(st.floats(0.0, 2.0), st.floats(0.0, 1.0)), max_size=30), st.integers(1, 4))
def test_over_any_time_no_more_starts_than_the_pace_allows(steps: list[tuple[float, float]], workers: int) -> None:
    one, now_s, started_s, last_s = solo(workers), 0.0, 0.0, 0.0
    for pause_s, prefill_s in steps:
        now_s += pause_s
        paced = ticket(prefill_s=prefill_s, prefill_pace=2.0)
        if one.allows(paced, {}, now_s):
            one.sent(paced, now_s)
            started_s, last_s = started_s + prefill_s, prefill_s
    assert started_s - last_s <= (now_s + 1.0) * 2.0 / workers + 1e-6
