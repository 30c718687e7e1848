"""One decision at a time: for each step, a case in which it is the binding one."""

from dataclasses import replace

import pytest

from autoscaler.calibrator import Calibration
from autoscaler.decide import Decision, DecisionState, Mark, decide, record_from_decision
from autoscaler.law import StepName
from autoscaler.observation import Observation, Override
from autoscaler.schedule import Schedule
from autoscaler.settings import AutoscalerSettings
from tests.autoscaler.builders import START_S, observation, settings

NOW_S = START_S + 1000
FIXED = Calibration(utilization=0.9)


def warm(*, window: int = 0, **changes: float | tuple[Mark, ...] | None) -> DecisionState:
    """The state after long uninterrupted data, in which the highest recent recommendation was `window`."""
    values = {
        "data_since_s": START_S,
        "last_known_at_s": NOW_S - 5,
        "last_active_at_s": NOW_S - 5,
        "recommendations": (Mark(at_s=NOW_S - 60, replicas=window),),
    }
    return DecisionState(**(values | changes))  # type: ignore[arg-type]


def hours(least: int | None = None, most: int | None = None) -> Schedule:
    """A schedule that is active at `NOW_S`."""
    return Schedule(cron=ALWAYS, duration_s=60, min_replicas=least, max_replicas=most)


def once(seen: Observation, state: DecisionState | None = None, scaling: AutoscalerSettings | None = None) -> Decision:
    return decide(seen, state or warm(), scaling or settings(), calibration=FIXED, now_s=NOW_S)[0]


ALWAYS = "* * * * *"
BY_HAND = Override(by="kubectl", replicas=6, at_s=NOW_S - 60)

CASES = [
    # name, binding step, desired, observation, state, settings
    ("steady", StepName.LAW, 3, observation(3, load=2.0), warm(), settings()),
    ("more load", StepName.LAW, 5, observation(3, load=4.0), warm(), settings()),
    (
        "growing load",
        StepName.TREND,
        4,
        observation(3, load=2.0, earlier_load=0.5),
        warm(),
        settings(trend_horizon_s=180.0),
    ),
    ("paused", StepName.PAUSED, 3, observation(3, load=7.0, paused="maintenance"), warm(), settings()),
    ("paused below min", StepName.PAUSED, 0, observation(0, waiting=3, paused="maintenance"), warm(), settings()),
    ("paused, no news", StepName.PAUSED, 0, observation(0, unknown_for_s=500.0, paused="x"), warm(), settings()),
    ("set by hand", StepName.OVERRIDE, 6, observation(6, load=1.0, override=BY_HAND), warm(), settings()),
    ("set, no news", StepName.OVERRIDE, 6, observation(6, unknown_for_s=500.0, override=BY_HAND), warm(), settings()),
    ("set above max", StepName.BOUNDS, 4, observation(6, override=BY_HAND), warm(), settings(max_replicas=4)),
    ("set long ago", StepName.LAW, 7, observation(6, load=5.5, override=BY_HAND), warm(), settings(override_s=60)),
    ("set, ignored", StepName.LAW, 7, observation(6, load=5.5, override=BY_HAND), warm(), settings(override_s=0)),
    ("opening hours", StepName.SCHEDULE, 5, observation(2), warm(window=2), settings(schedules=(hours(least=5),))),
    ("closing hours", StepName.SCHEDULE, 4, observation(5, load=4.0), warm(), settings(schedules=(hours(most=2),))),
    ("no more at night", StepName.SCHEDULE, 3, observation(2, load=4.0), warm(), settings(schedules=(hours(most=3),))),
    (
        "at most in the morning",
        StepName.SCHEDULE,
        5,
        observation(3, load=7.0),
        warm(),
        settings(schedules=(hours(least=2, most=5),)),
    ),
    ("no room", StepName.UNSCHEDULABLE, 3, observation(3, load=6.0, unschedulable=1), warm(), settings()),
    ("no room, no need", StepName.DOWN_RATE, 4, observation(5, unschedulable=1), warm(), settings()),
    ("no room for min", StepName.BOUNDS, 4, observation(3, unschedulable=1), warm(), settings(min_replicas=4)),
    ("long prompts", StepName.KV_NEED, 4, observation(2, load=1.0, kv_tokens=300_000), warm(), settings()),
    ("first request", StepName.ACTIVATION, 1, observation(0, waiting=1), warm(), settings(min_replicas=0)),
    ("no news", StepName.UNKNOWN, 4, observation(4, unknown_for_s=119.0), warm(), settings()),
    (
        "no news for long",
        StepName.UNKNOWN,
        3,
        observation(1, unknown_for_s=120.0),
        warm(),
        settings(fallback_replicas=3),
    ),
    ("small change", StepName.TOLERANCE, 40, observation(40, load=36.0), warm(), settings(max_replicas=99)),
    ("just started", StepName.WARMUP, 3, observation(3), warm(data_since_s=NOW_S - 179), settings()),
    ("load unknown", StepName.WARMUP, 3, observation(3, load=None), warm(), settings()),
    ("stale worker", StepName.WARMUP, 3, observation(3, partial=True), warm(), settings()),
    ("recent peak", StepName.WINDOW, 3, observation(3), warm(window=3), settings()),
    ("one at a time", StepName.DOWN_RATE, 4, observation(5), warm(), settings()),
    ("just went down", StepName.DOWN_RATE, 5, observation(5), warm(last_down_at_s=NOW_S - 14), settings()),
    ("rate limit", StepName.UP_RATE, 4, observation(2, load=7.0), warm(), settings(up_max=2)),
    ("recently active", StepName.COOLDOWN, 1, observation(1), warm(), settings(min_replicas=0)),
    (
        "long stream",
        StepName.COOLDOWN,
        1,
        observation(1, in_flight=1),
        warm(last_active_at_s=0),
        settings(min_replicas=0),
    ),
    (
        "idle for long",
        StepName.LAW,
        0,
        observation(1),
        warm(last_active_at_s=NOW_S - 300),
        settings(min_replicas=0),
    ),
    ("too much", StepName.BOUNDS, 10, observation(3, load=50.0), warm(), settings()),
    ("too little", StepName.BOUNDS, 2, observation(2), warm(), settings(min_replicas=2)),
    ("only advice", StepName.LAW, 5, observation(3, load=4.0), warm(), settings(advisory=True)),
]


@pytest.mark.parametrize(
    ("binding", "desired", "seen", "state", "scaling"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_the_binding_step(
    binding: StepName, desired: int, seen: Observation, state: DecisionState, scaling: AutoscalerSettings
) -> None:
    decision = once(seen, state, scaling)
    assert (decision.binding.name, decision.desired) == (binding, desired)
    assert decision.headline == decision.binding.reason != ""


def test_every_step_that_can_bind_has_a_case() -> None:
    assert {case[1] for case in CASES} == set(StepName) - {StepName.ADVISORY, StepName.PLACEMENT}


@pytest.mark.parametrize(("seen", "scaling"), [(case[3], case[5]) for case in CASES])
def test_each_step_starts_where_the_one_before_ended(seen: Observation, scaling: AutoscalerSettings) -> None:
    steps = once(seen, warm(), scaling).steps
    assert steps[0].before == seen.fleet.desired
    assert [step.after for step in steps[:-1]] == [step.before for step in steps[1:]]
    assert all(step.reason for step in steps)


def test_all_steps_are_recorded_in_order() -> None:
    names = [step.name for step in once(observation(3), None, settings(advisory=True)).steps]
    instead = {StepName.UNKNOWN, StepName.PAUSED, StepName.OVERRIDE, StepName.PLACEMENT}
    assert names == [name for name in StepName if name not in instead]


def test_rate_limited_additions_within_the_period_add_up() -> None:
    state = warm(ups=(Mark(at_s=NOW_S - 30, replicas=1), Mark(at_s=NOW_S - 70, replicas=5)))
    assert once(observation(2, load=7.0), state, settings(up_max=2)).desired == 3


def test_the_rate_limit_never_keeps_a_pool_at_zero() -> None:
    state = warm(ups=(Mark(at_s=NOW_S - 30, replicas=2),))
    assert once(observation(0, load=7.0, waiting=3), state, settings(min_replicas=0, up_max=2)).desired == 1


def test_the_recommendation_is_what_was_wanted_before_constraints() -> None:
    decision = once(observation(5, load=2.0))
    assert (decision.recommended, decision.desired) == (3, 4)


def test_a_gap_in_the_data_starts_the_warmup_anew() -> None:
    assert once(observation(5), warm(last_known_at_s=NOW_S - 60)).binding.name == StepName.WARMUP


@pytest.mark.parametrize(
    ("seen", "scaling", "reason"),
    [
        (observation(3, paused="load test by ana"), settings(), "paused: load test by ana"),
        (observation(6, override=BY_HAND), settings(), "kubectl set 6 at 1970-01-01 00:32:20 UTC, kept for 600 s"),
        (observation(3, load=9.0, unschedulable=2), settings(), "2 of 3 cannot be scheduled: no more are ordered"),
        (
            observation(1),
            settings(schedules=(hours(least=4),)),
            "schedule: at least 4 from '* * * * *' (UTC) for 1 min",
        ),
    ],
    ids=["paused", "override", "unschedulable", "schedule"],
)
def test_the_headline_says_who_or_what_decided(seen: Observation, scaling: AutoscalerSettings, reason: str) -> None:
    assert once(seen, None, scaling).headline == reason


def test_while_paused_the_recommendation_is_still_shown() -> None:
    assert once(observation(1, load=4.0, paused="maintenance")).recommended == 5


def test_growth_below_the_gate_is_no_trend() -> None:
    scaling = settings(trend_horizon_s=600.0)
    assert once(observation(3, load=2.2, earlier_load=2.0), None, scaling).desired == 3
    assert once(observation(3, load=2.4, earlier_load=2.0), None, scaling).desired > 3


def test_shrinking_load_is_no_trend() -> None:
    decision = once(observation(3, load=2.0, earlier_load=8.0), None, settings(trend_horizon_s=600.0))
    assert (decision.recommended, decision.binding.name) == (3, StepName.LAW)


def test_a_trend_without_a_known_load_changes_nothing_and_says_why() -> None:
    step = once(observation(3, load=2.0), None, settings(trend_horizon_s=60.0)).steps[1]
    assert (step.before, step.after, step.reason) == (3, 3, "no trend is asked for")
    step = once(observation(3, load=None, earlier_load=1.0), None, settings(trend_horizon_s=60.0)).steps[1]
    assert step.reason == "offered load unknown: no news"


def test_a_ceiling_takes_replicas_away_no_faster_than_load_does() -> None:
    closed = settings(schedules=(hours(most=2),))
    assert once(observation(5, load=4.0), warm(last_down_at_s=NOW_S - 14), closed).desired == 5
    assert once(observation(5, load=4.0), warm(last_down_at_s=NOW_S - 15), closed).desired == 4


@pytest.mark.parametrize(
    ("seen", "state", "cause"),
    [
        (observation(5), warm(data_since_s=NOW_S - 10), "10 s of data, 180 needed"),
        (observation(5, partial=True), warm(), "some worker's report is stale"),
        (observation(5, load=None), warm(), "offered load unknown: no news"),
        (observation(5, unknown_for_s=5.0), warm(), "no news"),
    ],
    ids=["young", "partial", "no load", "none"],
)
def test_a_ceiling_takes_nothing_away_while_there_is_a_doubt(
    seen: Observation, state: DecisionState, cause: str
) -> None:
    decision = once(seen, state, settings(schedules=(hours(most=2),)))
    schedule = next(step for step in decision.steps if step.name == StepName.SCHEDULE)
    assert decision.desired == 5
    assert schedule.reason.endswith(f"but no scaling down: {cause}")


def test_without_data_a_ceiling_takes_nothing_away_and_a_floor_holds() -> None:
    assert once(observation(5, unknown_for_s=5.0), None, settings(schedules=(hours(most=2),))).desired == 5
    assert once(observation(5, unknown_for_s=5.0), None, settings(schedules=(hours(least=8),))).desired == 8


def test_an_override_by_a_clock_far_away_is_over() -> None:
    ahead = Override(by="kubectl", replicas=6, at_s=NOW_S + 601)
    assert once(observation(6, load=5.5, override=ahead)).desired == 7
    slightly = Override(by="kubectl", replicas=6, at_s=NOW_S + 1)
    assert once(observation(6, load=5.5, override=slightly)).desired == 6


def test_the_first_replica_is_ordered_even_where_others_have_no_room() -> None:
    assert once(observation(0, waiting=1, unschedulable=1), None, settings(min_replicas=0)).desired == 1


def test_where_another_object_may_grow_more_is_ordered_although_some_has_no_room() -> None:
    seen = observation(3, load=6.0, unschedulable=1)
    elsewhere = replace(seen, fleet=replace(seen.fleet, room_elsewhere=True))

    assert once(elsewhere).desired > once(seen).desired == 3


def test_bounds_hold_without_data_too() -> None:
    assert once(observation(0, unknown_for_s=1.0)).desired == 1
    assert once(observation(12, unknown_for_s=1.0)).desired == 10


def test_the_published_record_says_unknown_where_nothing_is_known() -> None:
    seen = observation(2, unknown_for_s=3.0, load=None)
    published = record_from_decision(once(seen), seen, settings(cold_start_s=None), cold_start_s=None, now_s=NOW_S)
    assert (published.offered_load, published.backlog_gpu_s, published.cold_start_s) == (None, None, None)


def test_the_published_record_carries_the_observation_and_the_mode() -> None:
    seen = observation(2, load=1.5, waiting=3, waiting_gpu_s=4.5)
    applied = record_from_decision(once(seen), seen, settings(), cold_start_s=12.0, now_s=NOW_S)
    advised = record_from_decision(once(seen), seen, settings(advisory=True), cold_start_s=None, now_s=NOW_S)
    assert (applied.mode, applied.offered_load, applied.backlog_gpu_s, applied.cold_start_s) == (
        "apply",
        1.5,
        4.5,
        12.0,
    )
    assert (advised.mode, advised.cold_start_s) == ("advisory", 60.0)
