"""From what was read to what the page shows. Unknown is `None`, never zero; every part has its age. Pure.

Values are structs whose field names are the keys of `/data.json`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import msgspec

from backlog.account import NO_USAGE, Usage, UsageRow
from backlog.records import DecisionRecord, PoolName, PoolView, ReplicaShare, ReplicaState, SeenReport, StepRecord
from dashboard.settings import PoolFacts

MOST_DECISIONS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was read of one pool, each part when it last could be. Instants are of the reader's clock."""

    view: PoolView | None = None
    view_at_s: float = 0.0
    decisions: tuple[DecisionRecord, ...] | None = None
    """Newest first."""
    error: str | None = None
    """Why the last look failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """What tenants used in one day of UTC, and when it was read."""

    day: date | None = None
    rows: tuple[UsageRow, ...] | None = None
    at_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Everything:
    """All that the page is made from."""

    looks: Mapping[PoolName, Look] = field(default_factory=dict)
    booked: Booked = Booked()


class LineValues(msgspec.Struct, frozen=True, kw_only=True):
    """What waits of one tenant in one priority band."""

    tenant: str
    priority: int
    requests: int
    gpu_s: float


class QueueValues(msgspec.Struct, frozen=True, kw_only=True):
    """What waits. `None` of a whole queue: no gateway worker reports."""

    requests: int
    gpu_s: float
    waiting_s: float | None
    """How long something has waited without a break; `None` when nothing waits."""
    lines: list[LineValues]


class ReplicaValues(msgspec.Struct, frozen=True, kw_only=True):
    """One replica. Its work is unknown while no gateway worker reports."""

    name: str
    state: str
    """`static` where nobody says whether it is ready; `drained` where it drains and nobody waits for it."""
    gpu: str
    age_s: float | None
    cold_start_s: float | None
    requests: int | None
    gpu_s: float | None
    """Work in flight that is left, as it was estimated when it was sent."""
    prefill_s: float | None
    kv_tokens: int | None
    kv_ratio: float | None


class DecisionValues(msgspec.Struct, frozen=True, kw_only=True):
    """One decision, or as many in a row as said the same. `age_s` is of the newest, `first_age_s` of the oldest."""

    desired: int
    recommended: int
    mode: str
    headline: str
    age_s: float
    first_age_s: float
    count: int


class TenantValues(msgspec.Struct, frozen=True, kw_only=True):
    """What one tenant used of one pool in the day. `money` is unknown where GPU-hours have no price."""

    tenant: str
    requests: int
    tokens: int
    gpu_s: float
    money: float | None


class PoolValues(msgspec.Struct, frozen=True, kw_only=True):
    """One pool on the page."""

    name: str
    models: list[str]
    gpu: str
    gpus_per_replica: int
    kv_capacity_tokens: int
    min_replicas: int | None
    max_replicas: int | None
    error: str | None
    age_s: float | None
    """Since Redis was last read; `None` before the first time."""
    workers: int | None
    work_age_s: float | None
    """Of the oldest report that work is summed from."""
    queue: QueueValues | None
    expected_wait_s: float | None
    offered_load: float | None
    ready: int | None
    starting: int | None
    draining: int | None
    replicas: list[ReplicaValues] | None
    desired: int | None
    decision_age_s: float | None
    headline: str | None
    steps: list[StepRecord]
    decisions: list[DecisionValues] | None
    tenants: list[TenantValues] | None


class PageValues(msgspec.Struct, frozen=True, kw_only=True):
    """The whole page. `read_at_s` is the server's clock when it was made."""

    read_at_s: float
    usage_day: date | None
    usage_age_s: float | None
    pools: list[PoolValues]


def page_from(pools: Iterable[PoolFacts], everything: Everything, now_s: float) -> PageValues:
    """The page at `now_s` of the clock that stamped what was read."""
    booked = everything.booked
    return PageValues(
        read_at_s=now_s,
        usage_day=booked.day,
        usage_age_s=None if booked.rows is None else max(now_s - booked.at_s, 0.0),
        pools=[_pool(facts, everything.looks.get(facts.name, Look()), booked, now_s) for facts in pools],
    )


def _pool(facts: PoolFacts, look: Look, booked: Booked, now_s: float) -> PoolValues:
    view = look.view
    # Ages in a view are those of its reading; the view itself has aged since.
    since_s = max(now_s - look.view_at_s, 0.0)
    decision = None if view is None else view.decision
    reports = () if view is None else view.reports
    replicas = None if view is None else _replicas(facts, view, since_s)
    states = None if replicas is None or facts.static_replicas else [replica.state for replica in replicas]
    queue = None if view is None else _queue(view, since_s)
    return PoolValues(
        name=facts.name,
        models=list(facts.models),
        gpu=facts.gpu,
        gpus_per_replica=facts.gpus_per_replica,
        kv_capacity_tokens=facts.kv_capacity_tokens,
        min_replicas=facts.min_replicas,
        max_replicas=facts.max_replicas,
        error=look.error,
        age_s=None if view is None else since_s,
        workers=None if view is None else len(reports),
        work_age_s=max((seen.age_s + since_s for seen in reports), default=None),
        queue=queue,
        expected_wait_s=_expected_wait_s(facts, queue, replicas, decision),
        offered_load=None if decision is None else decision.offered_load,
        ready=None if states is None else states.count(ReplicaState.READY),
        starting=None if states is None else states.count(ReplicaState.STARTING),
        draining=None if states is None else states.count(ReplicaState.DRAINING),
        replicas=replicas,
        desired=None if decision is None else decision.desired,
        decision_age_s=None if decision is None or view is None else _age_s(decision, view, since_s),
        headline=None if decision is None else decision.headline,
        steps=[] if decision is None else list(decision.steps),
        decisions=None if look.decisions is None or view is None else _runs(look.decisions, view, since_s),
        tenants=None if booked.rows is None else _tenants(facts, booked.rows),
    )


def _age_s(decision: DecisionRecord, view: PoolView, since_s: float) -> float:
    """By the clock of Redis; a decision from a clock that is ahead is as new as can be."""
    return max(view.read_at_s - decision.at_s, 0.0) + since_s


def _queue(view: PoolView, since_s: float) -> QueueValues | None:
    """What waits in Redis, or in the workers where that is more: while Redis was away they keep it to themselves."""
    if not view.reports:
        return None
    waits_s = view.queue.waiting_age_s
    return QueueValues(
        requests=max(view.queue.tickets, sum(seen.report.waiting for seen in view.reports)),
        gpu_s=max(view.queue.gpu_s, sum(seen.report.waiting_gpu_s for seen in view.reports)),
        waiting_s=None if waits_s is None else waits_s + since_s,
        lines=[
            LineValues(tenant=line.tenant, priority=line.priority, requests=line.tickets, gpu_s=line.gpu_s)
            for line in view.queue.lines
        ],
    )


def _expected_wait_s(
    facts: PoolFacts, queue: QueueValues | None, replicas: list[ReplicaValues] | None, decision: DecisionRecord | None
) -> float | None:
    """The time in which those that can serve do what waits; at none, a cold start and what one then takes."""
    if queue is None or replicas is None:
        return None
    serving = sum(replica.state in (ReplicaState.READY, "static") for replica in replicas)
    if serving:
        return queue.gpu_s / (serving * facts.gpus_per_replica)
    if decision is None or decision.cold_start_s is None:
        return None
    return decision.cold_start_s + queue.gpu_s / (max(decision.desired, 1) * facts.gpus_per_replica)


def _replicas(facts: PoolFacts, view: PoolView, since_s: float) -> list[ReplicaValues] | None:
    if facts.static_replicas:
        return [
            _replica(name, "static", facts.gpu, None, None, _work(name, view.reports), facts)
            for name in facts.static_replicas
        ]
    if view.replicas is None:
        return None
    return [
        _replica(
            record.name,
            "drained" if record.drained else record.state.value,
            record.gpu or facts.gpu,
            max(view.read_at_s - record.created_at_s, 0.0) + since_s,
            None if record.ready_at_s is None else max(record.ready_at_s - record.created_at_s, 0.0),
            _work(record.name, view.reports),
            facts,
        )
        for record in view.replicas
    ]


def _replica(
    name: str,
    state: str,
    gpu: str,
    age_s: float | None,
    cold_start_s: float | None,
    shares: list[ReplicaShare] | None,
    facts: PoolFacts,
) -> ReplicaValues:
    kv_tokens = None if shares is None else sum(share.kv_tokens for share in shares)
    return ReplicaValues(
        name=name,
        state=state,
        gpu=gpu,
        age_s=age_s,
        cold_start_s=cold_start_s,
        requests=None if shares is None else sum(share.in_flight for share in shares),
        gpu_s=None if shares is None else sum(share.remaining_gpu_s for share in shares),
        prefill_s=None if shares is None else sum(share.prefill_s for share in shares),
        kv_tokens=kv_tokens,
        kv_ratio=None if kv_tokens is None else kv_tokens / facts.kv_capacity_tokens,
    )


def _work(name: str, reports: Sequence[SeenReport]) -> list[ReplicaShare] | None:
    """Each worker's part; `None` when no worker says anything."""
    if not reports:
        return None
    return [share for seen in reports for replica, share in seen.report.running.items() if replica == name]


def _runs(decisions: Iterable[DecisionRecord], view: PoolView, since_s: float) -> list[DecisionValues]:
    """Decisions in a row that say the same, as one."""
    runs: list[DecisionValues] = []
    for one in decisions:
        age_s = _age_s(one, view, since_s)
        last = runs[-1] if runs else None
        if last is not None and (last.desired, last.headline, last.mode) == (one.desired, one.headline, one.mode):
            runs[-1] = msgspec.structs.replace(last, first_age_s=age_s, count=last.count + 1)
            continue
        if len(runs) == MOST_DECISIONS:
            break
        runs.append(
            DecisionValues(
                desired=one.desired,
                recommended=one.recommended,
                mode=one.mode,
                headline=one.headline,
                age_s=age_s,
                first_age_s=age_s,
                count=1,
            )
        )
    return runs


def _tenants(facts: PoolFacts, rows: Iterable[UsageRow]) -> list[TenantValues]:
    """This pool's, those who used most first."""
    used: dict[str, Usage] = {}
    for row in rows:
        if row.key.pool == facts.name:
            used[row.key.tenant] = used.get(row.key.tenant, NO_USAGE) + row.usage
    return [
        TenantValues(
            tenant=tenant,
            requests=usage.requests,
            tokens=usage.input_tokens + usage.output_tokens,
            gpu_s=usage.gpu_s,
            money=usage.money if facts.priced else None,
        )
        for tenant, usage in sorted(used.items(), key=lambda item: (-item[1].gpu_s, item[0]))
    ]
