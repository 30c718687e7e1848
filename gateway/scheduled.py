"""One request from its weight to its bill, whoever carries its bytes: weighed, admitted, waiting, placed, settled once.

`Exchange` carries bytes itself; `gateway.litellm.visit` lets a LiteLLM proxy carry them. Both are scheduled here and
nowhere else.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from backlog.account import NO_CHARGE, NO_USAGE, UsageKey
from estimator.price import Weight
from gateway import breaker, pick
from gateway.ledger import Flight
from gateway.openai import ParsedRequest
from gateway.outcome import Outcome, Refusal
from gateway.pool import Pool
from gateway.replica import Replica
from gateway.room import Seat
from gateway.settings import TenantSettings
from gateway.settle import settle
from gateway.settle_spilled import settle_spilled
from gateway.spill import MOST_TRIES, Spill, Stay
from gateway.usage import Usage

if TYPE_CHECKING:
    from gateway.context import Context


class Scheduled(ABC):
    """A request and where it stands. It never awaits: whoever carries it calls, and is called."""

    __slots__ = (
        "arrived_at_s", "attempts", "charge", "charged_gpu_s", "context", "failed_on", "first_token_at_s", "flight",
        "found_full", "last_failure", "parsed", "payer", "pool", "priority", "queue_wait_s", "replica", "request_id",
        "route", "salt", "seat", "settled", "spill", "spill_tries", "weight",
    )  # fmt: skip
    spills: ClassVar[bool] = False
    """Whether who carries it can have a hosted model answer it."""

    def __init__(
        self,
        context: "Context",
        *,
        pool: Pool,
        parsed: ParsedRequest,
        payer: TenantSettings,
        priority: int,
        request_id: bytes,
        arrived_at_s: float,
        salt: int,
    ) -> None:
        self.context = context
        self.pool = pool
        self.parsed = parsed
        self.payer = payer
        self.priority = priority
        self.request_id = request_id
        self.arrived_at_s = arrived_at_s
        self.salt = salt
        self.route = (payer.name, parsed.model, parsed.shape)
        self.weight: Weight = pool.weigher.weigh(parsed, self.route)
        self.seat: Seat[Scheduled] | None = None
        self.flight: Flight | None = None
        self.replica: Replica | None = None
        self.failed_on: set[str] = set()
        self.queue_wait_s = 0.0
        self.charge = NO_CHARGE
        """What its tenant's limits were charged on admission."""
        self.charged_gpu_s = 0.0
        """What its tenant was charged in the order of the queue, over all attempts."""
        self.first_token_at_s: float | None = None
        self.settled = False
        self.spill: Spill | None = None
        """Why it is at the pool's hosted model, while it is."""
        self.spill_tries = 0
        """How often the hosted model has failed on it."""
        self.attempts = 0
        self.last_failure = ""
        self.found_full = False
        """The last failure was a model server that said it is full."""

    # What whoever carries it does

    @abstractmethod
    def carry(self, replica: Replica, now_s: float) -> None:
        """Send it to `replica`, which it has been booked on."""

    @abstractmethod
    def let_go(self) -> None:
        """Its place on the replica is given up: stop what carries it, if anything still does."""

    @abstractmethod
    def refused(self, refusal: Refusal) -> None:
        """It has ended without an answer: tell whoever asked."""

    @property
    @abstractmethod
    def reported(self) -> Usage | None:
        """What the replica said that it used; `None` before it has."""

    @property
    @abstractmethod
    def output_tokens(self) -> int:
        """Tokens seen so far, counted by events."""

    @property
    @abstractmethod
    def ran(self) -> bool:
        """Whether a replica has worked on it, so that it is billed."""

    @abstractmethod
    def waits(self) -> None:
        """It has taken a seat, which knows the wait estimate."""

    # Admission

    def admit(self) -> None:
        """Dispatch now if nobody waits and a replica has room; else wait; else refuse. Raises `Refusal`."""
        pool, now_s = self.pool, self.arrived_at_s
        self._charge(now_s)
        pool.arrive(self.weight)
        if self._go_past(now_s) or self.spill_over(now_s):
            return
        if pool.full:
            refusal = pool.full_refusal(Outcome.BACKLOG_FULL, now_s)
            pool.measured(ttft_missed=True, tpot_missed=False)
            self.uncharge()
            raise refusal
        self._wait(now_s, first=False)

    @property
    def account(self) -> UsageKey:
        """Where its usage is booked."""
        return UsageKey(self.payer.name, self.pool.settings.name, self.parsed.model)

    def uncharge(self) -> None:
        """It ends on admission: give back what its tenant was charged."""
        if self.context.bookkeeper is not None:
            self.context.bookkeeper.settled(self.account, NO_USAGE, self.charge)

    def _charge(self, now_s: float) -> None:
        """Charge the tenant's limits by the estimate. Raises `Refusal` for one that is over them."""
        bookkeeper = self.context.bookkeeper
        if bookkeeper is None:
            return
        denial = bookkeeper.limiter.admit(self.payer.name, now_s)
        if denial is not None:
            raise Refusal(denial.outcome, denial.detail, retry_after_s=denial.retry_after_s)
        gpu_s = self.weight.gpu_s
        self.charge = bookkeeper.limiter.charge(self.payer.name, gpu_s, self.pool.settings.money(gpu_s), now_s)

    def _go_past(self, now_s: float) -> bool:
        """Take the idle path: nobody waits, a replica has room. Redis hears of it afterwards."""
        pool = self.pool
        if not pool.idle(self.payer):
            return False
        chosen = pool.choose(self.weight, now_s, avoid=self.failed_on, salt=self.salt)
        if chosen is None:
            return False
        self.dispatch(pool.replicas[chosen.replica], chosen, now_s, leased=False)
        return True

    def _wait(self, now_s: float, *, first: bool) -> None:
        self.seat = self.pool.enter(self, now_s, first=first)
        self.waits()
        if self._may_spill:
            self.context.overflows[self.pool.settings.name].watch(self.seat, now_s)
        self.pool.pump(now_s)

    def expire(self, refusal: Refusal) -> None:
        """It waited as long as it may. `refusal` is for all that wait; what happened to this one is added."""
        self.seat = None
        self.pool.measured(ttft_missed=True, tpot_missed=False)
        if self.last_failure and refusal.outcome is Outcome.WAIT_EXPIRED:
            outcome = Outcome.REPLICA_FULL if self.found_full else refusal.outcome
            detail = f"{refusal.detail}; last failure: {self.last_failure}"
            refusal = Refusal(outcome, detail, retry_after_s=refusal.retry_after_s)
        self.refuse(refusal)

    # The hosted model

    @property
    def _may_spill(self) -> bool:
        return self.spills and self.payer.spill and self.pool.settings.name in self.context.overflows

    def spill_over(self, now_s: float) -> bool:
        """Have the pool's hosted model answer it, if that is decided. It waits no longer then."""
        if not self._may_spill:
            return False
        overflow = self.context.overflows[self.pool.settings.name]
        decision = overflow.decide(self, now_s)
        if isinstance(decision, Stay):
            return False
        if self.seat is not None:
            self.pool.leave(self.seat, now_s)
            self.seat = None
        self.spill, self.replica = decision, overflow.provider
        self.queue_wait_s = now_s - self.arrived_at_s
        overflow.take(self, decision, now_s)
        self.carry(overflow.provider, now_s)
        return True

    def spill_failed(
        self, cause: str, *, unreachable: bool = False, stale: bool = False, of_the_request: bool = False
    ) -> None:
        """The hosted model has not answered: back to where it was in the queue.

        A process that is not there has tried nothing, and a stale keep-alive connection says nothing of the provider.
        """
        assert self.spill is not None
        now_s = self.context.clock()
        overflow = self.context.overflows[self.pool.settings.name]
        mild = of_the_request or stale
        overflow.failed(self, self.spill, cause, now_s, unreachable=unreachable, of_the_request=mild)
        self.last_failure = f"{overflow.provider.name}: {cause}"
        if of_the_request:
            self.spill_tries = MOST_TRIES
        elif not (unreachable or stale):
            self.spill_tries += 1
        self.let_go()
        self.spill = self.replica = None
        if not self._go_past(now_s):
            self._wait(now_s, first=False)

    # Dispatch

    def dispatch(self, replica: Replica, chosen: pick.Pick, now_s: float, *, leased: bool) -> None:
        """Book the request on `replica`, and have it carried there."""
        self.seat = None
        self.replica = replica
        self.queue_wait_s = now_s - self.arrived_at_s
        self.flight = replica.ledger.start(
            self.weight, now_s=now_s, ahead_s=chosen.ahead_s, silent=not self.parsed.streams
        )
        replica.running.add(self)
        replica.breaker = breaker.sent(replica.breaker)
        self.charged_gpu_s += self.weight.gpu_s
        self.pool.sent(self, replica, leased=leased)
        self.carry(replica, now_s)

    def first_token(self, now_s: float) -> None:
        """The replica has begun to answer. A stream's prefill is done, so others may use its place."""
        if self.first_token_at_s is not None:
            return
        self.first_token_at_s = now_s
        if self.parsed.streams and self.flight is not None and self.replica is not None:
            self.replica.ledger.first_token(self.flight, now_s)
            self.pool.changed = True
            self.pool.pump(now_s)

    def try_again(self, cause: str, *, unreachable: bool = False, stale: bool = False) -> None:
        """Before the first response byte: put it back at the head of the queue, away from the replica that failed.

        A replica that could not be reached, or said that it is full, has done no work: that may repeat until the
        deadline. Other failures count as attempts. A stale keep-alive connection says nothing about the replica.
        """
        if self.spill is not None:
            self.spill_failed(cause, unreachable=unreachable, stale=stale)
            return
        now_s = self.context.clock()
        self.failed(cause, now_s, unreachable=unreachable, stale=stale)
        self.pool.stats.retries += 1
        if not (unreachable or stale):
            self.attempts += 1
            if self.attempts >= self.context.limits.attempts:
                detail = f"the request failed on {self.attempts} attempts; last on {self.last_failure}"
                self.refuse(Refusal(Outcome.REPLICA_FAILED, detail))
                self.pool.pump(now_s)
                return
        self.retry(now_s)

    def retry(self, now_s: float) -> None:
        """It comes back from a replica that failed: elsewhere at once, or at the head of the queue."""
        if not self._go_past(now_s):
            self._wait(now_s, first=True)

    def failed(self, cause: str, now_s: float, *, unreachable: bool, stale: bool = False) -> None:
        """Its replica failed before the first response byte: note that, and take the request from it."""
        replica = self.replica
        assert replica is not None
        self.last_failure = f"{replica.name}: {cause}"
        if stale:
            replica.breaker = breaker.withdrawn(replica.breaker)
        else:
            replica.breaker = breaker.failed(replica.breaker, now_s, unreachable=unreachable)
            self.failed_on.add(replica.name)
        self._land(now_s)

    def _land(self, now_s: float) -> None:
        """Take the request out of the replica's ledger and let go of what carries it."""
        if self.flight is not None and self.replica is not None:
            self.replica.ledger.settle(self.flight, now_s)
            self.replica.running.discard(self)
            self.pool.landed(self)
        self.flight = None
        self.let_go()

    def attributed_s(self) -> float:
        """Shares of what its replica has computed so far, uncalibrated. Responses that do not stream show nothing."""
        if self.settled or self.first_token_at_s is None:
            return 0.0
        price, input_tokens = self.pool.price, self.weight.input_tokens
        decode_s = price.decode_s(input_tokens=input_tokens, output_tokens=self.output_tokens)
        return price.prefill_s(input_tokens=input_tokens, cached_tokens=self.weight.cached_tokens) + decode_s

    # The end

    def refuse(self, refusal: Refusal) -> None:
        """End it without an answer, or in the middle of one."""
        self.finish(refusal.outcome, self.context.clock())
        self.refused(refusal)

    def client_gone(self) -> None:
        """The client left: free its seat or its place on the replica at once, and bill what was used."""
        if self.replica is not None:
            self.replica.breaker = breaker.withdrawn(self.replica.breaker)
        self.finish(Outcome.CLIENT_GONE, self.context.clock())

    def finish(self, outcome: Outcome, now_s: float) -> None:
        """Settle, once, whatever the state it is in."""
        if self.settled:
            return
        self.settled = True
        if self.seat is not None:
            self.pool.leave(self.seat, now_s)
            self.seat = None
        ran = self.ran
        self._land(now_s)
        self.pool.changed = True
        if self.spill is not None:
            overflow = self.context.overflows[self.pool.settings.name]
            settle_spilled(self, self.spill, overflow, outcome, now_s, ran=ran)
        else:
            settle(self, outcome, now_s, ran=ran)
        self.pool.pump(now_s)
