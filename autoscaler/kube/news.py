"""What happened to a pool between two decisions, in the words of Events. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from autoscaler.law import StepName
from autoscaler.observation import Fleet
from backlog.records import DecisionRecord


class EventReason(StrEnum):
    """Reasons of Events. Values are what `kubectl get events` shows."""

    SCALED_UP = "ScaledUp"
    SCALED_DOWN = "ScaledDown"
    SCALING_HELD = "ScalingHeld"
    UNSCHEDULABLE = "Unschedulable"
    MANUAL_OVERRIDE = "ManualOverride"
    PAUSED = "Paused"
    DRAIN_DEADLINE = "DrainDeadline"
    WRONG_POD_REMOVED = "WrongPodRemoved"
    ANOTHER_WRITER = "AnotherWriter"


NORMAL = frozenset({EventReason.SCALED_UP, EventReason.SCALED_DOWN, EventReason.MANUAL_OVERRIDE, EventReason.PAUSED})
"""The others are warnings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A pool at its last decision. `changed`: the last one that was carried out and changed the number of replicas."""

    record: DecisionRecord
    fleet: Fleet
    changed: DecisionRecord | None
    rivals: tuple[str, ...] = ()
    """Who else writes the number of replicas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    reason: EventReason
    message: str


def news(before: Moment | None, now: Moment) -> Iterator[News]:
    """What is worth an Event. Of states (paused, held, unschedulable) their beginning; with `before` unknown, nothing
    but states."""
    changed = now.changed
    if before is not None and changed is not None and changed != before.changed:
        present = changed.steps[0].before
        reason = EventReason.SCALED_UP if changed.desired > present else EventReason.SCALED_DOWN
        yield News(reason=reason, message=f"{present} -> {changed.desired} replicas: {changed.headline}")
    if _held(now) and (before is None or not _held(before)):
        yield News(reason=EventReason.SCALING_HELD, message=now.record.headline)
    fleet = now.fleet
    if fleet.paused is not None and (before is None or before.fleet.paused != fleet.paused):
        yield News(reason=EventReason.PAUSED, message=f"scaling is paused: {fleet.paused}")
    if fleet.unschedulable > (0 if before is None else before.fleet.unschedulable):
        message = f"no room for {fleet.unschedulable} of {fleet.desired} replicas; no more are ordered until there is"
        yield News(reason=EventReason.UNSCHEDULABLE, message=message)
    override = fleet.override
    if override is not None and (before is None or before.fleet.override != override):
        message = f"{override.by} set {override.replicas} replicas, which is respected for a while"
        yield News(reason=EventReason.MANUAL_OVERRIDE, message=message)
    for rival in now.rivals:
        if before is None or rival not in before.rivals:
            yield News(reason=EventReason.ANOTHER_WRITER, message=f"the number of replicas is also written by {rival}")


def _held(moment: Moment) -> bool:
    """Kept for want of data."""
    return moment.record.steps[0].name == StepName.UNKNOWN
