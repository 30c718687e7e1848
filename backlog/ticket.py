"""One waiting request and what becomes of it: plain values, no Redis.

A ticket belongs to the worker that holds the client's connection, its owner. The owner alone sends the request; what is
in Redis says in which order, and a lease is the permission.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from backlog.records import Claimed, ReplicaName, TicketId, WorkerId

DEFAULT_PRIORITY = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What the order and the dispatch of one request depend on. Seconds are one replica's, `gpu_s` counts its GPUs."""

    id: TicketId
    owner: WorkerId
    tenant: str
    priority: int = DEFAULT_PRIORITY
    tenant_weight: float = 1.0
    """The tenant's share of a busy pool relative to other tenants."""
    gpu_s: float
    prefill_s: float
    prefill_tokens: int
    kv_tokens: int
    crowd_s: float = 0.0
    """What each request that runs on a replica already adds to the pick score of this one."""
    first: bool = False
    """Ahead of its tenant's other tickets: it was sent before, and its replica failed."""
    avoid: tuple[ReplicaName, ...] = ()
    """Replicas that failed on it: used only while there is no other."""
    concurrent_gpu_s: float | None = None
    """Its tenant's most GPU-seconds in flight."""
    prefill_pace: float | None = None
    """Its tenant's most prefill seconds started per second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A replica that could take work, as the claiming worker sees it: a line over a ticket's `crowd_s`.

    The pick score of a ticket on this replica is `fixed_s + in_flight * crowd_s` (`gateway.pick`).
    """

    replica: ReplicaName
    fixed_s: float
    in_flight: int
    ahead_s: float
    """Outstanding prefill less progress."""
    kv_tokens: int
    known: Claimed
    """Of all work ever claimed here, what this worker's numbers contain already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A ticket on its way into the queue. Its times are relative: workers' clocks do not matter."""

    ticket: Ticket
    waited_s: float
    bound_s: float
    """After so long since its arrival it goes to the highest band and to the head of its tenant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charges:
    """Work that was sent without a lease, and corrections of what was charged. Numbers of a worker's batches grow."""

    number: int
    tenants: Mapping[tuple[str, int], tuple[float, float]] = field(default_factory=dict)
    """Tenant and priority -> the tenant's weight, GPU-seconds (of either sign)."""
    replicas: Mapping[ReplicaName, Claimed] = field(default_factory=dict)
    """What was sent to each replica."""
