"""Which waiting ticket goes next. Pure; the scripts in `backlog/scripts` do the same inside Redis.

Three levels, from the outside in:

1. Priority: the highest band that has an eligible ticket.
2. Tenants take turns by start-time fair queueing in GPU-seconds (Goyal, Vin and Cheng, SIGCOMM 1996). A tenant's
   finish tag `F` is what it has been given, in GPU-seconds over its weight; the pool's virtual time `V` is the start
   tag of the ticket that went last. A ticket starts at `S = max(V, F)`; the tenant with the least `F` goes first, then
   `F = S + gpu_s / weight`. Backlogged tenants get GPU-seconds in the ratio of their weights, whatever their tickets'
   sizes and arrivals.
3. Inside a tenant the least `arrival + 10 s x gpu_s` goes first: a ticket yields to one that is a GPU-second shorter
   for 10 s, so what it loses by that is bounded by ten times its own weight (policy study, section 3).

A ticket past its wait bound moves to the highest band and to the head of its tenant. It does not overtake other
tenants: a tenant that floods a pool would pass everybody else by waiting.

Worked example: tenants a (weight 1) and b (weight 3), tickets of 1 GPU-second. F grows by 1 for a and by 1/3 for b, so
the order is a b b b a b b b.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Set
from dataclasses import dataclass
from enum import StrEnum

from backlog.records import TicketId
from backlog.ticket import BANDS, Ticket

PATIENCE = 10.0
"""Seconds that a ticket yields to one which is a GPU-second shorter (`c` in the policy study)."""
AHEAD_S = 1e9
"""Taken from the key of a ticket that goes before all others of its tenant."""
LEAD_S = 10.0
"""The most that work outside the queue puts a tenant ahead of virtual time, in GPU-seconds over its weight.

It bounds how long a tenant pays for what it used while nobody waited, and for prices that were wrong.
"""


class Order(StrEnum):
    """How a pool orders what waits. Priorities, wait bounds and limits hold in each of them."""

    FAIR = "fair"
    """Tenants take turns by GPU-seconds; inside a tenant shorter work goes first, with a bound."""
    SHORTEST = "shortest"
    """Shorter work first, with the same bound, whosever it is."""
    FCFS = "fcfs"
    """First come, first served."""


def key_s(order: Order, ticket: Ticket, arrived_at_s: float) -> float:
    """The key of a ticket among its tenant's: the least goes first."""
    if ticket.first:
        return arrived_at_s - AHEAD_S
    return arrived_at_s if order is Order.FCFS else arrived_at_s + PATIENCE * ticket.gpu_s


@dataclass(slots=True)
class _Place:
    """Where a ticket stands."""

    ticket: Ticket
    arrived_at_s: float
    band: int
    key_s: float


class Queue:
    """Tickets in order, with the tenants' virtual time. `arrived_at_s` is any clock, always the same one."""

    def __init__(self, order: Order = Order.FAIR) -> None:
        self.order = order
        self.now_v = 0.0
        """Virtual time."""
        self.finish_v: dict[str, float] = {}
        """Finish tag of each tenant that was given anything."""
        self._places: dict[TicketId, _Place] = {}
        self._bands: list[dict[str, list[tuple[float, TicketId]]]] = [{} for _ in range(BANDS)]

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, ticket: TicketId) -> bool:
        return ticket in self._places

    def __iter__(self) -> Iterator[Ticket]:
        """In the order of arrival here, not in the order of dispatch."""
        return (place.ticket for place in self._places.values())

    def add(self, ticket: Ticket, arrived_at_s: float) -> None:
        """Let a ticket wait. One with the same id is replaced."""
        self.remove(ticket.id)
        place = _Place(ticket, arrived_at_s, ticket.priority, key_s(self.order, ticket, arrived_at_s))
        self._places[ticket.id] = place
        insort(self._bands[place.band].setdefault(ticket.tenant, []), (place.key_s, ticket.id))

    def remove(self, ticket: TicketId) -> bool:
        """Take a ticket out, uncharged; whether it was there."""
        place = self._places.pop(ticket, None)
        if place is None:
            return False
        self._leave(place)
        return True

    def promote(self, ticket: TicketId) -> None:
        """A ticket has waited as long as its bound: the highest band, the head of its tenant."""
        place = self._places[ticket]
        self._leave(place)
        place.band, place.key_s = BANDS - 1, place.arrived_at_s - AHEAD_S
        insort(self._bands[place.band].setdefault(place.ticket.tenant, []), (place.key_s, ticket))

    def head(self, skip: Set[str] = frozenset()) -> Ticket | None:
        """The ticket that goes next; tenants in `skip` are at a limit of their own."""
        for band in reversed(self._bands):
            waiting = [tenant for tenant in band if tenant not in skip] if skip else band
            if waiting:
                tenant = min(waiting, key=lambda name: (self._rank(band, name), name))
                return self._places[band[tenant][0][1]].ticket
        return None

    def contested(self, band: int) -> bool:
        """Whether tenants compete in a band."""
        return self.order is Order.FAIR and len(self._bands[band]) > 1

    def band_of(self, ticket: TicketId) -> int:
        """The band in which a ticket waits now."""
        return self._places[ticket].band

    def take(self, ticket: TicketId) -> Ticket:
        """Dispatch a ticket: it leaves, its tenant is charged, virtual time moves to its start tag."""
        taken = self._places[ticket].ticket
        self.remove(ticket)
        start_v = max(self.now_v, self.finish_v.get(taken.tenant, 0.0))
        self.now_v = start_v
        self.finish_v[taken.tenant] = start_v + taken.gpu_s / taken.tenant_weight
        return taken

    def charge(self, tenant: str, tenant_weight: float, gpu_s: float) -> None:
        """Charge work that did not wait here, or (with either sign) the difference to what was really used."""
        finish_v = self.finish_v.get(tenant, 0.0)
        if gpu_s > 0:
            finish_v = max(finish_v, self.now_v)
        finish_v += gpu_s / tenant_weight
        if self._places:
            finish_v = min(finish_v, self.now_v + LEAD_S)
        else:
            self.now_v = max(self.now_v, finish_v - LEAD_S)
        self.finish_v[tenant] = finish_v

    def _rank(self, band: dict[str, list[tuple[float, TicketId]]], tenant: str) -> float:
        return self.finish_v.get(tenant, 0.0) if self.order is Order.FAIR else band[tenant][0][0]

    def _leave(self, place: _Place) -> None:
        band, tenant = self._bands[place.band], place.ticket.tenant
        line = band[tenant]
        del line[bisect_left(line, (place.key_s, place.ticket.id))]
        if not line:
            del band[tenant]
