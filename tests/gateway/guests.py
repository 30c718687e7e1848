"""A request as a pool sees it, which remembers what the pool did with it."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from estimator.price import Weight
from gateway.outcome import Refusal
from gateway.pick import Pick
from gateway.pool import Pool
from gateway.replica import Replica
from gateway.room import Seat
from gateway.settings import TenantSettings
from tests.gateway.builders import tenant, weight


@dataclass(eq=False)
class Guest:
    """What `Exchange` is to a pool."""

    pool: Pool
    name: str = ""
    weight: Weight = field(default_factory=weight)
    payer: TenantSettings = field(default_factory=tenant)
    priority: int = 3
    arrived_at_s: float = 0.0
    failed_on: Collection[str] = frozenset()
    salt: int = 1
    queue_wait_s: float = 0.0
    sent_to: str | None = None
    leased: bool | None = None
    refusal: Refusal | None = None
    log: list[str] = field(default_factory=list)
    seat: Seat[Any] | None = None

    def dispatch(self, replica: Replica, chosen: Pick, now_s: float, *, leased: bool) -> None:
        assert self.sent_to is None
        assert self.refusal is None
        assert chosen.replica == replica.name
        self.sent_to, self.leased = replica.name, leased
        self.queue_wait_s = now_s - self.arrived_at_s
        self.log.append(self.name)
        replica.ledger.start(self.weight, now_s=now_s, ahead_s=chosen.ahead_s, silent=False)
        self.pool.sent(self, replica, leased=leased)  # type: ignore[arg-type]

    def expire(self, refusal: Refusal) -> None:
        assert self.sent_to is None
        assert self.refusal is None
        self.refusal = refusal

    def wait(self, *, first: bool = False) -> "Guest":
        self.seat = self.pool.enter(self, self.arrived_at_s, first=first)  # type: ignore[arg-type]
        return self

    @property
    def ticket(self) -> Any:
        assert self.seat is not None
        return self.seat.ticket


def busy(replica: Replica, *, prefill_s: float = 1.0, **changes: Any) -> None:
    """Give `replica` so much prefill that it has no room."""
    replica.ledger.start(weight(prefill_s, 1.0, **changes), now_s=0.0, ahead_s=0.0, silent=False)
