"""A pool over minutes of virtual time."""

from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

from autoscaler.law import StepName
from autoscaler.schedule import Schedule
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


def test_a_schedule_has_the_replicas_there_when_the_morning_comes_and_lets_them_go_afterwards() -> None:
    office = Schedule(cron="0 8 * * mon-fri", timezone="Europe/Berlin", duration_s=3600, min_replicas=4)
    half_past_seven_s = datetime(2026, 11, 24, 7, 30, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
    pool = Timeline(settings(schedules=(office,)), desired=1, cold_start_s=180, start_s=half_past_seven_s)
    night = pool.run(1795, Demand(load=0.2, in_flight=1))
    assert set(night) == {1}
    assert pool.run(5, Demand(load=0.2, in_flight=1)) == [4]
    assert pool.last.headline == "schedule: at least 4 from '0 8 * * mon-fri' (Europe/Berlin) for 60 min"
    ramp = pool.run(1800, lambda at_s: Demand(load=min(6.0, (at_s - 1800) / 200), in_flight=1))
    assert (min(ramp), ramp[-1]) == (4, 8)  # 6 / 0.9 + 0.25 x 2.45 = 7.28
    evening = pool.run(2400, Demand(load=0.2, in_flight=1))
    assert set(evening[300:355]) == {4}
    assert evening[-1] == 1


def test_a_ceiling_empties_a_pool_one_by_one_while_there_is_work() -> None:
    night = Schedule(cron="0 * * * *", duration_s=1800, max_replicas=2)
    pool = Timeline(settings(schedules=(night,)), desired=1, start_s=3600 * 10 + 1800)
    day = pool.run(1795, Demand(load=4.0, in_flight=1))
    assert day[-1] == 5
    desired = pool.run(120, Demand(load=4.0, in_flight=1))
    assert desired[-1] == 2
    assert [after - before for before, after in pairwise([5, *desired]) if after != before] == [-1, -1, -1]


def test_a_human_who_scales_by_hand_is_left_alone_for_ten_minutes() -> None:
    pool = Timeline(settings(), desired=1)
    pool.run(600, Demand(load=2.0, in_flight=1))
    assert pool.desired == 3
    pool.set_by_hand(6)
    held = pool.run(5, Demand(load=2.0, in_flight=1))
    first = pool.last.headline
    held += pool.run(590, Demand(load=2.0, in_flight=1))
    assert set(held) == {6}
    assert pool.last.headline == first == "kubectl set 6 at 1970-01-01 00:26:40 UTC, kept for 600 s"
    after = pool.run(120, Demand(load=2.0, in_flight=1))
    assert after[-1] == 3


def test_a_human_who_scales_down_during_a_burst_is_left_alone_too() -> None:
    pool = Timeline(settings(), desired=4)
    pool.run(60, Demand(load=3.0, in_flight=1))
    pool.set_by_hand(1)
    assert set(pool.run(300, Demand(load=3.0, waiting=50, waiting_prefill_s=100.0))) == {1}
    assert pool.last.recommended > 4


def test_a_pause_keeps_what_there_is_and_its_end_goes_on_without_a_second_warmup() -> None:
    pool = Timeline(settings(), desired=5)
    pool.run(600, Demand(load=4.0, in_flight=1))
    pool.paused = "upgrade of the cluster"
    assert set(pool.run(600, Demand(load=0.2, in_flight=1))) == {5}
    assert pool.last.headline == "paused: upgrade of the cluster"
    pool.paused = None
    assert pool.run(5, Demand(load=0.2, in_flight=1)) == [4]


def test_replicas_without_room_are_reported_and_never_ordered_again() -> None:
    pool = Timeline(settings(), desired=1)
    pool.room = 3
    desired = pool.run(900, lambda at_s: Demand(load=2.0 if at_s < 60 else 8.0, in_flight=1, waiting=20))
    assert max(desired) == 4
    assert pool.ready == 3
    assert pool.last.headline == "1 of 4 cannot be scheduled: no more are ordered"
    pool.room = None
    pool.run(30, Demand(load=8.0, in_flight=1))
    assert pool.desired == 10


def test_while_replicas_have_no_room_load_that_goes_away_still_takes_them_away() -> None:
    pool = Timeline(settings(), desired=4)
    pool.room = 3
    assert pool.run(600, Demand(load=0.2, in_flight=1))[-1] == 1


def test_a_cold_start_of_three_minutes_orders_each_replica_once() -> None:
    pool = Timeline(settings(), desired=1, cold_start_s=180)
    pool.run(300, Demand(load=0.5, in_flight=1))
    waiting = Demand(load=3.0, in_flight=4, waiting=30, waiting_prefill_s=40.0)
    desired = pool.run(175, waiting)
    ordered = [after - before for before, after in pairwise([1, *desired]) if after > before]
    assert desired == sorted(desired)
    assert sum(ordered) == pool.last.recommended - 1 == pool.desired - 1
    assert pool.ready == 1
    assert pool.run(180, waiting)[-1] == pool.desired == pool.ready


def test_with_a_trend_a_ramp_is_met_earlier_and_a_steady_load_gets_no_more() -> None:
    plain = Timeline(settings(max_replicas=30), desired=1)
    ahead = Timeline(settings(max_replicas=30, trend_horizon_s=180.0), desired=1)
    for pool in (plain, ahead):
        pool.run(600, Demand(load=1.0, in_flight=1))
    assert plain.desired == ahead.desired
    ramps = [pool.run(600, lambda at_s: Demand(load=1 + (at_s - 600) / 60, in_flight=1)) for pool in (plain, ahead)]
    assert all(more >= fewer for fewer, more in zip(*ramps, strict=True))
    assert ramps[1].index(9) * 5 <= ramps[0].index(9) * 5 - 60
    for pool in (plain, ahead):
        pool.run(1200, Demand(load=11.0, in_flight=1))
    assert plain.desired == ahead.desired


def test_a_clock_that_jumps_forth_or_back_takes_nothing_away_for_a_warmup() -> None:
    for jump_s in (7200.0, -7200.0):
        pool = Timeline(settings(), desired=5, start_s=100_000.0)
        pool.run(600, Demand(load=4.0, in_flight=1))
        pool.jump(jump_s)
        assert set(pool.run(175, Demand(in_flight=1))) == {5}, jump_s
        assert pool.last.binding.name == StepName.WARMUP
        assert pool.run(600, Demand(in_flight=1))[-1] == 1
