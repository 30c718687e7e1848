"""Decide again on what was recorded, with the same or other settings. Pure.

Where all decisions are as recorded, so is every fleet. Where one differs, the fleet that follows differs by as many
replicas, which count as ready. What was recorded of the work is not changed by that: a rerun tells what would have
been ordered for that work, not how the work would have gone. A change by somebody else brings both back to one number.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from autoscaler.calibrator import Calibration
from autoscaler.decide import Decision, decide
from autoscaler.follow import as_seen
from autoscaler.observation import Fleet
from autoscaler.recording import Part, Tick
from autoscaler.settings import AutoscalerSettings

MAX_PAUSE_S = 60.0
"""Replicas are counted no longer than this after a decision: then the autoscaler was not running."""

WITHOUT_EFFECT = frozenset(
    {
        "gpus_per_replica",
        "average_s",
        "trend_over_s",
        "miss_window_s",
        "target_miss_ratio",
        "slo_gain_per_s",
        "wake_s",
        "drain_deadline_s",
        "cold_start_s",
        "advisory",
    }
)
"""Settings that shape what is observed, or what is done with a decision: a recording has both as they were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """One decision as recorded and as decided again. `lasted_s` is how long it held."""

    tick: Tick
    decision: Decision
    lasted_s: float

    @property
    def same_number(self) -> bool:
        return self.decision.desired == self.tick.desired

    @property
    def same(self) -> bool:
        return self.same_number and self.decision.headline == self.tick.headline


def rerun(part: Part, settings: AutoscalerSettings) -> Iterator[Again]:
    """The decisions of one part, in order."""
    state = part.state
    more, recorded, present = 0, None, None
    for index, tick in enumerate(part.ticks):
        seen = tick.observation.fleet
        if recorded is not None and seen.desired != recorded:
            more = 0
        fleet = _with(seen, more)
        observation = replace(tick.observation, fleet=fleet)
        decision, after = decide(
            observation,
            state,
            settings,
            calibration=_calibration(tick.calibration, part.settings, settings),
            now_s=tick.now_s,
        )
        if tick.applied:
            state, present = after, decision.desired
            more, recorded = decision.desired - tick.desired, tick.desired
        else:
            state = as_seen(state, after, previous=present, present=fleet.desired, now_s=tick.now_s)
            present, recorded = fleet.desired, seen.desired
        yield Again(tick=tick, decision=decision, lasted_s=_lasted_s(part, index))


def _with(fleet: Fleet, more: int) -> Fleet:
    """The fleet with so many replicas more, or fewer."""
    desired = max(0, fleet.desired + more)
    return replace(fleet, desired=desired, ready=max(0, min(desired, fleet.ready + more))) if more else fleet


def _calibration(recorded: Calibration, before: AutoscalerSettings, now: AutoscalerSettings) -> Calibration:
    """As recorded, slack included; another `utilization` in the settings replaces the one that was planned with."""
    return recorded if now.utilization == before.utilization else replace(recorded, utilization=now.utilization)


def _lasted_s(part: Part, index: int) -> float:
    if index + 1 == len(part.ticks):
        return part.settings.polling_s
    lasted_s = part.ticks[index + 1].now_s - part.ticks[index].now_s
    return lasted_s if 0 <= lasted_s <= MAX_PAUSE_S else part.settings.polling_s
