"""Short builders for the values that gateway tests are about, and Hypothesis strategies for any of them."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any, ClassVar

import msgspec
from hypothesis import strategies as st

from backlog.records import (
    DecisionRecord,
    Lease,
    PoolName,
    PoolView,
    QueueLine,
    QueueView,
    ReplicaName,
    ReplicaRecord,
    ReplicaShare,
    ReplicaState,
    SeenReport,
    TicketId,
    WorkerId,
    WorkerReport,
)
from backlog.ticket import Ticket
from estimator.accelerator import ACCELERATORS
from estimator.models import find_model
from estimator.price import Price, Weight, WeightSource
from gateway.openai import Endpoint, ParsedRequest, parse
from gateway.pick import Load, PickRule
from gateway.pool import Pool
from gateway.settings import PoolSettings, StaticReplica, TenantLimits, TenantSettings

POOL = PoolName("chat")
ME, OTHER = WorkerId("me"), WorkerId("other")
RULE = PickRule(
    kv_read_s_per_token=1.8e-7,
    kv_capacity_tokens=100_000,
    prefill_chunk_tokens=2048,
    externality=0.01,
    dispatch_prefill_s=0.25,
)


def weight(
    prefill_s: float = 0.05, decode_s: float = 0.1, *, input_tokens: int = 700, gpus: int = 1, **changes: Any
) -> Weight:
    values: dict[str, Any] = {
        "prefill_s": prefill_s,
        "decode_s": decode_s,
        "decode_kv_s": decode_s / 5,
        "input_tokens": input_tokens,
        "cached_tokens": 0,
        "kv_tokens": input_tokens + 400,
        "output_tokens_p50": 130.0,
        "output_tokens_p90": 400.0,
        "gpu_s": (prefill_s + decode_s) * gpus,
        "source": WeightSource.ANALYTIC,
    }
    return Weight(**(values | changes))


def share(**changes: Any) -> ReplicaShare:
    values: dict[str, Any] = {
        "in_flight": 1,
        "prefill_s": 0.0,
        "prefill_tokens": 0,
        "kv_tokens": 0,
        "remaining_gpu_s": 0.0,
    }
    return ReplicaShare(**(values | changes))


class PricedOnce(PoolSettings):
    """Its price, some 20 ms of work, is made once for all pools that have it."""

    __slots__ = ()
    prices: ClassVar[dict[str, Price]] = {}

    def price(self) -> Price:
        known = repr(replace(self, static_replicas=(), models=()))
        if known not in self.prices:
            self.prices[known] = super().price()
        return self.prices[known]


def pool_settings(*, replicas: int = 0, **changes: Any) -> PoolSettings:
    """Settings of a pool on L40S GPUs; with `replicas` it has that many static ones, `r0`, `r1`, ..."""
    architecture = find_model("llama-3.1-8b")
    assert architecture is not None
    values: dict[str, Any] = {
        "name": POOL,
        "models": ("llama",),
        "served_model": "llama",
        "architecture": architecture,
        "accelerator": ACCELERATORS["L40S"],
        "kv_capacity_tokens": 100_000,
        "static_replicas": tuple(
            StaticReplica(name=f"r{n}", url=f"http://127.0.0.1:{9000 + n}") for n in range(replicas)
        ),
    }
    return PricedOnce(**(values | changes))


def pool(
    *,
    replicas: int = 0,
    worker: WorkerId = ME,
    weights: Mapping[str, float] | None = None,
    urgent: Callable[[], None] = lambda: None,
    connected: bool = False,
    **changes: Any,
) -> Pool:
    one = Pool(pool_settings(replicas=replicas, **changes), worker=worker, weights=weights, urgent=urgent)
    one.connected = connected
    return one


def tenant(name: str = "blue", **changes: Any) -> TenantSettings:
    """A tenant; what `TenantLimits` has is a limit, the rest is a setting."""
    limits = {field.name: changes.pop(field.name) for field in fields(TenantLimits) if field.name in changes}
    return TenantSettings(name=name, key_sha256=(), limits=TenantLimits(**limits), **changes)


def ticket(name: str = "me:1", *, owner: WorkerId = ME, **changes: Any) -> Ticket:
    values: dict[str, Any] = {
        "tenant": "blue",
        "gpu_s": 1.0,
        "prefill_s": 0.1,
        "prefill_tokens": 100,
        "kv_tokens": 500,
    }
    return Ticket(id=TicketId(name), owner=owner, **(values | changes))


def lease(name: str = "me:1", replica: str = "r0", *, owner: WorkerId = ME, **changes: Any) -> Lease:
    values: dict[str, Any] = {"prefill_s": 0.1, "prefill_tokens": 100, "kv_tokens": 500, "gpu_s": 1.0}
    return Lease(ticket=TicketId(name), replica=ReplicaName(replica), owner=owner, **(values | changes))


def line(tickets: int = 1, gpu_s: float = 1.0, *, priority: int = 3, tenant: str = "red") -> QueueLine:
    return QueueLine(priority=priority, tenant=tenant, tickets=tickets, gpu_s=gpu_s, finish_v=0.0)


def record(name: str = "r0", state: ReplicaState = ReplicaState.READY, *, port: int = 9000) -> ReplicaRecord:
    return ReplicaRecord(name=ReplicaName(name), url=f"http://127.0.0.1:{port}", state=state, created_at_s=5.0)


def report(worker: WorkerId = OTHER, **changes: Any) -> WorkerReport:
    return WorkerReport(worker=worker, started_at_s=1.0, **changes)


def decision(**changes: Any) -> DecisionRecord:
    values: dict[str, Any] = {
        "pool": POOL,
        "at_s": 1.0,
        "mode": "apply",
        "desired": 3,
        "recommended": 4,
        "ready": 2,
        "pending": 1,
        "draining": 0,
        "headline": "bounds",
        "steps": (),
        "offered_load": 1.5,
        "backlog_gpu_s": None,
        "cold_start_s": 40.0,
    }
    return DecisionRecord(**(values | changes))


def view(
    *reports: WorkerReport,
    replicas: tuple[ReplicaRecord, ...] | None = None,
    decided: DecisionRecord | None = None,
    queue: QueueView | None = None,
) -> PoolView:
    seen = tuple(SeenReport(report=one, age_s=0.1) for one in reports)
    return PoolView(
        pool=POOL, read_at_s=1.0, reports=seen, replicas=replicas, decision=decided, queue=queue or QueueView()
    )


def chat(text: str = "hello", **more: Any) -> ParsedRequest:
    """A parsed chat request with one user message."""

    body = {"model": "llama", "messages": [{"role": "user", "content": text}], **more}
    return parse(Endpoint.CHAT, msgspec.json.encode(body))


_seconds = st.floats(0.0, 5.0)
weights = st.builds(weight, _seconds, _seconds, input_tokens=st.integers(1, 40_000), gpus=st.integers(1, 4))
names = st.text("abcdefghr0123456789-", min_size=1, max_size=8)
loads = st.builds(
    Load,
    name=names,
    in_flight=st.integers(0, 80),
    prefill_s=st.floats(0.0, 0.5),
    prefill_tokens=st.integers(0, 20_000),
    kv_tokens=st.integers(0, 120_000),
    progressed_at_s=st.floats(90.0, 110.0),
)
several_loads = st.lists(loads, min_size=1, max_size=12, unique_by=lambda load: load.name)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` in pieces that end at `cuts` (positions are taken modulo its length)."""
    places = sorted({place % (len(data) + 1) for place in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(places)]
