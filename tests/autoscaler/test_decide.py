"""One decision at a time: for each step, a case in which it is the binding one."""

import pytest

from autoscaler.calibrator import Calibration
from autoscaler.decide import Decision, DecisionState, Mark, decide, record_from_decision
from autoscaler.law import StepName
from autoscaler.observation import Observation
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


def once(seen: Observation, state: DecisionState | None = None, scaling: AutoscalerSettings | None = None) -> Decision:
    return decide(seen, state or warm(), scaling or settings(), calibration=FIXED, now_s=NOW_S)[0]


CASES = [
    # name, binding step, desired, observation, state, settings
    ("steady", StepName.LAW, 3, observation(3, load=2.0), warm(), settings()),
    ("more load", StepName.LAW, 5, observation(3, load=4.0), warm(), settings()),
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
    assert {case[1] for case in CASES} == set(StepName) - {StepName.ADVISORY}


@pytest.mark.parametrize(("seen", "scaling"), [(case[3], case[5]) for case in CASES])
def test_each_step_starts_where_the_one_before_ended(seen: Observation, scaling: AutoscalerSettings) -> None:
    steps = once(seen, warm(), scaling).steps
    assert steps[0].before == seen.fleet.desired
    assert [step.after for step in steps[:-1]] == [step.before for step in steps[1:]]
    assert all(step.reason for step in steps)


def test_all_steps_are_recorded_in_order() -> None:
    names = [step.name for step in once(observation(3), None, settings(advisory=True)).steps]
    assert names == [name for name in StepName if name is not StepName.UNKNOWN]


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
