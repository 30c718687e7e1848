"""Which waiting ticket goes next. Pure; the scripts in `backlog/scripts` do the same inside Redis.

Three levels, from the outside in:

1. Priority: the highest band that has an eligible ticket.
2. In a band tenants take turns by start-time fair queueing in GPU-seconds (Goyal, Vin and Cheng, SIGCOMM 1996). A
   tenant's finish tag `F` is what it has been given, in GPU-seconds over its weight; the band's virtual time `V` is the
   highest start tag of a ticket that went. A tenant that begins to wait is brought to `V`, so that it gains nothing by
   having been idle. The tenant with the least `F` goes first; its ticket starts at `F`, and `F` grows by
   `gpu_s / weight`. Backlogged tenants get GPU-seconds in the ratio of their weights, whatever their tickets' sizes and
   arrivals.
3. Inside a tenant the least `arrival + 10 s x gpu_s` goes first: a ticket yields to one that is a GPU-second shorter
   for 10 s, so what it loses by that is bounded by ten times its own weight (policy study, section 3).

Each band has tags of its own. With one `V` for all, a busy high band would carry it past every tenant of the lower
ones, and those would take turns by ticket instead of by GPU-second.

A ticket past its wait bound goes to the head of its tenant and competes in the highest band in which anyone waits, by
its tenant's turn there. No band can starve it, and it does not overtake other tenants: otherwise a tenant that floods
a pool would pass everybody else by waiting.

Worked example: tenants a (weight 1) and b (weight 3), tickets of 1 GPU-second. F grows by 1 for a and by 1/3 for b, so
the order is a b b b a b b b.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from enum import StrEnum

from backlog.records import BANDS, TicketId
from backlog.ticket import DEFAULT_PRIORITY, Ticket

PATIENCE = 10.0
"""Seconds that a ticket yields to one which is a GPU-second shorter (`c` in the policy study)."""
AHEAD_S = 1e9
"""Taken from the key of a ticket that goes before all others of its tenant."""
LEAD_S = 10.0
"""How far from virtual time a tenant can get by anything but its own tickets, in GPU-seconds over its weight.

Ahead: it bounds how long a tenant pays for what it used while nobody waited, and for prices that were too low. Behind:
it bounds what a tenant is still owed for prices that were too high, or after it was held by a limit of its own.
"""

Line = list[tuple[float, TicketId]]
"""One tenant's tickets by key, sorted."""


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
    key_s: float
    overdue: bool = False


@dataclass(slots=True)
class Band:
    """The tickets of one priority and the accounts of its tenants."""

    now_v: float = 0.0
    """Virtual time."""
    finish_v: dict[str, float] = field(default_factory=dict)
    """Finish tag of each tenant that has waited here or was charged."""
    lines: dict[str, Line] = field(default_factory=dict)

    def finish_of(self, tenant: str) -> float:
        """Where a tenant's next ticket starts: not before virtual time, unless the tenant waits and is owed something.

        What it is owed is at most `LEAD_S`.
        """
        floor_v = self.now_v - LEAD_S if tenant in self.lines else self.now_v
        return max(self.finish_v.get(tenant, 0.0), floor_v)


class Queue:
    """Tickets in order, with the tenants' virtual time. `arrived_at_s` is any clock, always the same one."""

    def __init__(self, order: Order = Order.FAIR) -> None:
        self.order = order
        self.bands = [Band() for _ in range(BANDS)]
        self._places: dict[TicketId, _Place] = {}
        self._overdue: dict[str, Line] = {}
        """Tickets past their wait bound, which stand in the line of their band as well."""

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
        place = self._places[ticket.id] = _Place(ticket, arrived_at_s, key_s(self.order, ticket, arrived_at_s))
        band, tenant = self.bands[ticket.priority], ticket.tenant
        if tenant not in band.lines:
            band.finish_v[tenant] = band.finish_of(tenant)
            band.lines[tenant] = []
        insort(band.lines[tenant], (place.key_s, ticket.id))

    def remove(self, ticket: TicketId) -> bool:
        """Take a ticket out, uncharged; whether it was there."""
        place = self._places.pop(ticket, None)
        if place is None:
            return False
        _leave(self.bands[place.ticket.priority].lines, place)
        if place.overdue:
            _leave(self._overdue, place)
        return True

    def promote(self, ticket: TicketId) -> None:
        """A ticket has waited as long as its bound: the highest band where anyone waits, the head of its tenant."""
        place = self._places[ticket]
        if place.overdue:
            return
        tenant = place.ticket.tenant
        line = self.bands[place.ticket.priority].lines[tenant]
        del line[bisect_left(line, (place.key_s, ticket))]
        place.overdue, place.key_s = True, place.arrived_at_s - AHEAD_S
        insort(line, (place.key_s, ticket))
        insort(self._overdue.setdefault(tenant, []), (place.key_s, ticket))

    def head(self, skip: Set[str] = frozenset()) -> Ticket | None:
        """The ticket that goes next; tenants in `skip` are at a limit of their own."""
        top = self._top(skip)
        if top is None:
            return None
        band = self.bands[top]
        waiting = (tenant for tenant in self._competing(band) if tenant not in skip)
        tenant = min(waiting, key=lambda name: (self._rank(band, name), name))
        return self._places[self._line(band, tenant)[0][1]].ticket

    def contested(self, band: int) -> bool:
        """Whether tenants compete in a band."""
        return self.order is Order.FAIR and len(self._competing(self.bands[band])) > 1

    def band_of(self, ticket: TicketId, skip: Set[str] = frozenset()) -> int:
        """The band in which a ticket competes now, while tenants in `skip` are at a limit of their own."""
        place = self._places[ticket]
        top = self._top(skip) if place.overdue else None
        return place.ticket.priority if top is None else top

    def take(self, ticket: TicketId, skip: Set[str] = frozenset()) -> Ticket:
        """Dispatch a ticket: it leaves, its tenant is charged where it competed, virtual time moves to its start.

        `skip` is what `head` was given: an overdue ticket is charged in the band where it won.
        """
        taken = self._places[ticket].ticket
        band = self.bands[self.band_of(ticket, skip)]
        start_v = band.finish_of(taken.tenant)
        self.remove(ticket)
        band.now_v = max(band.now_v, start_v)
        band.finish_v[taken.tenant] = start_v + taken.gpu_s / taken.tenant_weight
        return taken

    def charge(self, tenant: str, tenant_weight: float, gpu_s: float, band: int = DEFAULT_PRIORITY) -> None:
        """Charge work that did not wait here, or (with either sign) the difference to what was really used.

        `band` is the request's priority.
        """
        account = self.bands[band]
        finish_v = account.finish_of(tenant) if gpu_s > 0 else account.finish_v.get(tenant, 0.0)
        charged_v = finish_v + gpu_s / tenant_weight
        if account.lines:
            # What the tenant's own tickets took it ahead by stays.
            charged_v = min(charged_v, max(finish_v, account.now_v + LEAD_S))
        else:
            account.now_v = max(account.now_v, charged_v - LEAD_S)
        account.finish_v[tenant] = charged_v

    def _top(self, skip: Set[str]) -> int | None:
        """The highest band where a tenant outside `skip` waits."""
        for number in reversed(range(BANDS)):
            lines = self.bands[number].lines
            if any(tenant not in skip for tenant in lines) if skip else lines:
                return number
        return None

    def _competing(self, band: Band) -> Set[str]:
        return band.lines.keys() | self._overdue.keys() if self._overdue else band.lines.keys()

    def _line(self, band: Band, tenant: str) -> Line:
        """What a tenant has in a turn of a band: what is overdue, else its line there."""
        return self._overdue[tenant] if tenant in self._overdue else band.lines[tenant]

    def _rank(self, band: Band, tenant: str) -> float:
        return band.finish_of(tenant) if self.order is Order.FAIR else self._line(band, tenant)[0][0]


def _leave(lines: dict[str, Line], place: _Place) -> None:
    tenant = place.ticket.tenant
    line = lines[tenant]
    del line[bisect_left(line, (place.key_s, place.ticket.id))]
    if not line:
        del lines[tenant]
