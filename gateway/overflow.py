"""One pool's hosted model as one worker sees it: what spills to it, what is in flight there, what that costs.

The hosted model is reached through the spill process, which speaks HTTP: for whoever carries bytes it is one more
address. It is no replica of the pool: it has no place in the ledger, teaches no calibration and is never picked.
"""

from collections.abc import Mapping
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from backlog.account import Charge
from backlog.records import ReplicaState
from gateway import breaker
from gateway.limits import Limiter
from gateway.openai import Endpoint
from gateway.pool import Pool
from gateway.replica import Replica
from gateway.room import Seat
from gateway.settings import PoolSettings
from gateway.spill import Situation, Spill, SpillSettings, Stay, TokenPrice, WhyNot, decide, most_in_flight
from gateway.upstream import ReplicaConnection

if TYPE_CHECKING:
    from gateway.scheduled import Scheduled

_log = structlog.get_logger()
RECONSIDER_S = 0.5
"""What waits is looked at this often: a replica may be lost, the provider come back, the cap be raised by news."""
LEASE_S = 0.1
"""What waits for a lease only, as some requests do that a replica has room for, is not looked at sooner."""
ASK_S, ASK_AGAIN_S = 1.0, 60.0
"""How often the spill process is asked for a price: until it answers, and when it knows none."""
SPILLABLE = frozenset({Endpoint.CHAT, Endpoint.COMPLETIONS})


def account_of(pool: str) -> str:
    """The account of a pool's cap. No tenant can have this name."""
    return f"spill:{pool}"


def caps_of(pools: tuple[PoolSettings, ...]) -> dict[str, float]:
    """Money per day by account."""
    return {account_of(pool.name): pool.spill.money_per_day for pool in pools if pool.spill is not None}


class Overflow:
    """Decides, counts, and keeps the breaker. The event loop is its lock: no method awaits."""

    def __init__(
        self,
        settings: SpillSettings,
        pool: Pool,
        *,
        socket: Path,
        limiter: Limiter,
        workers: int,
        connect_s: float,
    ) -> None:
        self.settings = settings
        self.price = settings.price
        self.provider = Replica(
            name=f"spill:{settings.model}",
            url=f"http://spill/pools/{pool.settings.name}",
            api_key=None,
            gpus=1,
            state=ReplicaState.READY,
            socket=socket,
        )
        self.in_flight = 0
        self.spilled: dict[str, int] = {}
        """By reason, those included on which the provider failed."""
        self.stayed: dict[str, int] = {}
        """Decisions against spilling a request that would have had reason to, by what kept it."""
        self.failures = 0
        self.money = 0.0
        self._pool = pool
        self._limiter = limiter
        self._account = account_of(pool.settings.name)
        self._most_in_flight = most_in_flight(settings, workers)
        self._connect_s = connect_s
        self._watched: list[tuple[float, int, Seat[Scheduled]]] = []
        self._numbers = count()
        self._ask_at_s = 0.0
        self._cap_told = False

    def decide(self, guest: "Scheduled", now_s: float) -> Spill | Stay:
        """Whether `guest` spills now: on arrival by its predicted wait, in the queue by how long it has waited."""
        pool, seat = self._pool, guest.seat
        told = pool.estimate(guest, now_s) if seat is None else None
        situation = Situation(
            tenant=guest.payer.name,
            allowed=guest.payer.spill,
            spillable=guest.parsed.endpoint in SPILLABLE and guest.parsed.known_tokens == 0,
            tries=guest.spill_tries,
            held=guest.payer.name in pool.held,
            ready=pool.ready if pool.fleet.known else None,
            predicted_wait_s=None if told is None else told.wait_s,
            waited_s=None if seat is None else now_s - guest.arrived_at_s,
            answering=self.provider.usable(now_s),
            in_flight=self.in_flight,
            most_in_flight=self._most_in_flight,
            price=self.price,
            gpu_money=None if pool.settings.price_per_gpu_hour is None else pool.settings.money(guest.weight.gpu_s),
            money_left=self.money_left(now_s),
        )
        decision = decide(guest.weight, situation, self.settings)
        if isinstance(decision, Stay):
            self._note(decision)
        return decision

    def money_left(self, now_s: float) -> float | None:
        """Of the day's cap, as far as this worker may spend it; `None`: unknown."""
        return self._limiter.money_left(self._account, now_s)

    def _note(self, decision: Stay) -> None:
        if decision.why is WhyNot.SHORT_WAIT:
            return
        self.stayed[decision.why.value] = self.stayed.get(decision.why.value, 0) + 1
        if decision.why is WhyNot.CAP and not self._cap_told:
            self._cap_told = True
            _log.warning("spill cap reached", pool=self._pool.settings.name, cause=decision.reason)

    def take(self, guest: "Scheduled", spill: Spill, now_s: float) -> None:
        """`guest` goes to the hosted model: reserve its money."""
        self._cap_told = False
        self.in_flight += 1
        self.spilled[spill.why.value] = self.spilled.get(spill.why.value, 0) + 1
        self.provider.breaker = breaker.sent(self.provider.breaker)
        self._charge(spill.reserved, now_s)
        self._charge_payer(guest, Charge(0.0, spill.reserved), now_s)
        _log.info(
            "request spilled",
            request_id=guest.request_id.decode("latin-1"),
            pool=self._pool.settings.name,
            tenant=guest.payer.name,
            model=self.settings.model,
            reason=spill.reason,
        )

    def failed(
        self, guest: "Scheduled", spill: Spill, cause: str, now_s: float, *, unreachable: bool, of_the_request: bool
    ) -> None:
        """It was given back before the first byte: nothing is known to have cost anything."""
        self.failures += 1
        self.in_flight -= 1
        self._charge(-spill.reserved, now_s)
        gpu_s = guest.weight.gpu_s
        self._charge_payer(guest, Charge(gpu_s, self._pool.settings.money(gpu_s)), now_s)
        provider = self.provider
        if of_the_request:
            provider.breaker = breaker.withdrawn(provider.breaker)
        else:
            provider.breaker = breaker.failed(provider.breaker, now_s, unreachable=unreachable)
        _log.warning(
            "spill failed, the request waits again",
            pool=self._pool.settings.name,
            model=self.settings.model,
            cause=cause,
        )

    def ended(self, spill: Spill, money: float, now_s: float) -> None:
        """It has been answered, or has ended otherwise, and cost `money`."""
        self.in_flight -= 1
        self.money += money
        self._charge(money - spill.reserved, now_s)

    def _charge(self, money: float, now_s: float) -> None:
        self._limiter.correct(self._account, Charge(0.0, money), now_s)

    def _charge_payer(self, guest: "Scheduled", charge: Charge, now_s: float) -> None:
        """Its tenant's limits are charged what it is about to use, in place of what they were charged before."""
        if self._limiter.correct(guest.payer.name, charge - guest.charge, now_s):
            guest.charge = charge

    # What waits

    def watch(self, seat: "Seat[Scheduled]", now_s: float) -> None:
        """A request waits that may spill: look at it again, at the latest when it has waited as long as is allowed."""
        self._watch(seat, now_s, soonest_s=LEASE_S)

    def tick(self, now_s: float) -> None:
        """Spill what has waited long enough; ask for the price while it is not known."""
        while self._watched and (self._watched[0][0] <= now_s or not self._watched[0][2].taken):
            _, _, seat = heappop(self._watched)
            if seat.taken and not seat.guest.spill_over(now_s):
                self._watch(seat, now_s, soonest_s=RECONSIDER_S)
        if self.price is None and now_s >= self._ask_at_s:
            self._ask_at_s = now_s + ASK_S + self._connect_s
            self.provider.dial(connect_s=self._connect_s, connected=self._ask, failed=lambda _cause: None)

    def _watch(self, seat: "Seat[Scheduled]", now_s: float, *, soonest_s: float) -> None:
        left_s = self.settings.after_wait_s - (now_s - seat.arrived_at_s)
        due_at_s = now_s + (min(left_s, RECONSIDER_S) if left_s > 0.0 else soonest_s)
        heappush(self._watched, (max(due_at_s, now_s + LEASE_S), next(self._numbers), seat))

    # The price

    def _ask(self, connection: ReplicaConnection) -> None:
        path = f"/pools/{self._pool.settings.name}/price"
        connection.send(_PriceAnswer(self), f"GET {path} HTTP/1.1\r\nhost: spill\r\n\r\n".encode())

    def priced(self, price: TokenPrice | None) -> None:
        """The spill process has said what tokens cost, or that it does not know."""
        if price is not None:
            self.price = price
            return
        self._ask_at_s += ASK_AGAIN_S
        _log.warning("hosted model has no known price", pool=self._pool.settings.name, model=self.settings.model)


class _Said(msgspec.Struct):
    input_per_mtok: float | None
    output_per_mtok: float | None


class _PriceAnswer:
    """Reads one answer of the spill process."""

    def __init__(self, overflow: Overflow) -> None:
        self._overflow = overflow
        self._status = 0
        self._body = b""

    def response_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._status = status

    def response_body(self, data: bytes) -> None:
        self._body += data

    def response_read(self) -> None:
        """The end is waited for."""

    def response_end(self) -> None:
        self._overflow.priced(self._price() if self._status == 200 else None)

    def response_failed(self, cause: str) -> None:
        """The question is asked again."""

    def _price(self) -> TokenPrice | None:
        try:
            said = msgspec.json.decode(self._body, type=_Said)
        except msgspec.MsgspecError:
            return None
        if said.input_per_mtok is None or said.output_per_mtok is None:
            return None
        return TokenPrice(input_per_mtok=said.input_per_mtok, output_per_mtok=said.output_per_mtok)


Overflows = Mapping[str, Overflow]
"""By pool."""
