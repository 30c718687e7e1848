"""Decisions made again on what was recorded."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.calibrator import Calibration
from autoscaler.decide import DecisionState, decide
from autoscaler.follow import as_seen
from autoscaler.observation import Observation, Override
from autoscaler.recording import Part, tick_of
from autoscaler.rerun import rerun
from autoscaler.settings import AutoscalerSettings
from tests.autoscaler.builders import START_S, observation, settings

FIXED = Calibration(utilization=0.9)
QUICK = settings(warmup_s=0, window_s=20, down_every_s=5)


def recorded(
    scaling: AutoscalerSettings,
    seen: Callable[[int, int], Observation],
    ticks: int,
    *,
    led: Callable[[int], bool] = lambda tick: True,
    pause_s: float = 5.0,
) -> Part:
    """What a loop would have recorded: `seen(tick, present)` is observed; a decision counts where it led."""
    state, present, previous = DecisionState(), 1, None
    taken = []
    for number in range(ticks):
        now_s = START_S + number * pause_s
        observed = seen(number, present)
        present = observed.fleet.desired
        decision, after = decide(observed, state, scaling, calibration=FIXED, now_s=now_s)
        applied = led(number)
        taken.append(tick_of(decision, observed, FIXED, applied=applied, now_s=now_s))
        if applied:
            state, present, previous = after, decision.desired, decision.desired
        else:
            state = as_seen(state, after, previous=previous, present=present, now_s=now_s)
            previous = present
    return Part(settings=scaling, state=DecisionState(), ticks=tuple(taken))


def burst(number: int, present: int) -> Observation:
    return observation(present, load=6.0 if 5 <= number < 10 else 1.0, in_flight=1)


def test_the_same_settings_decide_the_same() -> None:
    again = list(rerun(recorded(QUICK, burst, 40), QUICK))
    assert all(decision.same for decision in again)
    assert max(decision.decision.desired for decision in again) == 8


LOADS = st.lists(st.tuples(st.none() | st.floats(0, 9), st.booleans()), min_size=1, max_size=30)


@given(LOADS)
def test_any_recording_decides_the_same_also_where_decisions_were_not_carried_out(
    loads: list[tuple[float | None, bool]],
) -> None:
    bounded = replace(QUICK, down_every_s=15.0, up_max=2, up_period_s=20.0)
    part = recorded(bounded, lambda tick, present: observation(present, load=loads[tick][0]), len(loads),
                    led=lambda tick: loads[tick][1])  # fmt: skip
    assert all(decision.same for decision in rerun(part, bounded))


def test_other_settings_build_on_their_own_decisions() -> None:
    patient = replace(QUICK, window_s=100.0)
    part = recorded(QUICK, burst, 60)
    again = list(rerun(part, patient))
    assert [decision.decision.desired for decision in again[5:29]] == [8] * 24
    assert min(decision.tick.desired for decision in again[20:29]) < 8
    assert again[-1].same_number


def test_a_change_by_somebody_else_brings_both_to_its_number() -> None:
    by_hand = Override(by="kubectl", replicas=5, at_s=START_S + 50)

    def seen(number: int, present: int) -> Observation:
        present = 5 if number == 10 else present
        return observation(present, load=1.0, override=by_hand if number >= 10 else None)

    generous = replace(QUICK, beta=3.0)
    again = list(rerun(recorded(QUICK, seen, 20), generous))
    assert {decision.decision.desired for decision in again[:10]} == {5}
    assert {decision.tick.desired for decision in again[:10]} == {2}
    assert {(decision.tick.desired, decision.decision.desired) for decision in again[10:]} == {(5, 5)}
    assert again[10].decision.steps[0].before == 5


def test_another_utilization_replaces_the_recorded_one() -> None:
    part = recorded(QUICK, lambda tick, present: observation(present, load=3.0), 5)
    again = list(rerun(part, replace(QUICK, utilization=0.5)))
    assert [(decision.tick.desired, decision.decision.desired) for decision in again] == [(4, 7)] * 5


@pytest.mark.parametrize(("pause_s", "lasted_s"), [(5.0, 5.0), (60.0, 60.0), (61.0, 5.0), (-30.0, 5.0)])
def test_a_decision_lasts_until_the_next_unless_the_autoscaler_was_away(pause_s: float, lasted_s: float) -> None:
    part = recorded(QUICK, burst, 3, pause_s=pause_s)
    assert [decision.lasted_s for decision in rerun(part, QUICK)] == [lasted_s, lasted_s, 5.0]
