"""What holds for any sequence of observations."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import assume, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from autoscaler.calibrator import Calibration
from autoscaler.decide import Decision, DecisionState, Mark, decide
from autoscaler.observation import Observation, Override, Unknown
from autoscaler.schedule import Schedule
from autoscaler.settings import AutoscalerSettings
from tests.autoscaler.builders import START_S, Demand, Timeline, observation, settings


def within(schedule: Schedule, low: int, high: int) -> Schedule:
    """The schedule with its bounds moved into those of a pool."""
    floor = None if schedule.min_replicas is None else max(low, min(high, schedule.min_replicas))
    ceiling = None if schedule.max_replicas is None else max(low, min(high, schedule.max_replicas))
    return replace(schedule, min_replicas=floor, max_replicas=ceiling)


HOURS = st.builds(
    lambda cron, floor, more, which: Schedule(
        cron=cron,
        duration_s=300,
        min_replicas=floor if which != "ceiling" else None,
        max_replicas=floor + more if which != "floor" else None,
    ),
    st.sampled_from(["* * * * *", "*/10 * * * *", "20 * * * *"]),
    st.integers(0, 60),
    st.integers(0, 10),
    st.sampled_from(["floor", "ceiling", "both"]),
)
SETTINGS = st.builds(
    lambda low, spread, tolerance, up_max, fallback, window_s, warmup_s, trend_horizon_s, hours: settings(
        min_replicas=low,
        max_replicas=max(1, low + spread),
        fallback_replicas=min(fallback, max(1, low + spread)),
        tolerance=tolerance,
        up_max=up_max,
        window_s=window_s,
        warmup_s=warmup_s,
        trend_horizon_s=trend_horizon_s,
        schedules=tuple(within(schedule, low, max(1, low + spread)) for schedule in hours),
    ),
    st.integers(0, 5),
    st.integers(0, 50),
    st.floats(0, 0.5),
    st.none() | st.integers(1, 5),
    st.integers(0, 5),
    st.floats(0, 300),
    st.floats(0, 300),
    st.none() | st.floats(1, 600),
    st.lists(HOURS, max_size=3),
)
SEEN = st.builds(
    lambda load, waiting, backlog_s, kv_tokens, in_flight, partial, unknown_for_s, unschedulable, earlier: observation(
        load=load,
        waiting=waiting,
        backlog_s=backlog_s,
        kv_tokens=kv_tokens,
        in_flight=in_flight,
        partial=partial,
        unknown_for_s=unknown_for_s,
        unschedulable=unschedulable,
        earlier_load=earlier,
    ),
    st.none() | st.floats(0, 60),
    st.integers(0, 100),
    st.floats(0, 500),
    st.integers(0, 2_000_000),
    st.integers(0, 100),
    st.booleans(),
    st.none() | st.floats(0, 500),
    st.integers(0, 3),
    st.none() | st.floats(0, 60),
)
TICKS = st.lists(st.tuples(SEEN, st.floats(0.25, 60)), min_size=1, max_size=40)
CALIBRATION = st.builds(Calibration, utilization=st.floats(0.1, 1), slack=st.floats(0, 1))


def follow(
    scaling: AutoscalerSettings, ticks: list[tuple[Observation, float]], calibration: Calibration
) -> list[tuple[float, Observation, Decision]]:
    """Decide tick after tick, each from the replicas that the one before desired."""
    state, desired, now_s = DecisionState(), scaling.min_replicas, START_S
    history = []
    for seen, pause_s in ticks:
        now_s += pause_s
        present = replace(seen, fleet=replace(seen.fleet, desired=desired, ready=desired))
        decision, state = decide(present, state, scaling, calibration=calibration, now_s=now_s)
        desired = decision.desired
        history.append((now_s, present, decision))
    return history


@given(SETTINGS, TICKS, CALIBRATION)
def test_bounds_always_hold(
    scaling: AutoscalerSettings, ticks: list[tuple[Observation, float]], calibration: Calibration
) -> None:
    for _, _, decision in follow(scaling, ticks, calibration):
        assert scaling.min_replicas <= decision.desired <= scaling.max_replicas


@given(SETTINGS, TICKS, CALIBRATION)
def test_missing_partial_or_young_data_never_scales_down(
    scaling: AutoscalerSettings, ticks: list[tuple[Observation, float]], calibration: Calibration
) -> None:
    for now_s, seen, decision in follow(scaling, ticks, calibration):
        unsure = isinstance(seen.work, Unknown) or seen.work.value.partial or isinstance(seen.offered_load, Unknown)
        if unsure or now_s - START_S < scaling.down_after_s:
            assert decision.desired >= seen.fleet.desired


@given(SETTINGS, TICKS, CALIBRATION)
def test_replicas_leave_one_by_one_and_never_faster_than_allowed(
    scaling: AutoscalerSettings, ticks: list[tuple[Observation, float]], calibration: Calibration
) -> None:
    downs = []
    for now_s, seen, decision in follow(scaling, ticks, calibration):
        assert decision.desired >= seen.fleet.desired - 1
        if decision.desired < seen.fleet.desired:
            downs.append(now_s)
    assert all(later - earlier >= scaling.down_every_s for earlier, later in pairwise(downs))


@given(SETTINGS, TICKS, CALIBRATION)
def test_work_in_hand_is_never_left_without_a_replica(
    scaling: AutoscalerSettings, ticks: list[tuple[Observation, float]], calibration: Calibration
) -> None:
    for _, seen, decision in follow(scaling, ticks, calibration):
        closed = any(schedule.max_replicas == 0 for schedule in scaling.schedules)
        if not isinstance(seen.work, Unknown) and seen.work.value.waiting > 0 and not closed:
            assert decision.desired >= 1


@given(SETTINGS, TICKS, CALIBRATION)
def test_the_same_input_gives_the_same_decision(
    scaling: AutoscalerSettings, ticks: list[tuple[Observation, float]], calibration: Calibration
) -> None:
    assert follow(scaling, ticks, calibration) == follow(scaling, ticks, calibration)


@given(SETTINGS, TICKS, CALIBRATION)
def test_the_steps_explain_the_decision(
    scaling: AutoscalerSettings, ticks: list[tuple[Observation, float]], calibration: Calibration
) -> None:
    for _, seen, decision in follow(scaling, ticks, calibration):
        assert decision.steps[0].before == seen.fleet.desired
        assert decision.steps[-1].after == decision.desired
        assert all(before.after == after.before for before, after in pairwise(decision.steps))


STATE = st.builds(
    lambda known_for_s, down_age_s, active_age_s, marks, ups: DecisionState(
        data_since_s=START_S - known_for_s,
        last_known_at_s=START_S - 5,
        last_active_at_s=START_S - active_age_s,
        last_down_at_s=None if down_age_s is None else START_S - down_age_s,
        recommendations=tuple(Mark(at_s=START_S - 10, replicas=replicas) for replicas in marks),
        ups=tuple(Mark(at_s=START_S - 10, replicas=replicas) for replicas in ups),
    ),
    st.floats(0, 600),
    st.none() | st.floats(0, 60),
    st.floats(0, 600),
    st.lists(st.integers(0, 40), max_size=3),
    st.lists(st.integers(1, 5), max_size=2),
)
MORE = st.fixed_dictionaries(
    {
        "waiting": st.integers(0, 50),
        "backlog_s": st.floats(0, 300),
        "kv_tokens": st.integers(0, 1_000_000),
        "in_flight": st.integers(0, 50),
        "load": st.floats(0, 30),
    }
)


@given(SETTINGS, STATE, MORE, MORE, st.integers(0, 40), st.none() | st.floats(0, 30), CALIBRATION)
def test_more_work_never_gets_fewer_replicas(
    scaling: AutoscalerSettings,
    state: DecisionState,
    some: dict[str, float],
    more: dict[str, float],
    present: int,
    earlier: float | None,
    calibration: Calibration,
) -> None:
    together = {name: value + more[name] for name, value in some.items()}

    def desired(amounts: dict[str, float]) -> int:
        seen = observation(present, earlier_load=earlier, **amounts)
        return decide(seen, state, scaling, calibration=calibration, now_s=START_S)[0].desired

    assert desired(together) >= desired(some)


@given(SETTINGS, STATE, SEEN, st.integers(0, 80), CALIBRATION)
def test_a_paused_pool_never_changes(
    scaling: AutoscalerSettings, state: DecisionState, seen: Observation, present: int, calibration: Calibration
) -> None:
    fleet = replace(seen.fleet, desired=present, paused="maintenance")
    decision, _ = decide(replace(seen, fleet=fleet), state, scaling, calibration=calibration, now_s=START_S)
    assert (decision.desired, decision.headline) == (present, "paused: maintenance")


@given(SETTINGS, STATE, SEEN, st.integers(0, 80), st.floats(0, 1200), CALIBRATION)
def test_somebody_elses_number_is_kept_inside_the_bounds_and_for_its_time(
    scaling: AutoscalerSettings,
    state: DecisionState,
    seen: Observation,
    replicas: int,
    age_s: float,
    calibration: Calibration,
) -> None:
    override = Override(by="kubectl", replicas=replicas, at_s=START_S - age_s)
    free = replace(seen, fleet=replace(seen.fleet, desired=replicas))
    held = replace(free, fleet=replace(free.fleet, override=override))
    kept, _ = decide(held, state, scaling, calibration=calibration, now_s=START_S)
    if age_s < scaling.override_s:
        assert kept.desired == min(max(replicas, scaling.min_replicas), scaling.max_replicas)
    else:
        assert kept == decide(free, state, scaling, calibration=calibration, now_s=START_S)[0]


@given(SETTINGS, STATE, SEEN, st.integers(1, 80), st.integers(1, 5), CALIBRATION)
def test_while_something_has_no_room_only_the_bounds_order_more(
    scaling: AutoscalerSettings,
    state: DecisionState,
    seen: Observation,
    present: int,
    unschedulable: int,
    calibration: Calibration,
) -> None:
    stuck = replace(seen, fleet=replace(seen.fleet, desired=present, unschedulable=unschedulable))
    decision, _ = decide(stuck, state, scaling, calibration=calibration, now_s=START_S)
    assert decision.desired <= max(present, scaling.min_replicas)


@limits(max_examples=30)
@given(st.floats(0, 9), st.integers(0, 700_000), st.floats(0, 0.9), st.integers(1, 10))
def test_a_constant_load_settles(load: float, kv_tokens: int, tolerance: float, start: int) -> None:
    pool = Timeline(settings(max_replicas=20, tolerance=tolerance), desired=start)
    demand = Demand(load=load, in_flight=3, kv_tokens=kv_tokens)
    pool.run(300 + 15 * 20, demand)
    assert len(set(pool.run(600, demand))) == 1


@given(SETTINGS, STATE, SEEN, st.floats(0, 30), CALIBRATION)
def test_a_trend_never_lowers_the_recommendation(
    scaling: AutoscalerSettings, state: DecisionState, seen: Observation, earlier: float, calibration: Calibration
) -> None:
    assume(not isinstance(seen.work, Unknown))
    flat = replace(scaling, trend_horizon_s=None)
    ahead = replace(scaling, trend_horizon_s=120.0)
    seen = replace(seen, earlier_load=observation(earlier_load=earlier).earlier_load)
    with_trend, _ = decide(seen, state, ahead, calibration=calibration, now_s=START_S)
    without, _ = decide(seen, state, flat, calibration=calibration, now_s=START_S)
    assert with_trend.recommended >= without.recommended
