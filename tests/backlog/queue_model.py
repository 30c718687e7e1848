"""What the scripts of the shared queue must leave in Redis, in plain Python around `backlog.order.Queue`.

A `QueueModel` hears what Redis is told and says what every key must hold then. Only times of arrival come from Redis.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from backlog.order import Order, Queue
from backlog.records import BANDS, Claimed, ReplicaName, TicketId, WorkerId
from backlog.ticket import Charges, Offer, Pending, Ticket
from backlog.turn import Claim

MOST_RETURNED = 64
"""Leases that one report returns, and overdue tickets that one claim moves."""


@dataclass(slots=True)
class Held:
    """A ticket that the queue knows, waiting or leased."""

    ticket: Ticket
    arrived_at_s: float
    bounded: bool = True
    """Whether its wait bound is still to come."""
    overdue: bool = False
    leased_in: int | None = None
    """The band in which its lease was charged."""


@dataclass(slots=True)
class Room:
    """An offer, changed by the leases of one claim."""

    replica: ReplicaName
    fixed_s: float
    in_flight: int
    ahead_s: float
    kv_tokens: int

    def takes(self, ticket: Ticket, limit_s: float, claim: Claim) -> bool:
        fits = self.kv_tokens + ticket.kv_tokens <= claim.kv_capacity_tokens and self.ahead_s <= limit_s
        has_slot = claim.max_in_flight is None or self.in_flight < claim.max_in_flight
        return self.in_flight <= 0 or (fits and has_slot)

    def score_s(self, ticket: Ticket) -> float:
        return self.fixed_s + self.in_flight * ticket.crowd_s

    def add(self, ticket: Ticket) -> None:
        self.fixed_s += ticket.prefill_s
        self.ahead_s += ticket.prefill_s
        self.in_flight += 1
        self.kv_tokens += ticket.kv_tokens


@dataclass(slots=True)
class QueueModel:
    order: Order
    queue: Queue = field(init=False)
    known: dict[TicketId, Held] = field(default_factory=dict)
    alive: dict[WorkerId, bool] = field(default_factory=dict)
    flying: dict[WorkerId, dict[str, float]] = field(default_factory=dict)
    mail: dict[WorkerId, list[tuple[str, TicketId]]] = field(default_factory=lambda: defaultdict(list))
    """Letter and ticket, without wake-ups, whose rate the clock limits."""
    batches: dict[WorkerId, int] = field(default_factory=dict)
    claimed: dict[ReplicaName, Claimed] = field(default_factory=dict)
    draining: set[ReplicaName] = field(default_factory=set)
    returning: set[TicketId] = field(default_factory=set)
    """Leases that have run out."""
    past_bound: set[TicketId] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.queue = Queue(self.order)

    # Turns

    def report(self, worker: WorkerId, flying: Mapping[str, float]) -> int:
        self._return_leases()
        for one in [one for one, alive in self.alive.items() if not alive]:
            self._forget(one)
        self.alive[worker] = True
        self.flying[worker] = dict(flying)
        return len(self.owned(worker))

    def start(self, ids: Sequence[TicketId]) -> None:
        for id_ in ids:
            if id_ in self.queue:
                self.queue.take(id_)
            self.drop(id_)

    def evict(self, ids: Sequence[TicketId]) -> None:
        for id_ in ids:
            self._refund(id_)
            self.drop(id_)

    def settle(self, worker: WorkerId, charges: Charges) -> None:
        if charges.number <= self.batches.get(worker, 0):
            return
        self.batches[worker] = charges.number
        for (tenant, band), (weight, gpu_s) in charges.tenants.items():
            self.queue.charge(tenant, weight, gpu_s, band)
        for replica, sent in charges.replicas.items():
            self._claim_for(replica, sent)

    def enqueue(self, worker: WorkerId, pending: Sequence[Pending], most: int, now_us: int) -> list[TicketId]:
        """The tickets of `worker` that found no place."""
        self.alive.setdefault(worker, True)
        turned_away: list[TicketId] = []
        for one in pending:
            ticket = one.ticket
            was_known = ticket.id in self.known
            self._refund(ticket.id)
            self.drop(ticket.id)
            if not was_known and len(self.queue) >= most:
                given_way = self._last_of_longest_line(ticket)
                if given_way is None:
                    turned_away.append(ticket.id)
                    continue
                owner = self.known[given_way].ticket.owner
                self.drop(given_way)
                if owner == worker:
                    turned_away.append(given_way)
                else:
                    self.mail[owner].append(("E", given_way))
            held = self.known[ticket.id] = Held(ticket, now_us / 1e6 - one.waited_s)
            self.queue.add(ticket, held.arrived_at_s)
            if one.bound_s <= one.waited_s:
                self.past_bound.add(ticket.id)
        return turned_away

    def claim(self, worker: WorkerId, claim: Claim) -> tuple[str, set[str], list[tuple[TicketId, ReplicaName]]]:
        """Why it stops, the tenants at a limit, the leases in order."""
        if not self.queue:
            return "empty", set(), []
        self._promote()
        offers = [self._room(offer) for offer in claim.offers if offer.replica not in self.draining]
        leases: list[tuple[TicketId, ReplicaName]] = []
        skip: set[str] = set()
        while len(leases) < claim.most:
            found = self._next(skip)
            if found is None:
                return "held" if skip else "empty", skip, leases
            ticket, band = found
            limit_s = claim.contested_s if self.queue.contested(band) else claim.budget_s
            usable = [offer for offer in offers if offer.replica not in ticket.avoid] or offers
            usable = [offer for offer in usable if offer.takes(ticket, limit_s, claim)]
            if not usable:
                return "room", skip, leases
            best = min(usable, key=lambda offer: offer.score_s(ticket))
            best.add(ticket)
            self.queue.take(ticket.id, skip)
            self.known[ticket.id].leased_in = band
            sent = Claimed(prefill_s=ticket.prefill_s, kv_tokens=ticket.kv_tokens, requests=1)
            self._claim_for(best.replica, sent)
            leases.append((ticket.id, best.replica))
            if ticket.owner != worker:
                self.mail[ticket.owner].append(("L", ticket.id))
        return "most", skip, leases

    # Other events

    def leave(self, worker: WorkerId, *, stays: bool) -> None:
        for id_ in self.owned(worker):
            self._refund(id_)
        if stays:
            for id_ in self.owned(worker):
                self.drop(id_)
            self.mail.pop(worker, None)
        else:
            self._forget(worker)

    def list_replicas(self, names: AbstractSet[ReplicaName], draining: AbstractSet[ReplicaName]) -> None:
        self.draining = set(draining)
        self.claimed = {name: value for name, value in self.claimed.items() if name in names}

    # What it knows

    def owned(self, worker: WorkerId) -> set[TicketId]:
        return {id_ for id_, held in self.known.items() if held.ticket.owner == worker}

    @property
    def leased(self) -> dict[TicketId, int]:
        """Ticket -> the band in which its lease was charged."""
        return {id_: held.leased_in for id_, held in self.known.items() if held.leased_in is not None}

    def drop(self, id_: TicketId) -> None:
        self.queue.remove(id_)
        self.known.pop(id_, None)
        self.returning.discard(id_)
        self.past_bound.discard(id_)

    def _forget(self, worker: WorkerId) -> None:
        for id_ in self.owned(worker):
            self.drop(id_)
        for by_worker in (self.alive, self.flying, self.mail):
            by_worker.pop(worker, None)  # type: ignore[attr-defined]

    def _refund(self, id_: TicketId) -> None:
        held = self.known.get(id_)
        if held is not None and held.leased_in is not None:
            finish_v = self.queue.bands[held.leased_in].finish_v
            finish_v[held.ticket.tenant] -= held.ticket.gpu_s / held.ticket.tenant_weight

    def _return_leases(self) -> None:
        for id_ in sorted(self.returning)[:MOST_RETURNED]:
            held = self.known[id_]
            self._refund(id_)
            held.leased_in = None
            self.returning.discard(id_)
            self.queue.add(held.ticket, held.arrived_at_s)
            if held.overdue:
                self.queue.promote(id_)

    def _promote(self) -> None:
        assert len(self.past_bound) <= MOST_RETURNED
        for id_ in self.past_bound:
            held = self.known[id_]
            held.bounded, held.overdue = False, True
            if held.leased_in is None:
                self.queue.promote(id_)
        self.past_bound.clear()

    def _next(self, skip: set[str]) -> tuple[Ticket, int] | None:
        """The ticket that goes next and where; adds to `skip`, drops the tickets of the dead."""
        while (ticket := self.queue.head(skip)) is not None:
            if not self.alive.get(ticket.owner, False):
                self.drop(ticket.id)
            elif not self._within_limit(ticket):
                skip.add(ticket.tenant)
            else:
                return ticket, self.queue.band_of(ticket.id, skip)
        return None

    def _within_limit(self, ticket: Ticket) -> bool:
        if ticket.concurrent_gpu_s is None:
            return True
        flying = sum(one.get(ticket.tenant, 0.0) for worker, one in self.flying.items() if self.alive[worker])
        leased = [self.known[id_].ticket for id_ in self.leased]
        flying += sum(one.gpu_s for one in leased if one.tenant == ticket.tenant)
        return flying <= 1e-9 or flying + ticket.gpu_s <= ticket.concurrent_gpu_s

    def _room(self, offer: Offer) -> Room:
        claimed = self.claimed.get(offer.replica, Claimed())
        more_s = max(0.0, claimed.prefill_s - offer.known.prefill_s)
        more_tokens = max(0, claimed.kv_tokens - offer.known.kv_tokens)
        more = max(int(more_s > 1e-6 or more_tokens > 0), claimed.requests - offer.known.requests)
        return Room(
            offer.replica,
            offer.fixed_s + more_s,
            offer.in_flight + more,
            offer.ahead_s + more_s,
            offer.kv_tokens + more_tokens,
        )

    def _claim_for(self, replica: ReplicaName, sent: Claimed) -> None:
        self.claimed[replica] = self.claimed.get(replica, Claimed()) + sent

    def _last_of_longest_line(self, ticket: Ticket) -> TicketId | None:
        """The ticket that gives way to this one in a full queue."""
        for number, band in enumerate(self.queue.bands[: ticket.priority + 1]):
            longest = min(band.lines.items(), key=lambda named: (-len(named[1]), named[0]), default=None)
            if longest is None:
                continue
            own = len(band.lines.get(ticket.tenant, ()))
            if number < ticket.priority or len(longest[1]) > own + 1:
                return longest[1][-1][1]
        return None

    def rank(self, number: int, tenant: str) -> float:
        """The score of a tenant that waits in a band."""
        band = self.queue.bands[number]
        return band.finish_v[tenant] if self.order is Order.FAIR else band.lines[tenant][0][0]


assert BANDS == 8
