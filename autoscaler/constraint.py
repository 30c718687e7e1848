"""The constraints between a recommendation and a decision, one function per step, each with its reason.

A constraint gets the replicas wanted so far (`before`) and returns what it leaves of them. `present` is the replicas
that the scaler was last told to run; "down" and "up" are relative to it.
"""

import math
from datetime import UTC, datetime

from autoscaler.law import StepName
from autoscaler.observation import Fleet, Known, Observation, Override, Unknown, Work
from autoscaler.schedule import scheduled
from autoscaler.settings import AutoscalerSettings
from backlog.records import StepRecord


def hold(present: int, unknown: Unknown, settings: AutoscalerSettings) -> StepRecord:
    """Without data: keep what there is; after `fallback_after_s` at least the fallback replicas."""
    if unknown.age_s < settings.fallback_after_s:
        reason = f"hold: {unknown.cause}, unknown for {unknown.age_s:.0f} s"
        return StepRecord(name=StepName.UNKNOWN, before=present, after=present, reason=reason)
    floor = settings.fallback_replicas
    reason = f"fallback to at least {floor}: {unknown.cause}, unknown for {unknown.age_s:.0f} s"
    return StepRecord(name=StepName.UNKNOWN, before=present, after=max(present, floor), reason=reason)


def pause(fleet: Fleet, why: str) -> StepRecord:
    """Whoever paused the pool has the word: what there is stays, bounds or not."""
    present = fleet.desired
    return StepRecord(name=StepName.PAUSED, before=present, after=present, reason=f"paused: {why}")


def respected(override: Override | None, settings: AutoscalerSettings, now_s: float) -> Override | None:
    """The override, while it holds: for `override_s`. A clock that was set far away ends it."""
    if override is None or not abs(now_s - override.at_s) < settings.override_s:
        return None
    return override


def keep_override(present: int, override: Override, settings: AutoscalerSettings) -> StepRecord:
    """What somebody else set stays as they set it. The reason stays the same for as long, and so is told once."""
    at = datetime.fromtimestamp(override.at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    reason = f"{override.by} set {override.replicas} at {at}, kept for {settings.override_s:.0f} s"
    return StepRecord(name=StepName.OVERRIDE, before=present, after=override.replicas, reason=reason)


def apply_tolerance(before: int, present: int, settings: AutoscalerSettings) -> StepRecord:
    """No change within `tolerance` of the present replicas."""
    change = abs(before - present)
    within = present > 0 and before > 0 and 0 < change <= settings.tolerance * present
    where = "within" if within else "not within"
    return StepRecord(
        name=StepName.TOLERANCE,
        before=before,
        after=present if within else before,
        reason="no change" if change == 0 else f"{before} is {where} {settings.tolerance:.0%} of {present}",
    )


def doubt(observation: Observation, data_s: float, settings: AutoscalerSettings) -> str | None:
    """Why replicas must not leave: too little, partial or stale data, or none. `None`: they may."""
    match observation.work, observation.offered_load:
        case Unknown(cause=cause), _:
            return cause
        case Known(value=work), _ if work.partial:
            return "some worker's report is stale"
        case _, Unknown(cause=cause):
            return f"offered load unknown: {cause}"
    return (
        f"{math.floor(data_s)} s of data, {settings.down_after_s:.0f} needed"
        if data_s < settings.down_after_s
        else None
    )


def apply_warmup(before: int, present: int, doubt: str | None, data_s: float) -> StepRecord:
    """No scaling down while there is a doubt."""
    if before >= present:
        return StepRecord(name=StepName.WARMUP, before=before, after=before, reason="not scaling down")
    if doubt is None:
        return StepRecord(name=StepName.WARMUP, before=before, after=before, reason=f"{data_s:.0f} s of data")
    return StepRecord(name=StepName.WARMUP, before=before, after=present, reason=f"no scaling down: {doubt}")


def apply_window(before: int, present: int, highest: int, settings: AutoscalerSettings) -> StepRecord:
    """Down only to the highest recommendation of the last `window_s`."""
    after = before if before >= present else min(present, max(before, highest))
    reason = f"highest recommendation of the last {settings.window_s:.0f} s is {highest}"
    return StepRecord(name=StepName.WINDOW, before=before, after=after, reason=reason)


def limit_down(before: int, present: int, last_down_age_s: float | None, settings: AutoscalerSettings) -> StepRecord:
    """At most one replica less per `down_every_s`."""
    if before >= present:
        return StepRecord(name=StepName.DOWN_RATE, before=before, after=before, reason="not scaling down")
    if last_down_age_s is not None and 0 <= last_down_age_s < settings.down_every_s:
        reason = f"one less per {settings.down_every_s:.0f} s, last {last_down_age_s:.0f} s ago"
        return StepRecord(name=StepName.DOWN_RATE, before=before, after=present, reason=reason)
    reason = f"one less per {settings.down_every_s:.0f} s"
    return StepRecord(name=StepName.DOWN_RATE, before=before, after=present - 1, reason=reason)


def limit_up(before: int, present: int, added: int, settings: AutoscalerSettings) -> StepRecord:
    """At most `up_max` replicas more per `up_period_s`; `added` were added in the period so far. The first is free."""
    if settings.up_max is None or before <= present:
        reason = "no limit" if settings.up_max is None else "not scaling up"
        return StepRecord(name=StepName.UP_RATE, before=before, after=before, reason=reason)
    allowed = max(1 if present == 0 else 0, settings.up_max - added)
    after = min(before, present + allowed)
    reason = f"at most {settings.up_max} more per {settings.up_period_s:.0f} s, {added} so far"
    return StepRecord(name=StepName.UP_RATE, before=before, after=after, reason=reason)


def apply_cooldown(before: int, present: int, work: Work, idle_s: float, settings: AutoscalerSettings) -> StepRecord:
    """The last replica goes only after `cooldown_to_zero_s` without arrivals and with nothing waiting or running."""
    if before > 0 or present == 0:
        return StepRecord(name=StepName.COOLDOWN, before=before, after=before, reason="not going to zero")
    if work.active:
        reason = f"{work.waiting} waiting and {work.in_flight} running keep one"
        return StepRecord(name=StepName.COOLDOWN, before=before, after=1, reason=reason)
    if idle_s < settings.cooldown_to_zero_s:
        reason = f"idle for {idle_s:.0f} s, zero after {settings.cooldown_to_zero_s:.0f}"
        return StepRecord(name=StepName.COOLDOWN, before=before, after=1, reason=reason)
    return StepRecord(name=StepName.COOLDOWN, before=before, after=before, reason=f"idle for {idle_s:.0f} s")


def apply_schedule(
    before: int,
    present: int,
    last_down_age_s: float | None,
    doubt: str | None,
    settings: AutoscalerSettings,
    now_s: float,
) -> StepRecord:
    """The floor and the ceiling of the hour: the floor at once, the ceiling as fast as replicas may leave.

    While there is a doubt a ceiling only keeps more from being added.
    """
    limits = scheduled(settings.schedules, now_s)
    after, reason = before, limits.reason
    if limits.ceiling is not None and before > limits.ceiling:
        may_leave = doubt is None and (last_down_age_s is None or not 0 <= last_down_age_s < settings.down_every_s)
        after = min(before, max(limits.ceiling, present - 1 if may_leave else present))
        if after > limits.ceiling:
            pace = f"one less per {settings.down_every_s:.0f} s"
            reason += f", {pace if doubt is None else f'but no scaling down: {doubt}'}"
    if limits.floor is not None:
        after = max(after, limits.floor)
    return StepRecord(name=StepName.SCHEDULE, before=before, after=after, reason=reason)


def cap_unschedulable(before: int, fleet: Fleet) -> StepRecord:
    """Nothing more is ordered while something that was ordered has no room, and nothing else of the pool may grow.

    The first is always ordered.
    """
    limit = max(1, fleet.desired)
    if fleet.unschedulable == 0:
        reason = "all that was ordered has room"
    elif fleet.room_elsewhere:
        reason = f"{fleet.unschedulable} of {fleet.desired} cannot be scheduled, another object of the pool may grow"
    elif before > limit:
        reason = f"{fleet.unschedulable} of {fleet.desired} cannot be scheduled: no more are ordered"
    else:
        reason = f"{fleet.unschedulable} of {fleet.desired} cannot be scheduled, no more are wanted"
    after = min(before, limit) if fleet.unschedulable > 0 and not fleet.room_elsewhere else before
    return StepRecord(name=StepName.UNSCHEDULABLE, before=before, after=after, reason=reason)


def bound(before: int, settings: AutoscalerSettings) -> StepRecord:
    """Never outside `[min_replicas, max_replicas]`, whatever is known."""
    after = min(max(before, settings.min_replicas), settings.max_replicas)
    reason = f"{'within' if after == before else 'bounds'} [{settings.min_replicas}, {settings.max_replicas}]"
    return StepRecord(name=StepName.BOUNDS, before=before, after=after, reason=reason)


def advise(before: int) -> StepRecord:
    return StepRecord(name=StepName.ADVISORY, before=before, after=before, reason="published, not applied")


def known_work(observation: Observation) -> Work | None:
    match observation.work:
        case Known(value=work):
            return work
        case Unknown():
            return None
