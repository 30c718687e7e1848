"""What gateway workers and the autoscaler tell each other: plain values, no Redis.

Instants are seconds since the epoch (`_at_s`). `PoolView.read_at_s` and the ages in a view come from the Redis clock,
so that hosts whose clocks differ still agree on what is stale.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

PoolName = NewType("PoolName", str)
ReplicaName = NewType("ReplicaName", str)
WorkerId = NewType("WorkerId", str)
TicketId = NewType("TicketId", str)
"""Unique over all workers of a pool."""


BANDS = 8
"""Priorities are 0 to `BANDS - 1`, higher first: the number of bands is bounded, as each one is looked at."""


class ReplicaState(StrEnum):
    """Where a replica is in its life. Gateways send work to `READY` replicas only."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaRecord:
    """One replica as its scaler knows it. `url` has scheme, host and port, e.g. `http://127.0.0.1:8001`."""

    name: ReplicaName
    url: str
    state: ReplicaState
    created_at_s: float
    ready_at_s: float | None = None
    gpu: str | None = None
    """The GPU that it runs on, where a scaler knows it."""
    ratio: float = 1.0
    """Seconds that this replica takes for one second of its pool's price, by its GPU. Above 0."""
    drained: bool = False
    """Of one that drains: it may go, or is going; nobody waits for it any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaShare:
    """The work that one gateway worker has in flight on one replica, in that replica's seconds."""

    in_flight: int
    prefill_s: float
    """Prefill sent and not yet past its first token."""
    prefill_tokens: int
    kv_tokens: int
    """Predicted peak KV footprint of what is in flight."""
    remaining_gpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """One gateway worker's whole state for one pool. Absolute, never a delta: publishing it twice changes nothing.

    `arrived`, `arrived_gpu_s`, `settled`, `ttft_misses`, `tpot_misses` and `attributed_s` only grow while the worker
    lives; readers take differences per worker. A miss is a settled request over its pool's SLO.
    `arrived_gpu_s` is in seconds of the pool's own GPU, whatever runs now: replicas are counted in it. The rest is in
    the seconds that the pool's replicas take.
    """

    worker: WorkerId
    started_at_s: float
    waiting: int = 0
    waiting_gpu_s: float = 0.0
    waiting_prefill_s: float = 0.0
    waiting_kv_tokens: int = 0
    oldest_waiting_at_s: float | None = None
    arrived: int = 0
    arrived_gpu_s: float = 0.0
    settled: int = 0
    ttft_misses: int = 0
    tpot_misses: int = 0
    attributed_s: Mapping[ReplicaName, float] = field(default_factory=dict)
    """Shares of all tokens that each replica has computed for this worker, in that replica's seconds, uncalibrated."""
    running: Mapping[ReplicaName, ReplicaShare] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenReport:
    """A report and how long ago its worker published it."""

    report: WorkerReport
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One step of a scaling decision: replicas before and after it, and why."""

    name: str
    before: int
    after: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRecord:
    """One input of a scaling decision: what was read, or why it is not known."""

    name: str
    value: str | None
    """In words. `None` is unknown, which is not zero."""
    age_s: float | None
    """Of what was read; of an unknown value, since it was last known. `None` where no age is kept."""
    cause: str = ""
    """Why it is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """What the autoscaler decided, with the steps that led there. `headline` is the reason of the binding step.

    `None` in a measured field means unknown, which is not zero.
    """

    pool: PoolName
    at_s: float
    mode: str
    """`apply` or `advisory`."""
    desired: int
    recommended: int
    ready: int
    pending: int
    draining: int
    headline: str
    steps: tuple[StepRecord, ...]
    offered_load: float | None
    """Arriving GPU-seconds per second, divided by the GPUs of a replica: erlangs."""
    backlog_gpu_s: float | None
    cold_start_s: float | None
    inputs: tuple[InputRecord, ...] = ()
    """What it rests on. Empty in records of versions that did not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalarRecord:
    """How much slower one replica is than its price says (`estimator.calibrate.Scalar`)."""

    log_ratio: float
    quick_log_ratio: float
    periods: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRecord:
    """What has been learned of a pool's replicas. It holds for one price only: `price` identifies that."""

    price: str
    replicas: Mapping[ReplicaName, ScalarRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLine:
    """The waiting tickets of one tenant in one priority band."""

    priority: int
    tenant: str
    tickets: int
    gpu_s: float
    finish_v: float
    """The tenant's finish tag in this band (`backlog.order`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to send one ticket to one replica, for a short time."""

    ticket: TicketId
    replica: ReplicaName
    owner: WorkerId
    prefill_s: float
    prefill_tokens: int
    kv_tokens: int
    gpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """All work that was ever claimed for one replica, by lease or by an idle dispatch. It only grows."""

    prefill_s: float = 0.0
    kv_tokens: int = 0
    requests: int = 0

    def __add__(self, more: "Claimed") -> "Claimed":
        return Claimed(
            prefill_s=self.prefill_s + more.prefill_s,
            kv_tokens=self.kv_tokens + more.kv_tokens,
            requests=self.requests + more.requests,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """What waits in Redis, over all workers, and what is leased but not yet in its owner's report."""

    now_v: tuple[float, ...] = (0.0,) * BANDS
    """Virtual time of each priority band (`backlog.order`)."""
    waiting_age_s: float | None = None
    """How long there has been a waiting ticket without a break; `None` when nothing waits."""
    lines: tuple[QueueLine, ...] = ()
    leases: tuple[Lease, ...] = ()
    claimed: Mapping[ReplicaName, Claimed] = field(default_factory=dict)

    @property
    def tickets(self) -> int:
        return sum(line.tickets for line in self.lines)

    @property
    def gpu_s(self) -> float:
        return sum(line.gpu_s for line in self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """Everything in Redis about one pool at one instant.

    `replicas` is `None` when no scaler has published a list lately (unknown); an empty tuple means zero replicas.
    `reports` holds live workers only: a worker that stopped publishing drops out after the heartbeat limit.
    """

    pool: PoolName
    read_at_s: float
    reports: tuple[SeenReport, ...]
    replicas: tuple[ReplicaRecord, ...] | None
    decision: DecisionRecord | None
    queue: QueueView = QueueView()
