"""The scaling law: replicas wanted for the work there is, before any constraint.

`wanted = ceil(a (1/u + s) + beta sqrt(a) + max(0, backlog - ready_slack x ready) / drain)`, at least the replicas
whose KV cache holds the predicted footprints at `kv_fill_ratio`, and at least one where something waits and none
exists.

Worked example: a = 2 erlangs, u = 0.9, s = 0, beta = 0.25, a backlog of 6.6 s on 2 ready replicas:
2 / 0.9 + 0.25 x 1.41 + (6.6 - 0.6) / 20 = 2.22 + 0.35 + 0.30 = 2.88, so 3 replicas.
"""

import math
from enum import StrEnum

from autoscaler.calibrator import Calibration
from autoscaler.observation import Known, Observation, Unknown, Work
from autoscaler.settings import AutoscalerSettings
from backlog.records import StepRecord

ROUNDING = 1e-9
"""Float noise must not buy a replica: ceil(3.0000000001) is 3."""


class StepName(StrEnum):
    """The steps of a decision, in their order. Values are the metric label."""

    PAUSED = "paused"
    OVERRIDE = "override"
    LAW = "law"
    TREND = "trend"
    KV_NEED = "kv-need"
    ACTIVATION = "activation"
    UNKNOWN = "unknown"
    TOLERANCE = "tolerance"
    WARMUP = "warmup"
    WINDOW = "window"
    DOWN_RATE = "down-rate"
    UP_RATE = "up-rate"
    COOLDOWN = "cooldown"
    SCHEDULE = "schedule"
    UNSCHEDULABLE = "unschedulable"
    BOUNDS = "bounds"
    ADVISORY = "advisory"
    PLACEMENT = "placement"


def ceil_replicas(replicas: float) -> int:
    return max(0, math.ceil(replicas - ROUNDING))


def recommend(
    work: Work, observation: Observation, calibration: Calibration, settings: AutoscalerSettings
) -> tuple[StepRecord, ...]:
    """The steps from the present replicas to the recommendation, which is the last step's `after`."""
    law = _law(work, observation, calibration, settings)
    trend = _trend(work, law.after, observation, calibration, settings)
    kv_need = _kv_need(work, trend.after, settings)
    activation = _activation(work, observation.fleet.desired, kv_need.after)
    return (law, trend, kv_need, activation)


def _law(work: Work, observation: Observation, calibration: Calibration, settings: AutoscalerSettings) -> StepRecord:
    match observation.offered_load:
        case Known(value=load):
            shown = f"offered load {load:.2f}"
        case Unknown(cause=cause):
            load, shown = 0.0, f"offered load unknown ({cause})"
    wanted = _wanted(load, work, observation, calibration, settings)
    reason = (
        f"{shown} at {calibration.replicas_per_erlang:.2f} replicas each, backlog {work.backlog_s:.1f} s "
        f"on {observation.fleet.ready} ready: wants {_shown(wanted)}"
    )
    return StepRecord(name=StepName.LAW, before=observation.fleet.desired, after=ceil_replicas(wanted), reason=reason)


def _wanted(
    load: float, work: Work, observation: Observation, calibration: Calibration, settings: AutoscalerSettings
) -> float:
    excess_s = max(0.0, work.backlog_s - settings.ready_slack_s * observation.fleet.ready)
    return load * calibration.replicas_per_erlang + settings.beta * math.sqrt(load) + excess_s / settings.drain_s


def _trend(
    work: Work, before: int, observation: Observation, calibration: Calibration, settings: AutoscalerSettings
) -> StepRecord:
    """At least what the law wants for the load `trend_horizon_s` ahead, if it grows as before. Never fewer."""
    after, reason = before, "no trend is asked for"
    if settings.trend_horizon_s is not None:
        match observation.offered_load, observation.earlier_load:
            case Known(value=load, age_s=age_s), Known(value=earlier, age_s=earlier_age_s):
                span_s = max(1.0, earlier_age_s - age_s)
                reason = f"offered load went from {earlier:.2f} to {load:.2f} in {span_s:.0f} s"
                if load - earlier > settings.trend_gate_ratio * earlier:
                    ahead = load + (load - earlier) / span_s * settings.trend_horizon_s
                    wanted = _wanted(ahead, work, observation, calibration, settings)
                    after = max(before, ceil_replicas(wanted))
                    reason += f": {ahead:.2f} in {settings.trend_horizon_s:.0f} s, which wants {wanted:.2f}"
                else:
                    reason += f", not by more than {settings.trend_gate_ratio:.0%}"
            case Unknown(cause=cause), _:
                reason = f"offered load unknown: {cause}"
            case _, Unknown(cause=cause):
                reason = cause
    return StepRecord(name=StepName.TREND, before=before, after=after, reason=reason)


def _shown(replicas: float) -> str:
    """Two digits; what is less is said to be more than nothing, as it is rounded up to one."""
    return "under 0.01" if 0 < replicas < 0.005 else f"{replicas:.2f}"


def _kv_need(work: Work, before: int, settings: AutoscalerSettings) -> StepRecord:
    need = ceil_replicas(work.kv_tokens / (settings.kv_fill_ratio * settings.kv_capacity_tokens))
    return StepRecord(
        name=StepName.KV_NEED,
        before=before,
        after=max(before, need),
        reason=f"{work.kv_tokens} KV tokens, at {settings.kv_fill_ratio:.0%} of {settings.kv_capacity_tokens}: {need}",
    )


def _activation(work: Work, present: int, before: int) -> StepRecord:
    if present == 0 and work.waiting > 0 and before == 0:
        return StepRecord(
            name=StepName.ACTIVATION, before=before, after=1, reason=f"{work.waiting} waiting and no replica"
        )
    reason = "nothing waits for a first replica" if work.waiting == 0 else "replicas exist or are wanted"
    return StepRecord(name=StepName.ACTIVATION, before=before, after=before, reason=reason)
