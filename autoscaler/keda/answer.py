"""What KEDA is told about a pool: the replicas that must run now, and whether any must.

KEDA's autoscaler picks nothing and drains nothing: it sets a number. So a replica counts for as long as gateways send
to it or wait for it to drain, whatever has been decided, and the number falls only after a drain is over. One that
is being removed already is no part of the number: KEDA would start another in its place. Pure.
"""

from dataclasses import dataclass
from math import ceil

from autoscaler.settings import AutoscalerSettings
from backlog.records import PoolView, ReplicaState
from estimator.calibrate import mixed_ratio

METRIC = "weighbridge-replicas"
TARGET = 1.0
"""With a target of 1 per replica the metric is the number of replicas."""
DECISION_LIMIT_S = 60.0
"""A decision that is older is not answered from, unless the pool decides more slowly than every 20 s."""


ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`replicas` that must run now. `active`: some must, or requests wait for one."""

    replicas: int
    active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """What is not known, in words for KEDA's log. Unknown is not zero: KEDA has its own fallback."""

    cause: str


def decision_limit_s(settings: AutoscalerSettings) -> float:
    """How old a pool's decision may be."""
    return max(DECISION_LIMIT_S, 3 * settings.polling_s)


def answer(view: PoolView, *, limit_s: float) -> Answer | Unanswered:
    """What a view says. Ages are by the Redis clock; a decision from the future by more than `limit_s` is none."""
    decision = view.decision
    if decision is None:
        return Unanswered(cause="no decision has been published")
    age_s = view.read_at_s - decision.at_s
    if abs(age_s) > limit_s:
        return Unanswered(cause=f"the last decision is {age_s:.0f} s old, the limit is {limit_s:.0f} s")
    if view.replicas is None:
        return Unanswered(cause="no replica list has been published")
    ready = sum(record.state is ReplicaState.READY for record in view.replicas)
    draining = sum(record.state is ReplicaState.DRAINING and not record.drained for record in view.replicas)
    # A decision counts replicas on the pool's own GPU, KEDA counts pods: of a GPU half as fast it takes two for one.
    ratio = mixed_ratio([record.ratio for record in view.replicas])
    replicas = max(ceil(decision.desired * ratio - ROUNDING), ready) + draining
    waiting = view.queue.tickets > 0 or any(seen.report.waiting > 0 for seen in view.reports)
    return Answer(replicas=replicas, active=replicas > 0 or waiting)
