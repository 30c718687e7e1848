"""One pool in one gateway worker: admit requests, let them wait, send them on, report what there is.

While Redis answers, what waits is in the shared queue and a lease says what goes next. While it is away the worker
orders its own requests in the same way and uses its share of every replica.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from backlog.records import Claimed, Lease, PoolView, ReplicaName, TicketId, WorkerId, WorkerReport
from backlog.ticket import Ticket
from backlog.turn import Claim, Claims
from estimator.price import Weight
from gateway import pick
from gateway.fleet import Fleet, share_of
from gateway.outbox import Outbox
from gateway.outcome import Outcome, Refusal
from gateway.outlook import NOTHING_WAITS, Outlook
from gateway.replica import Replica
from gateway.rivals import Rivals
from gateway.room import Seat, WaitingRoom
from gateway.settings import PoolSettings, TenantSettings
from gateway.solo import Solo
from gateway.stats import PoolStats
from gateway.wait import WaitEstimate
from gateway.weigher import Weigher, token_count

if TYPE_CHECKING:
    from gateway.scheduled import Scheduled

URGENT_PREFILL_S = 0.1
"""A request that adds more prefill than this is published at once: another gateway must not pick the same replica."""
MOST_RETRY_S = 600.0


class Pool:
    """Mutable state of a pool. The event loop is its lock: no method awaits."""

    def __init__(
        self,
        settings: PoolSettings,
        *,
        worker: WorkerId,
        weights: Mapping[str, float] | None = None,
        urgent: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.worker = worker
        self.price = settings.price()
        self.rule = settings.pick_rule(self.price)
        self.stats = PoolStats()
        self.fleet = Fleet(settings, worker=worker, price=self.price)
        self.weigher = Weigher(self.price, self.fleet.calibration, count=token_count(settings))
        self.room: WaitingRoom[Scheduled] = WaitingRoom(settings.order)
        self.outbox = Outbox()
        self.outlook = Outlook(order=settings.order, gpus=self.price.gpus, weights=weights or {})
        self.solo = Solo()
        self.connected = False
        """Redis answers: the shared order holds."""
        self.waiting_elsewhere = 0
        self.held: frozenset[str] = frozenset()
        """Tenants whose next ticket waited for a limit of their own when this worker claimed last."""
        self.flying: dict[str, float] = {}
        """GPU-seconds in flight here of tenants with a limit on it."""
        self.rivals = Rivals()
        self.changed = True
        self.report_now = False
        self.claim_now = False
        self.measured_cold_start_s: float | None = None
        self._urgent = urgent
        self._numbers = 0
        self._arrived = 0
        self._arrived_gpu_s = 0.0
        self._settled = 0
        self._ttft_misses = 0
        self._tpot_misses = 0

    @property
    def replicas(self) -> dict[str, Replica]:
        return self.fleet.replicas

    @property
    def ready(self) -> int:
        return self.fleet.ready

    # Admission

    def arrive(self, weight: Weight) -> None:
        """Count a request's work as offered load, in seconds of the pool's own GPU, whether it is served or not."""
        self._arrived += 1
        self._arrived_gpu_s += weight.gpu_s / self.fleet.calibration.mixed
        self.changed = True

    def choose(self, weight: Weight, now_s: float, *, avoid: Iterable[str], salt: int) -> pick.Pick | None:
        """The replica to use now, or `None` when none has room. `avoid` holds while another replica is usable."""
        rule = self.solo.rule(self.rule, away=not self.connected)
        return pick.pick(self.fleet.usable(now_s, avoid=avoid), weight, rule, now_s, salt=salt)

    def idle(self, tenant: TenantSettings) -> bool:
        """Whether a request may go past the queue: nobody waits, and no limit or slot needs to be looked at there."""
        if self.room.count or self.waiting_elsewhere:
            return False
        if self.connected and self.solo.share < 1.0 and self.settings.leases_slots:
            return False  # other workers count the same slots
        limits = tenant.limits
        return limits.concurrent_gpu_s is None and limits.prefill_pace is None

    @property
    def full(self) -> bool:
        """Whether a request is turned away here. While Redis answers, the queue itself says who gives way."""
        return self.room.count >= self.settings.max_waiting * (2 if self.connected else 1)

    def enter(self, guest: "Scheduled", now_s: float, *, first: bool) -> Seat["Scheduled"]:
        """Let a request wait; `pump` afterwards. `first`: it was sent before, and comes back."""
        self._numbers += 1
        tenant, weight = guest.payer, guest.weight
        ticket = Ticket(
            id=TicketId(f"{self.worker}:{self._numbers}"),
            owner=self.worker,
            tenant=tenant.name,
            priority=guest.priority,
            tenant_weight=tenant.weight,
            gpu_s=weight.gpu_s,
            prefill_s=weight.prefill_s,
            prefill_tokens=weight.input_tokens - weight.cached_tokens,
            kv_tokens=weight.kv_tokens,
            crowd_s=pick.crowd_s(weight, self.rule),
            first=first,
            avoid=tuple(ReplicaName(name) for name in sorted(guest.failed_on)),
            concurrent_gpu_s=tenant.limits.concurrent_gpu_s,
            prefill_pace=tenant.limits.prefill_pace,
        )
        deadline_at_s = guest.arrived_at_s + self.longest_wait_s
        told = self.estimate(guest, now_s)
        seat = Seat(guest, ticket, weight, guest.arrived_at_s, deadline_at_s, told=told)
        self.room.enter(seat)
        self.changed = True
        if self.connected:
            self._enqueue(seat, ticket)
        return seat

    def leave(self, seat: Seat["Scheduled"], now_s: float, *, dispatched: bool = False) -> None:
        """A request waits no longer. Not dispatched, its ticket is withdrawn."""
        if not seat.taken:
            return
        self.room.leave(seat)
        ticket = seat.ticket
        # Waits that say nothing of how fast the pool drains: alone, for a limit of its own, and a replica's failure.
        if self.connected and not ticket.first and ticket.tenant not in self.held:
            self.outlook.learn(self.stats, seat.told, now_s - seat.arrived_at_s, dispatched=dispatched)
        self.changed = True
        if self.connected and not dispatched:
            self.outbox.withdraw(seat.ticket.id)
            self._urgent()

    # Dispatch

    def pump(self, now_s: float) -> None:
        """Capacity or something that waits may have appeared: ask for leases, or order the own requests."""
        if self.connected:
            if not self.claim_now and self._claims(now_s):
                self.claim_now = True
                self._urgent()
            return
        held: set[str] = set()
        while (ticket := self.room.queue.head(held)) is not None:
            if not self.solo.allows(ticket, self.flying, now_s):
                held.add(ticket.tenant)
                continue
            seat = self.room.seat_of(ticket.id)
            assert seat is not None
            chosen = self.choose(seat.weight, now_s, avoid=seat.guest.failed_on, salt=seat.guest.salt)
            if chosen is None:
                return
            self.room.queue.take(ticket.id, held)
            self.solo.sent(ticket, now_s)
            self.leave(seat, now_s, dispatched=True)
            seat.guest.dispatch(self.replicas[chosen.replica], chosen, now_s, leased=False)

    def claim(self, now_s: float) -> Claim | None:
        """What to claim with; `None` when nothing waits or nothing has room."""
        self.claim_now = False
        if not self._claims(now_s):
            return None
        return Claim(
            offers=self.fleet.offers(self.rule, now_s),
            budget_s=self.settings.dispatch_prefill_s,
            contested_s=min(self.settings.contested_prefill_s, self.settings.dispatch_prefill_s),
            kv_capacity_tokens=self.settings.kv_capacity_tokens,
            max_in_flight=self.settings.max_in_flight,
        )

    def _claims(self, now_s: float) -> bool:
        """Whether somebody waits and a replica may have room."""
        return bool(self.room.count or self.waiting_elsewhere) and self.fleet.has_room(self.rule, now_s)

    def claimed(self, claims: Claims, now_s: float) -> None:
        """Leases were given for this worker's claim: own tickets go, the others' work is on its way."""
        self.held = frozenset(claims.held)
        if claims.why == "empty" and not self.room.count:
            self.waiting_elsewhere = 0
        for lease in claims.leases:
            sent = Claimed(prefill_s=lease.prefill_s, kv_tokens=lease.kv_tokens, requests=1)
            self.fleet.claimed(lease.replica, sent)
            if lease.owner == self.worker:
                self.granted(lease, now_s)
            elif lease.replica in self.replicas:
                self.replicas[lease.replica].ledger.expect(share_of(lease), now_s)
        if claims.why == "most":
            self.claim_now = True
            self._urgent()

    def granted(self, lease: Lease, now_s: float) -> None:
        """A ticket of this worker may be sent to a replica. If that cannot be used from here, it goes back."""
        seat = self.room.seat_of(lease.ticket)
        if seat is None:
            self.outbox.withdraw(lease.ticket)  # a Redis that failed over still has it, and would lease it for ever
            return
        replica = self.replicas.get(lease.replica)
        if replica is None or not replica.usable(now_s):
            self._enqueue(seat, replace(seat.ticket, avoid=tuple({*seat.ticket.avoid, lease.replica})))
            return
        self.leave(seat, now_s, dispatched=True)
        self.outbox.started(lease.ticket)
        seat.guest.dispatch(replica, pick.score(replica.ledger.load, seat.weight, self.rule, now_s), now_s, leased=True)

    def turned_away(self, ticket: TicketId, now_s: float) -> None:
        """The queue is full and has no place for this ticket any more."""
        self.outbox.gone(ticket)
        seat = self.room.seat_of(ticket)
        if seat is not None:
            self.leave(seat, now_s)
            seat.guest.expire(self.full_refusal(Outcome.BACKLOG_FULL, now_s))

    def sent(self, guest: "Scheduled", replica: Replica, *, leased: bool) -> None:
        """A dispatch changed the ledger. A lease has charged the tenant already."""
        weight = guest.weight
        self.changed = True
        path = "leased" if leased else "idle" if self.connected else "solo"
        self.stats.dispatches[path] = self.stats.dispatches.get(path, 0) + 1
        if path == "idle":
            self.rivals.sent(replica.name, weight.prefill_s, guest.arrived_at_s + guest.queue_wait_s)
        if not leased:
            self.outbox.sent(guest.payer.name, guest.priority, guest.payer.weight, weight.gpu_s)
            self.outbox.burdened(replica.name, weight.prefill_s, weight.kv_tokens)
        if guest.payer.limits.concurrent_gpu_s is not None:
            self.flying[guest.payer.name] = self.flying.get(guest.payer.name, 0.0) + weight.gpu_s
        if weight.prefill_s > URGENT_PREFILL_S:
            self.report_now = True
            self._urgent()

    def landed(self, guest: "Scheduled") -> None:
        """What was sent runs no longer."""
        self.changed = True
        left_gpu_s = self.flying.get(guest.payer.name, 0.0) - guest.weight.gpu_s
        if left_gpu_s > 1e-9:
            self.flying[guest.payer.name] = left_gpu_s
        else:
            self.flying.pop(guest.payer.name, None)

    def turn_away(self, refusal: Refusal, now_s: float) -> None:
        """End every waiting request with `refusal`."""
        for seat in self.room.seats:
            if seat.taken:
                self.leave(seat, now_s)
                seat.guest.expire(refusal)

    def tick(self, now_s: float) -> None:
        """Release prefill that must be done by now, learn, evict what waited too long, dispatch what fits."""
        self.weigher.study()
        self.changed |= self.fleet.tick(now_s)
        for seat in self.room.expired(now_s):
            if seat.taken:
                self.leave(seat, now_s)
                seat.guest.expire(self._late_refusal(seat, now_s))
        self.pump(now_s)

    # Waits

    @property
    def cold_start_s(self) -> float:
        """As measured by the autoscaler, else as configured."""
        measured_s = self.measured_cold_start_s
        return self.settings.cold_start_s if measured_s is None else measured_s

    @property
    def longest_wait_s(self) -> float:
        """How long a request that arrives now may wait. With no replica it is held through a cold start as well."""
        return self.settings.max_wait_s + (0.0 if self.ready else self.cold_start_s)

    def estimate(self, guest: "Scheduled | None", now_s: float) -> WaitEstimate | None:
        """For a request that arrives now, or any behind everybody; `None` when none can be used or is starting."""
        tenant, priority, kv_tokens = (guest.payer, guest.priority, guest.weight.kv_tokens) if guest else (None, 0, 1)
        rule = self.solo.rule(self.rule, away=not self.connected)
        return self.outlook.estimate(
            tenant,
            priority,
            until_room_gpu_s=self.fleet.until_room_gpu_s(kv_tokens, rule, now_s),
            unseen_gpu_s=self.outbox.enqueuing_gpu_s if self.connected else self.room.gpu_s,
            ready=self.ready,
            cold_start_s=self.cold_start_s,
        )

    def wait_s(self, now_s: float) -> float:
        """The wait estimate for a request behind everybody. With no replica on its way: a cold start."""
        told = self.estimate(None, now_s)
        return self.cold_start_s if told is None else told.wait_s

    def full_refusal(self, outcome: Outcome, now_s: float) -> Refusal:
        """Why a request is not served now, and when to come back."""
        wait_s = self.wait_s(now_s)
        tickets = max(self.outlook.queue.tickets, self.room.count)
        why = f"{tickets} requests wait for {self.ready} ready replicas ({len(self.fleet.usable(now_s))} answering)"
        detail = f"pool {self.settings.name}: {why}; the estimated wait is {wait_s:.1f} s"
        return Refusal(outcome, detail, retry_after_s=min(wait_s, MOST_RETRY_S))

    def _late_refusal(self, seat: Seat["Scheduled"], now_s: float) -> Refusal:
        tenant = seat.ticket.tenant
        if tenant not in self.held:
            return self.full_refusal(Outcome.WAIT_EXPIRED, now_s)
        detail = f"tenant {tenant} is at its limit of work in flight or of prefill pace in pool {self.settings.name}"
        return Refusal(Outcome.RATE_LIMITED, detail, retry_after_s=min(self.wait_s(now_s), MOST_RETRY_S))

    # The scaler's and the other workers' word

    def hear(self, view: PoolView, now_s: float) -> None:
        """Take over the replica list and the others' work. An unknown list changes nothing."""
        self.fleet.hear(view, now_s, mine=self.room.tickets)
        age_s = view.queue.waiting_age_s
        passed, over = self.rivals.judge(self.fleet.loads, waiting_age_s=age_s, rule=self.rule, now_s=now_s)
        self.stats.out_of_order += passed
        self.stats.over_dispatches += over
        self.outlook.hear(view, self.fleet.starting)
        self.waiting_elsewhere = max(0, view.queue.tickets - self.room.queued(self.outbox.known, view.queue.leases))
        self.solo.share = 1.0 / max(1, len(view.reports))
        self.measured_cold_start_s = view.decision.cold_start_s if view.decision is not None else None

    def reconnected(self) -> None:
        """Redis answers, and has forgotten what this worker told it: everything that waits is enqueued."""
        self.connected = True
        self.outbox.reset()
        for seat in self.room.seats:
            self._enqueue(seat, seat.ticket)

    def disconnected(self, now_s: float) -> None:
        """Redis is away: from here on the own order and the own share count."""
        self.connected = False
        self.outlook.queue = NOTHING_WAITS
        self.waiting_elsewhere = 0
        self.held = frozenset()
        self.outbox.reset()
        self.fleet.forget_others(now_s)
        self.pump(now_s)

    def woken(self) -> None:
        """Somebody waits elsewhere."""
        self.waiting_elsewhere = max(self.waiting_elsewhere, 1)
        self.report_now = True
        self._urgent()

    def _enqueue(self, seat: Seat["Scheduled"], ticket: Ticket) -> None:
        self.outbox.enqueue(ticket, seat.arrived_at_s, self.settings.wait_bound_s)
        self._urgent()

    # What this worker tells

    def measured(self, *, ttft_missed: bool, tpot_missed: bool) -> None:
        """A request's SLOs are known: served with a measured TTFT, or turned away (which is a miss)."""
        self._settled += 1
        self._ttft_misses += ttft_missed
        self._tpot_misses += tpot_missed
        self.changed = True

    def report(self, started_at_s: float, *, epoch_s: float) -> WorkerReport:
        """This worker's whole state. `epoch_s` turns the worker's clock into seconds since the epoch."""
        oldest_at_s = self.room.oldest_at_s()
        return WorkerReport(
            worker=self.worker,
            started_at_s=started_at_s,
            waiting=self.room.count,
            waiting_gpu_s=max(self.room.gpu_s, 0.0),
            waiting_prefill_s=max(self.room.prefill_s, 0.0),
            waiting_kv_tokens=self.room.kv_tokens,
            oldest_waiting_at_s=None if oldest_at_s is None else oldest_at_s + epoch_s,
            arrived=self._arrived,
            arrived_gpu_s=self._arrived_gpu_s,
            settled=self._settled,
            ttft_misses=self._ttft_misses,
            tpot_misses=self._tpot_misses,
            attributed_s=self.fleet.calibration.attributed_s(self.replicas),
            running={
                ReplicaName(name): replica.ledger.share()
                for name, replica in self.replicas.items()
                if replica.ledger.own.in_flight > 0
            },
        )
