"""Rates from the cumulative counters of gateway workers.

Each worker's counters only grow while it lives, so a total is the sum of per-worker differences. The first view ever
is a baseline: what was counted before it happened before we looked. A worker that appears later counts from zero when
it started after that baseline, else from what it shows first. Counters of workers that are gone are remembered, so
that a worker whose reports vanish and return (Redis restarted, network gone) contributes exactly what it counted
meanwhile.

A mean over `window_s` divides by the time between the two samples used, and uses the newest sample that is at least
`window_s` old. After a gap that is the sample before the gap: the work is spread over the time in which it arrived.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

from backlog.records import PoolView, WorkerId, WorkerReport

MAX_REMEMBERED_WORKERS = 1024
SAMPLE_S = 1.0
"""Samples closer together than this are merged: bounds the history however often the backlog is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What one worker, or all of them together, has counted."""

    arrived: int = 0
    arrived_gpu_s: float = 0.0
    settled: int = 0
    ttft_misses: int = 0
    tpot_misses: int = 0

    def plus(self, other: "Totals") -> "Totals":
        return Totals(
            arrived=self.arrived + other.arrived,
            arrived_gpu_s=self.arrived_gpu_s + other.arrived_gpu_s,
            settled=self.settled + other.settled,
            ttft_misses=self.ttft_misses + other.ttft_misses,
            tpot_misses=self.tpot_misses + other.tpot_misses,
        )

    def since(self, earlier: "Totals") -> "Totals":
        """The growth from `earlier` to here, never negative."""
        return Totals(
            arrived=max(0, self.arrived - earlier.arrived),
            arrived_gpu_s=max(0.0, self.arrived_gpu_s - earlier.arrived_gpu_s),
            settled=max(0, self.settled - earlier.settled),
            ttft_misses=max(0, self.ttft_misses - earlier.ttft_misses),
            tpot_misses=max(0, self.tpot_misses - earlier.tpot_misses),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The pool's totals at one instant."""

    at_s: float
    totals: Totals


def _at_s(sample: Sample) -> float:
    return sample.at_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How much the totals grew, and over how long."""

    totals: Totals
    span_s: float
    end_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The pool's totals over time. Empty before the first view."""

    baseline_at_s: float | None = None
    """Redis time of the first view."""
    workers: Mapping[WorkerId, Totals] = field(default_factory=dict)
    """Last counters seen per worker, most recently seen last; workers that are gone included."""
    samples: tuple[Sample, ...] = ()
    last_arrival_at_s: float | None = None

    def growth(self, window_s: float, now_s: float) -> Growth | None:
        """Growth over `window_s` up to `now_s`, or over what there is when that is less. `None` without two samples.

        Samples after `now_s` do not count, so that an instant in the past may be asked about.
        """
        end = bisect_right(self.samples, now_s, key=_at_s) - 1
        if end < 1:
            return None
        newest = self.samples[end]
        start = self.samples[max(0, bisect_right(self.samples, now_s - window_s, hi=end, key=_at_s) - 1)]
        span_s = newest.at_s - start.at_s
        if span_s <= 0:
            return None
        return Growth(totals=newest.totals.since(start.totals), span_s=span_s, end_at_s=newest.at_s)


def advance(history: History, view: PoolView, *, keep_s: float, now_s: float) -> History:
    """The history after one more view. `keep_s` is the longest window that will be asked for.

    A view without reports says nothing once there have been workers: it leaves a gap, not a sample.
    """
    if not view.reports and history.workers:
        return history
    baseline_at_s = view.read_at_s if history.baseline_at_s is None else history.baseline_at_s
    totals = history.samples[-1].totals if history.samples else Totals()
    workers = dict(history.workers)
    arrived_before = totals.arrived
    for seen in view.reports:
        report = seen.report
        counted = _counted(report)
        totals = totals.plus(_difference(report, counted, workers.pop(report.worker, None), history, baseline_at_s))
        workers[report.worker] = counted
    while len(workers) > MAX_REMEMBERED_WORKERS:
        del workers[next(iter(workers))]
    return History(
        baseline_at_s=baseline_at_s,
        workers=workers,
        samples=_append(history.samples, Sample(at_s=now_s, totals=totals), keep_s),
        last_arrival_at_s=now_s if totals.arrived > arrived_before else history.last_arrival_at_s,
    )


def _counted(report: WorkerReport) -> Totals:
    return Totals(
        arrived=report.arrived,
        arrived_gpu_s=report.arrived_gpu_s,
        settled=report.settled,
        ttft_misses=report.ttft_misses,
        tpot_misses=report.tpot_misses,
    )


def _difference(
    report: WorkerReport, counted: Totals, known: Totals | None, history: History, baseline_at_s: float
) -> Totals:
    """What a report adds to the pool's totals."""
    if known is not None:
        restarted = counted.arrived < known.arrived
        return counted if restarted else counted.since(known)
    first_view = history.baseline_at_s is None
    # Two hosts' clocks: with skew a young worker's first few requests may be taken for baseline. That loses little.
    if first_view or report.started_at_s < baseline_at_s:
        return Totals()
    return counted


def _append(samples: tuple[Sample, ...], sample: Sample, keep_s: float) -> tuple[Sample, ...]:
    """Add a sample; keep the newest one that is older than `keep_s`, drop those before it."""
    if samples and sample.at_s < samples[-1].at_s:
        return (sample,)  # The clock was set back: what came before cannot be ordered any more.
    merged = samples[:-1] if len(samples) > 1 and sample.at_s - samples[-2].at_s < SAMPLE_S else samples
    kept = (*merged, sample)
    first = 0
    while first + 1 < len(kept) and kept[first + 1].at_s <= sample.at_s - keep_s:
        first += 1
    return kept[first:]
