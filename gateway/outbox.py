"""What a worker has to tell the shared queue of a pool, collected until the next turn. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from backlog.records import Claimed, ReplicaName, TicketId
from backlog.ticket import Charges, Pending, Ticket


@dataclass(slots=True)
class Letter:
    """The part of a turn that comes from an outbox, and what is needed when it gets lost."""

    enqueue: list[Pending] = field(default_factory=list)
    start: list[TicketId] = field(default_factory=list)
    evict: list[TicketId] = field(default_factory=list)
    charges: Charges | None = None


class Outbox:
    """`known` are the own tickets that Redis has, as far as it has answered.

    A letter is repeated until it is answered: everything in it may arrive twice. Its batch of charges keeps its number;
    what is charged meanwhile goes into the next one.
    """

    def __init__(self) -> None:
        self.known: set[TicketId] = set()
        self._enqueue: dict[TicketId, tuple[Ticket, float, float]] = {}
        self._start: list[TicketId] = []
        self._evict: dict[TicketId, None] = {}
        """In order, each once."""
        self._tenants: dict[tuple[str, int], tuple[float, float]] = {}
        self._replicas: dict[ReplicaName, Claimed] = {}
        self._number = 0
        self._unanswered: Charges | None = None
        self._sent: Letter | None = None

    @property
    def urgent(self) -> bool:
        """Whether somebody waits for what is in here."""
        return bool(self._enqueue or self._evict)

    @property
    def empty(self) -> bool:
        return not (self.urgent or self._start or self._tenants or self._replicas or self._unanswered)

    @property
    def enqueuing_gpu_s(self) -> float:
        """Work on its way into the queue, which no view shows yet."""
        return sum(ticket.gpu_s for ticket, _, _ in self._enqueue.values())

    def enqueue(self, ticket: Ticket, arrived_at_s: float, bound_s: float) -> None:
        """A ticket waits, or waits again."""
        self._enqueue[ticket.id] = (ticket, arrived_at_s, bound_s)

    def withdraw(self, ticket: TicketId) -> None:
        """A ticket will not run."""
        if self._enqueue.pop(ticket, None) is None or ticket in self.known or self._is_sent(ticket):
            self._evict[ticket] = None

    def started(self, ticket: TicketId) -> None:
        """A leased ticket has been sent."""
        self._enqueue.pop(ticket, None)
        self._start.append(ticket)

    def sent(self, tenant: str, priority: int, tenant_weight: float, gpu_s: float) -> None:
        """Work ran without a lease; or what was charged differs from what was used, with either sign."""
        weight, before_gpu_s = self._tenants.get((tenant, priority), (tenant_weight, 0.0))
        self._tenants[tenant, priority] = (weight, before_gpu_s + gpu_s)

    def burdened(self, replica: str, prefill_s: float, kv_tokens: int) -> None:
        """A replica was given a request without a lease."""
        name, more = ReplicaName(replica), Claimed(prefill_s=prefill_s, kv_tokens=kv_tokens, requests=1)
        self._replicas[name] = self._replicas.get(name, Claimed()) + more

    def write(self, now_s: float, *, report: bool = True) -> Letter:
        """Everything that is here. Must be followed by `answered` or `lost`.

        Without a `report` in the same turn leases do not end: their work would be known to nobody until the next one.
        """
        if self._unanswered is None and (self._tenants or self._replicas):
            self._number += 1
            self._unanswered = Charges(number=self._number, tenants=self._tenants, replicas=self._replicas)
            self._tenants, self._replicas = {}, {}
        letter = Letter(
            enqueue=[
                Pending(ticket=ticket, waited_s=max(now_s - arrived_at_s, 0.0), bound_s=bound_s)
                for ticket, arrived_at_s, bound_s in self._enqueue.values()
            ],
            start=self._start if report else [],
            evict=list(self._evict),
            charges=self._unanswered,
        )
        self._enqueue, self._start, self._evict = {}, [] if report else self._start, {}
        self._sent = letter
        return letter

    def answered(self, turned_away: Sequence[TicketId]) -> Mapping[ReplicaName, Claimed]:
        """The letter has arrived. Gives the work that the replicas are known to have because of it."""
        letter, self._sent = self._sent, None
        assert letter is not None
        self.known.difference_update(letter.start, letter.evict)
        self.known.update(pending.ticket.id for pending in letter.enqueue)
        self.known.difference_update(turned_away)
        charges, self._unanswered = self._unanswered, None
        return charges.replicas if charges is not None else {}

    def lost(self) -> None:
        """Nobody knows whether the letter arrived. Tickets are not repeated: see `reset`."""
        self._sent = None

    def gone(self, ticket: TicketId) -> None:
        """Redis has dropped a ticket of its own accord."""
        self.known.discard(ticket)

    def reset(self) -> None:
        """Redis is told everything anew: what waits is enqueued by the caller, what was to leave is not there."""
        self.known.clear()
        self._enqueue, self._start, self._evict = {}, [], {}

    def _is_sent(self, ticket: TicketId) -> bool:
        return self._sent is not None and any(pending.ticket.id == ticket for pending in self._sent.enqueue)
