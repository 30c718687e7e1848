"""A pool over minutes of virtual time."""

from itertools import pairwise

from autoscaler.law import StepName
from tests.autoscaler.builders import Demand, Timeline, settings


def test_a_ramp_up_is_followed_and_never_undone() -> None:
    pool = Timeline(settings(), desired=1)
    desired = pool.run(600, lambda at_s: Demand(load=at_s / 120, in_flight=1))
    assert desired == sorted(desired)
    assert desired[-1] >= 6


def test_a_steady_load_leads_to_a_steady_fleet() -> None:
    pool = Timeline(settings(), desired=1)
    desired = pool.run(1200, Demand(load=3.0, in_flight=5))
    assert set(desired[12:]) == {4}  # 3 / 0.9 + 0.25 x 1.73 = 3.77


def test_a_burst_of_waiting_work_is_answered_at_once() -> None:
    pool = Timeline(settings(), desired=1)
    pool.run(300, Demand(load=0.5, in_flight=1))
    assert pool.run(5, Demand(load=0.5, waiting=50, waiting_prefill_s=80.0)) == [5]


def test_after_a_burst_replicas_leave_one_by_one_when_the_window_has_passed() -> None:
    pool = Timeline(settings(), desired=1)
    pool.run(300, Demand(load=0.5, in_flight=1))
    pool.run(5, Demand(load=0.5, waiting=50, waiting_prefill_s=80.0))
    desired = pool.run(300, Demand(load=0.5, in_flight=1))
    assert set(desired[:23]) == {5}
    assert desired[-1] == 1
    steps = [after - before for before, after in pairwise(desired)]
    assert min(steps) == -1
    downs = [index for index, step in enumerate(steps) if step < 0]
    assert all((later - earlier) * 5 >= 15 for earlier, later in pairwise(downs))


def test_on_off_traffic_does_not_make_the_fleet_flap() -> None:
    pool = Timeline(settings(), desired=1)
    desired = pool.run(1800, lambda at_s: Demand(load=6.0 if at_s % 60 < 20 else 0.0, in_flight=1))
    settled = desired[60:]
    assert max(settled) - min(settled) <= 1


def test_an_idle_pool_goes_to_zero_after_its_cooldown_and_not_before() -> None:
    pool = Timeline(settings(min_replicas=0), desired=1)
    pool.run(300, Demand(load=0.3, in_flight=1))
    desired = pool.run(400, Demand())
    assert desired.index(0) * 5 >= 295
    assert desired[-1] == 0


def test_one_long_stream_keeps_the_last_replica() -> None:
    pool = Timeline(settings(min_replicas=0), desired=1)
    desired = pool.run(1200, Demand(in_flight=1))
    assert set(desired) == {1}
    assert pool.last.binding.name == StepName.COOLDOWN


def test_a_pool_at_zero_wakes_for_the_first_request_and_serves_the_rest_by_the_law() -> None:
    pool = Timeline(settings(min_replicas=0))
    assert set(pool.run(300, Demand())) == {0}
    assert pool.run(5, Demand(waiting=1)) == [1]
    assert pool.run(5, Demand(load=2.0, waiting=40, waiting_prefill_s=60.0))[0] >= 3


def test_pending_replicas_count_so_a_slow_cold_start_buys_no_more() -> None:
    slow = Timeline(settings(), desired=1, cold_start_s=300)
    desired = slow.run(290, Demand(load=2.0, waiting_prefill_s=30.0, waiting=20))
    assert slow.ready == 1
    assert max(desired) == 5  # 2.22 + 0.35 + (30 - 0.3) / 20


def test_an_outage_holds_then_falls_back_then_resumes() -> None:
    pool = Timeline(settings(fallback_replicas=6), desired=1)
    pool.run(600, Demand(load=2.0, in_flight=1))
    assert set(pool.run_outage(110)) == {3}
    assert pool.last.headline.startswith("hold: Redis is away")
    assert pool.run_outage(15)[-1] == 6
    assert pool.last.headline.startswith("fallback to at least 6")
    after = pool.run(600, Demand(load=2.0, in_flight=1))
    assert set(after[:30]) == {6}
    assert after[-1] == 3


def test_nothing_is_taken_away_in_the_first_three_minutes() -> None:
    pool = Timeline(settings(), desired=8)
    assert set(pool.run(175, Demand())) == {8}
    assert pool.last.binding.name == StepName.WARMUP
    assert pool.run(300, Demand())[-1] == 1


def test_slo_misses_buy_replicas_slowly_and_their_absence_gives_them_back() -> None:
    pool = Timeline(settings(max_replicas=20), desired=1)
    pool.run(300, Demand(load=4.0, in_flight=1))
    before = pool.desired
    pool.run(900, Demand(load=4.0, in_flight=1, miss_ratio=0.05))
    assert pool.desired > before
    pool.run(7200, Demand(load=4.0, in_flight=1))
    assert pool.desired == before


def test_advice_builds_on_earlier_advice() -> None:
    pool = Timeline(settings(advisory=True), desired=4)
    desired = pool.run(600, Demand(load=0.5, in_flight=1))
    assert desired[-1] == 1
    assert pool.last.steps[-1].name == StepName.ADVISORY
