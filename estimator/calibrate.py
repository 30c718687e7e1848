"""How much slower a replica is than its price says: one scalar, learned online from busy over attributed seconds. Pure.

Shares hold at the planning batch: below it a GPU is busy for more seconds than are attributed, whatever its speed
(decision 0004). So only well-filled periods teach (decision 0013).
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from math import exp, isfinite, log

LEAST, MOST = 0.25, 4.0
"""Bounds of a scalar: a replica beyond them runs something else than what is priced."""
GAIN = 0.05
"""Weight of a period once some twenty have been seen: half of a change is taken over in 14 of them."""
QUICK_GAIN = 0.3
PRIOR_PERIODS = 0.25
"""What the price itself counts for: periods of the recorded vLLM run scatter by 8 %, prices err by twice that."""
SURE_PERIODS = 5
"""Fewer periods than this raise no alarm."""
BAND = 1.5
"""A scalar above this or below its inverse: the price is wrong for this replica."""
MOVING = 1.2
"""The last few periods differ from the average by this factor: the replica has changed."""
CLEAR = 0.8
"""An alarm ends at this part of its limit, in logarithms: a scalar beside the limit does not ring again and again."""


class Drift(StrEnum):
    """What is wrong with a replica's speed."""

    OUT_OF_BAND = "out-of-band"
    MOVING = "moving"


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Some seconds of one replica, over all gateway workers."""

    busy_s: float
    """Time in which it had at least one request."""
    attributed_s: float
    """Shares of the tokens that it computed in this time, by its price."""
    sequences: float
    """Mean requests in flight while it was busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnRule:
    """Which periods teach."""

    planning_batch: int
    fill_ratio: float = 0.75
    """Of the planning batch: attributed over busy is 0.9 there, and 0.6 at 0.4 (decision 0004)."""
    least_busy_s: float = 8.0
    """Shorter ones are mostly edges: tokens are credited when they are seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """What one replica has shown. Averages of `log(busy / attributed)`."""

    log_ratio: float = 0.0
    quick_log_ratio: float = 0.0
    """The same over the last few periods."""
    periods: int = 0
    """How many have taught."""

    @property
    def ratio(self) -> float:
        """Seconds that the replica takes for one second of its price."""
        return exp(self.log_ratio)


UNKNOWN = Scalar()


def teaches(period: Period, rule: LearnRule) -> bool:
    """Whether busy time measures demand in this period."""
    return (
        period.busy_s >= rule.least_busy_s
        and period.attributed_s > 0.0
        and period.sequences >= rule.fill_ratio * rule.planning_batch
    )


def learn(scalar: Scalar, period: Period, rule: LearnRule) -> Scalar:
    """The scalar after one more period; unchanged by a period that does not teach."""
    if not teaches(period, rule):
        return scalar
    seen = min(max(log(period.busy_s / period.attributed_s), log(LEAST)), log(MOST))
    first = 1.0 / (scalar.periods + 1.0 + PRIOR_PERIODS)
    gain = max(first, GAIN)
    quick = max(first, QUICK_GAIN)
    return Scalar(
        log_ratio=scalar.log_ratio + gain * (seen - scalar.log_ratio),
        quick_log_ratio=scalar.quick_log_ratio + quick * (seen - scalar.quick_log_ratio),
        periods=scalar.periods + 1,
    )


def drift_of(scalar: Scalar, before: Drift | None = None) -> Drift | None:
    """What an operator should know; `None` for a replica as fast as priced, or not yet known.

    `before`: what it was a period ago.
    """
    if scalar.periods < SURE_PERIODS:
        return None
    if abs(scalar.log_ratio) > log(BAND) * (CLEAR if before is Drift.OUT_OF_BAND else 1.0):
        return Drift.OUT_OF_BAND
    if abs(scalar.quick_log_ratio - scalar.log_ratio) > log(MOVING) * (CLEAR if before is Drift.MOVING else 1.0):
        return Drift.MOVING
    return None


def pool_ratio(scalars: Collection[Scalar]) -> float:
    """The pool's own ratio: the geometric mean over the replicas that have shown theirs; 1 when none has."""
    known = [scalar.log_ratio for scalar in scalars if scalar.periods]
    return exp(sum(known) / len(known)) if known else 1.0


def mixed_ratio(ratios: Collection[float]) -> float:
    """What a pool of replicas of different GPUs takes for one second of its price; 1 without replicas.

    The harmonic mean, since replicas that are equally busy do work in inverse proportion to their ratios: so the sum of
    weights is the time that replicas are busy. Equal ratios give exactly theirs.
    """
    least = min(ratios, default=1.0)
    if least == max(ratios, default=1.0):
        return least
    return len(ratios) / sum(1.0 / ratio for ratio in ratios)


def newcomer(scalars: Collection[Scalar]) -> Scalar:
    """What to think of a replica that has shown nothing: what the others of its pool have shown."""
    mean = log(pool_ratio(scalars))
    return replace(UNKNOWN, log_ratio=mean, quick_log_ratio=mean)


def checked(scalar: Scalar) -> Scalar:
    """A scalar that was stored. Raises `ValueError` for one that `learn` cannot give."""
    for name in ("log_ratio", "quick_log_ratio"):
        value = getattr(scalar, name)
        if not isfinite(value) or not log(LEAST) - 1e-9 <= value <= log(MOST) + 1e-9:
            raise ValueError(f"{name} {value} is outside log({LEAST:g}) to log({MOST:g})")
    if scalar.periods < 0:
        raise ValueError(f"periods {scalar.periods} is negative")
    return scalar
