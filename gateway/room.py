"""The requests of one worker that wait for a pool, each with its ticket and a deadline."""

from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Generic, TypeVar

from backlog.order import Order, Queue
from backlog.records import Lease, TicketId
from backlog.ticket import Ticket
from estimator.price import Weight
from gateway.wait import WaitEstimate

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Seat(Generic[T]):
    """One waiting request. `taken` turns false when it leaves for whatever reason."""

    guest: T
    ticket: Ticket
    weight: Weight
    arrived_at_s: float
    deadline_at_s: float
    told: WaitEstimate | None = None
    """What it was told about its wait."""
    taken: bool = field(default=True)


class WaitingRoom(Generic[T]):
    """Sums over the waiting requests are exact at all times: a request that leaves is subtracted at once.

    `queue` has the own requests in order: what counts while Redis is away.
    """

    __slots__ = ("_deadlines", "_entered", "_seats", "gpu_s", "kv_tokens", "prefill_s", "queue")

    def __init__(self, order: Order = Order.FAIR) -> None:
        self.queue = Queue(order)
        self._seats: dict[TicketId, Seat[T]] = {}
        self._deadlines: list[tuple[float, int, Seat[T]]] = []
        self._entered = 0
        self.gpu_s = 0.0
        self.prefill_s = 0.0
        self.kv_tokens = 0

    @property
    def count(self) -> int:
        return len(self._seats)

    @property
    def seats(self) -> list[Seat[T]]:
        return list(self._seats.values())

    @property
    def tickets(self) -> Set[TicketId]:
        return self._seats.keys()

    def seat_of(self, ticket: TicketId) -> Seat[T] | None:
        return self._seats.get(ticket)

    def queued(self, known: Set[TicketId], leases: Iterable[Lease]) -> int:
        """How many of the requests here wait in the shared queue: those that it knows, and has not leased."""
        return len((known & self._seats.keys()) - {lease.ticket for lease in leases})

    def enter(self, seat: Seat[T]) -> None:
        """Take a seat. Its ticket's id must not be here already."""
        self._seats[seat.ticket.id] = seat
        self._entered += 1
        heappush(self._deadlines, (seat.deadline_at_s, self._entered, seat))
        self.queue.add(seat.ticket, seat.arrived_at_s)
        self.gpu_s += seat.weight.gpu_s
        self.prefill_s += seat.weight.prefill_s
        self.kv_tokens += seat.weight.kv_tokens

    def leave(self, seat: Seat[T]) -> None:
        """Give up a seat; a second call changes nothing."""
        if not seat.taken:
            return
        seat.taken = False
        del self._seats[seat.ticket.id]
        self.queue.remove(seat.ticket.id)
        self.kv_tokens -= seat.weight.kv_tokens
        # An empty room holds exactly no work: float sums would drift over millions of requests.
        self.gpu_s = self.gpu_s - seat.weight.gpu_s if self._seats else 0.0
        self.prefill_s = self.prefill_s - seat.weight.prefill_s if self._seats else 0.0

    def oldest_at_s(self) -> float | None:
        """The arrival of the request that has waited longest, on the worker's clock."""
        return min((seat.arrived_at_s for seat in self._seats.values()), default=None)

    def expired(self, now_s: float) -> list[Seat[T]]:
        """The seats whose deadline has passed, each given once; they are still taken."""
        due = []
        while self._deadlines and (self._deadlines[0][0] <= now_s or not self._deadlines[0][2].taken):
            _, _, seat = heappop(self._deadlines)
            if seat.taken:
                due.append(seat)
        return due
