"""What was read this tick, each part either known with its age or unknown with the cause. Unknown is never zero."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from autoscaler.offered import History
from autoscaler.settings import AutoscalerSettings
from backlog.records import PoolView
from estimator.calibrate import mixed_ratio

T = TypeVar("T")

MIN_SPAN_S = 10.0
"""A rate over less than this (or less than `average_s`, if that is shorter) is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known(Generic[T]):
    value: T
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    cause: str
    age_s: float
    """Since the value was last known, or since the autoscaler started."""


NO_TREND = Unknown(cause="no trend is asked for", age_s=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """Somebody else set the number of replicas. `at_s` is when that was first seen."""

    by: str
    """Who, as far as it is known: a field manager, a user."""
    replicas: int
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Replicas as the scaler has them. `desired` is what it was last told, so replicas that are still to start or that
    crashed are part of it: a decision starts from `desired`, not from what happens to be ready."""

    desired: int
    ready: int
    pending: int
    draining: int
    unschedulable: int = 0
    """Of `pending`: replicas for which there is no room now."""
    room_elsewhere: bool = False
    """Another object of the pool may still grow: more can be ordered although some has no room."""
    paused: str | None = None
    """Why the pool must be left alone, in the words of whoever asked for it. `None`: it is scaled."""
    override: Override | None = None
    """The last change by somebody else; `desired` is what they set. `None` when there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What waits and runs in a pool, summed over gateway workers."""

    waiting: int
    waiting_gpu_s: float
    backlog_s: float
    """Prefill that waits or is sent and not yet past its first token, in seconds of a replica on the pool's GPU."""
    in_flight: int
    kv_tokens: int
    """Predicted peak KV footprint of what waits and runs."""
    partial: bool
    """Some worker's report was too old to count: the sums may be too low."""

    @property
    def active(self) -> bool:
        return self.waiting > 0 or self.in_flight > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Misses:
    """SLO misses over the miss window."""

    settled: int
    ttft_ratio: float
    tpot_ratio: float
    """Zero when the pool has no TPOT objective: workers count none then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Everything that one decision rests on."""

    work: Known[Work] | Unknown
    offered_load: Known[float] | Unknown
    """Erlangs: arriving replica-seconds per second."""
    misses: Known[Misses] | Unknown
    last_arrival_at_s: float | None
    fleet: Fleet
    earlier_load: Known[float] | Unknown = NO_TREND
    """Offered load `trend_over_s` ago; its age says when that was. Unknown where no trend is asked for."""


def observe(
    view: PoolView, history: History, fleet: Fleet, settings: AutoscalerSettings, *, known_age_s: float, now_s: float
) -> Observation:
    """An observation from a view that was just read. `history` already contains the view.

    `known_age_s` is how long ago the work was last known: the age of `Unknown` when this view does not tell it.
    """
    return Observation(
        work=_work(view, settings, known_age_s),
        offered_load=_offered_load(history, settings, now_s),
        misses=_misses(history, settings, now_s),
        last_arrival_at_s=history.last_arrival_at_s,
        fleet=fleet,
        earlier_load=_earlier_load(history, settings, now_s),
    )


def observe_outage(cause: str, history: History, fleet: Fleet, *, known_age_s: float) -> Observation:
    """An observation when the backlog could not be read."""
    unknown = Unknown(cause=cause, age_s=known_age_s)
    return Observation(
        work=unknown, offered_load=unknown, misses=unknown, last_arrival_at_s=history.last_arrival_at_s, fleet=fleet
    )


def _work(view: PoolView, settings: AutoscalerSettings, known_age_s: float) -> Known[Work] | Unknown:
    if not view.reports:
        return Unknown(cause="no gateway worker reports", age_s=known_age_s)
    fresh = [seen for seen in view.reports if seen.age_s <= settings.stale_after_s]
    if not fresh:
        youngest_s = min(seen.age_s for seen in view.reports)
        return Unknown(cause=f"the newest report is {youngest_s:.0f} s old", age_s=max(known_age_s, youngest_s))
    reports = [seen.report for seen in fresh]
    shares = [share for report in reports for share in report.running.values()]
    # Weights are in the seconds of the replicas that there are; replicas are counted in those of the pool's own GPU.
    mixed = mixed_ratio([record.ratio for record in view.replicas or ()])
    prefill_s = sum(report.waiting_prefill_s for report in reports) + sum(share.prefill_s for share in shares)
    work = Work(
        waiting=sum(report.waiting for report in reports),
        waiting_gpu_s=sum(report.waiting_gpu_s for report in reports),
        backlog_s=prefill_s / mixed,
        in_flight=sum(share.in_flight for share in shares),
        kv_tokens=sum(report.waiting_kv_tokens for report in reports) + sum(share.kv_tokens for share in shares),
        partial=len(fresh) < len(view.reports),
    )
    return Known(value=work, age_s=max(seen.age_s for seen in fresh))


def _offered_load(history: History, settings: AutoscalerSettings, now_s: float) -> Known[float] | Unknown:
    growth = history.growth(settings.average_s, now_s)
    if growth is None or growth.span_s < min(MIN_SPAN_S, settings.average_s / 2):
        return Unknown(cause="too little data for a mean", age_s=0.0 if growth is None else growth.span_s)
    load = growth.totals.arrived_gpu_s / growth.span_s / settings.gpus_per_replica
    return Known(value=load, age_s=now_s - history.samples[-1].at_s)


def _earlier_load(history: History, settings: AutoscalerSettings, now_s: float) -> Known[float] | Unknown:
    if settings.trend_horizon_s is None:
        return NO_TREND
    growth = history.growth(settings.average_s, now_s - settings.trend_over_s)
    if growth is None or growth.span_s < settings.average_s / 2:
        return Unknown(cause="too little data for a trend", age_s=0.0)
    load = growth.totals.arrived_gpu_s / growth.span_s / settings.gpus_per_replica
    return Known(value=load, age_s=now_s - growth.end_at_s)


def _misses(history: History, settings: AutoscalerSettings, now_s: float) -> Known[Misses] | Unknown:
    growth = history.growth(settings.miss_window_s, now_s)
    if growth is None or growth.totals.settled == 0:
        return Unknown(cause="no request settled in the window", age_s=0.0 if growth is None else growth.span_s)
    settled = growth.totals.settled
    misses = Misses(
        settled=settled,
        ttft_ratio=min(1.0, growth.totals.ttft_misses / settled),
        tpot_ratio=min(1.0, growth.totals.tpot_misses / settled),
    )
    return Known(value=misses, age_s=now_s - history.samples[-1].at_s)
