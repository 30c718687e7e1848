"""The `/status` page: what the pools hold, where their replicas are, what was decided and why. Unknown is null."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from backlog.records import DecisionRecord, PoolView
from estimator.price import Price
from gateway.settings import PoolSettings
from gateway.snapshot import PoolState, SpillState, WorkerState


def status(
    workers: Sequence[WorkerState],
    pools: Sequence[PoolSettings],
    prices: Mapping[str, Price],
    views: Mapping[str, PoolView],
    decisions: Mapping[str, Sequence[DecisionRecord]],
    backlog_error: str | None,
) -> dict[str, Any]:
    """The whole page as JSON values. `views` lacks a pool while Redis is away; workers still show."""
    return {
        "workers": len(workers),
        "draining": any(state.draining for state in workers),
        "connections": sum(state.connections for state in workers),
        "backlog_error": backlog_error or next((s.backlog_error for s in workers if s.backlog_error), None),
        "backlog_age_s": max((s.backlog_age_s for s in workers if s.backlog_age_s is not None), default=None),
        "pools": {
            pool.name: _pool(
                [state.pools[pool.name] for state in workers if pool.name in state.pools],
                pool,
                prices[pool.name],
                views.get(pool.name),
                decisions.get(pool.name, ()),
            )
            for pool in pools
        },
    }


def _pool(
    states: Sequence[PoolState],
    settings: PoolSettings,
    price: Price,
    view: PoolView | None,
    decisions: Sequence[DecisionRecord],
) -> dict[str, Any]:
    outcomes: dict[str, int] = {}
    tenants: dict[str, float] = {}
    for state in states:
        for _, outcome, count in state.outcomes:
            outcomes[outcome] = outcomes.get(outcome, 0) + count
        for tenant, _, gpu_s in state.used_gpu_s:
            tenants[tenant] = tenants.get(tenant, 0.0) + gpu_s
    replicas = states[0].replicas if states else []
    listed = (view.replicas or ()) if view is not None else ()
    known = {replica.name for replica in replicas}
    decision = view.decision if view is not None else None
    return {
        "models": list(settings.models),
        "gpus_per_replica": price.gpus,
        "price": asdict(price),
        "waiting": sum(state.waiting for state in states),
        "waiting_gpu_s": sum(state.waiting_gpu_s for state in states),
        "queue": _queue(view),
        "oldest_waiting_age_s": max(
            (s.oldest_waiting_age_s for s in states if s.oldest_waiting_age_s is not None), default=None
        ),
        "wait_estimate_s": max((state.wait_estimate_s for state in states), default=None),
        "offered_load": decision.offered_load if decision is not None else None,
        "ready": sum(replica.state == "ready" for replica in replicas),
        "replicas": [msgspec.to_builtins(replica) for replica in replicas]
        + [{"name": r.name, "url": r.url, "state": r.state.value} for r in listed if r.name not in known],
        "outcomes": outcomes,
        "input_tokens": sum(state.input_tokens for state in states),
        "output_tokens": sum(state.output_tokens for state in states),
        "predicted_gpu_s": sum(state.predicted_gpu_s for state in states),
        "spill": _spill([state.spill for state in states if state.spill is not None]),
        "used_gpu_s": sum(tenants.values()),
        "used_gpu_s_by_tenant": tenants,
        "decision": msgspec.to_builtins(decision) if decision is not None else None,
        "decisions": [msgspec.to_builtins(one) for one in decisions],
    }


def _spill(states: Sequence[SpillState]) -> dict[str, Any] | None:
    """What this gateway has had a hosted model answer; `None` where nothing spills."""
    if not states:
        return None
    first = states[0]
    lefts = [state.money_left for state in states if state.money_left is not None]
    return {
        "model": first.model,
        "input_per_mtok": first.input_per_mtok,
        "output_per_mtok": first.output_per_mtok,
        "answering": any(state.answering for state in states),
        "in_flight": sum(state.in_flight for state in states),
        "money": sum(state.money for state in states),
        "money_left": sum(lefts) if len(lefts) == len(states) else None,
        "failures": sum(state.failures for state in states),
        "spilled": _added(state.spilled for state in states),
        "stayed": _added(state.stayed for state in states),
    }


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, number in one.items():
            total[name] = total.get(name, 0) + number
    return total


def _queue(view: PoolView | None) -> dict[str, Any] | None:
    """The shared queue: who waits with how much, highest priority first, and what is leased but not yet running."""
    if view is None:
        return None
    queue = view.queue
    return {
        "tickets": queue.tickets,
        "gpu_s": queue.gpu_s,
        "waiting_age_s": queue.waiting_age_s,
        "leases": len(queue.leases),
        "lines": [
            {"priority": line.priority, "tenant": line.tenant, "tickets": line.tickets, "gpu_s": line.gpu_s}
            for line in queue.lines
        ],
    }
