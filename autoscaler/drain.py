"""When a draining replica may be stopped: once every gateway worker has shown that it has nothing in flight there.

A worker publishes its report and reads the replica list in one exchange. The report of the exchange in which it first
sees "draining" was written before it knew, and it may have sent one more request while that exchange was under way.
So a worker is believed from its *second* report after the list was seen published. A worker whose reports vanish is
waited for: after a Redis restart the list of workers fills up one by one, and an absent worker is not an idle one.
Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from backlog.records import PoolView, ReplicaName, ReplicaState, SeenReport, WorkerId

GONE_AFTER_S = 10.0
"""A worker missing from every view for this long has died, and its requests with it."""
REPORTS_NEEDED = 2
CLOCK_GRAIN_S = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """What one worker has shown since the drain began."""

    published_at_s: float
    """Redis time of its newest report."""
    reports: int = 0
    """Distinct reports since the list with the draining replica was seen in Redis."""
    in_flight: int = 0
    absent_since_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """One replica's way out."""

    since_s: float
    listed_at_s: float | None = None
    """Redis time at which the replica was first seen listed as draining."""
    witnesses: Mapping[WorkerId, Witness] = field(default_factory=dict)


def begin(view: PoolView, now_s: float) -> Drain:
    """Every worker alive when the replica is marked becomes a witness."""
    witnesses = {seen.report.worker: Witness(published_at_s=_published_at_s(view, seen)) for seen in view.reports}
    return Drain(since_s=now_s, witnesses=witnesses)


def advance(drain: Drain, name: ReplicaName, view: PoolView | None, now_s: float) -> Drain:
    """The drain after one more look at the backlog. A failed look restarts the clocks of absent workers; a clock that
    was set back counts from there.
    """
    drain = replace(drain, since_s=min(drain.since_s, now_s))
    if view is None:
        witnesses = {worker: replace(witness, absent_since_s=None) for worker, witness in drain.witnesses.items()}
        return replace(drain, witnesses=witnesses)
    listed_at_s = drain.listed_at_s
    if listed_at_s is None and _listed(view, name):
        listed_at_s = view.read_at_s
    present = {seen.report.worker: seen for seen in view.reports}
    witnesses = {}
    for worker, witness in drain.witnesses.items():
        if worker not in present:
            absent_since_s = now_s if witness.absent_since_s is None else min(now_s, witness.absent_since_s)
            if now_s - absent_since_s < GONE_AFTER_S:
                witnesses[worker] = replace(witness, absent_since_s=absent_since_s)
    for worker, seen in present.items():
        witnesses[worker] = _hear(drain.witnesses.get(worker), name, view, seen, listed_at_s)
    return replace(drain, listed_at_s=listed_at_s, witnesses=witnesses)


def finish_reason(drain: Drain, *, deadline_s: float, now_s: float) -> str | None:
    """Why the replica may be stopped now; `None` while it may not."""
    drained_s = now_s - drain.since_s
    if drained_s >= deadline_s:
        running = sum(witness.in_flight for witness in drain.witnesses.values())
        return f"drain deadline of {deadline_s:.0f} s with {running} requests running"
    if drain.listed_at_s is None:
        return None
    if not drain.witnesses:
        return "no gateway worker left" if drained_s >= GONE_AFTER_S else None
    idle = all(witness.reports >= REPORTS_NEEDED and witness.in_flight == 0 for witness in drain.witnesses.values())
    return f"nothing in flight after {drained_s:.1f} s" if idle else None


def _hear(
    known: Witness | None, name: ReplicaName, view: PoolView, seen: SeenReport, listed_at_s: float | None
) -> Witness:
    published_at_s = _published_at_s(view, seen)
    share = seen.report.running.get(name)
    in_flight = 0 if share is None else share.in_flight
    counted = 0 if known is None else known.reports
    is_new = known is None or published_at_s > known.published_at_s + CLOCK_GRAIN_S
    if is_new and listed_at_s is not None and published_at_s > listed_at_s:
        counted += 1
    return Witness(published_at_s=published_at_s, reports=counted, in_flight=in_flight)


def _published_at_s(view: PoolView, seen: SeenReport) -> float:
    return view.read_at_s - seen.age_s


def _listed(view: PoolView, name: ReplicaName) -> bool:
    return any(record.name == name and record.state is ReplicaState.DRAINING for record in view.replicas or ())
