"""What holds for any sequence of observations."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.calibrator import Calibration
from autoscaler.decide import Decision, DecisionState, decide
from autoscaler.observation import Observation, Unknown
from autoscaler.settings import AutoscalerSettings
from tests.autoscaler.builders import START_S, observation, settings

SETTINGS = st.builds(
    lambda low, spread, tolerance, up_max, fallback, window_s, warmup_s: settings(
        min_replicas=low,
        max_replicas=max(1, low + spread),
        fallback_replicas=min(fallback, max(1, low + spread)),
        tolerance=tolerance,
        up_max=up_max,
        window_s=window_s,
        warmup_s=warmup_s,
    ),
    st.integers(0, 5),
    st.integers(0, 50),
    st.floats(0, 0.5),
    st.none() | st.integers(1, 5),
    st.integers(0, 5),
    st.floats(0, 300),
    st.floats(0, 300),
)
SEEN = st.builds(
    lambda load, waiting, backlog_s, kv_tokens, in_flight, partial, unknown_for_s: observation(
        load=load,
        waiting=waiting,
        backlog_s=backlog_s,
        kv_tokens=kv_tokens,
        in_flight=in_flight,
        partial=partial,
        unknown_for_s=unknown_for_s,
    ),
    st.none() | st.floats(0, 60),
    st.integers(0, 100),
    st.floats(0, 500),
    st.integers(0, 2_000_000),
    st.integers(0, 100),
    st.booleans(),
    st.none() | st.floats(0, 500),
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
        present = Observation(
            work=seen.work,
            offered_load=seen.offered_load,
            misses=seen.misses,
            last_arrival_at_s=None,
            fleet=observation(desired).fleet,
        )
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
        if not isinstance(seen.work, Unknown) and seen.work.value.waiting > 0:
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
