"""Two workers, one Redis, replicas with slots: in whatever order things happen, no replica runs more than it has."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from backlog import keys
from backlog.records import TicketId, WorkerId
from backlog.store import Backlog, connect
from gateway.ledger import Flight
from gateway.pick import Pick
from gateway.publish import Publisher
from gateway.replica import Replica
from tests.gateway.builders import POOL, pool, pool_settings, weight
from tests.gateway.guests import Guest

SLOTS, REPLICAS = 2, 2
ENDLESS_S = 600.0
"""No lease and no heartbeat ends on a slow machine."""
_prefixes = count()


@dataclass(eq=False)
class Running(Guest):
    """A request that stays on its replica until `end`."""

    replica: Replica | None = None
    flight: Flight | None = None

    def dispatch(self, replica: Replica, chosen: Pick, now_s: float, *, leased: bool) -> None:
        assert self.replica is None
        assert chosen.replica == replica.name
        self.replica, self.sent_to, self.leased = replica, replica.name, leased
        self.flight = replica.ledger.start(self.weight, now_s=now_s, ahead_s=chosen.ahead_s, silent=False)
        self.pool.sent(self, replica, leased=leased)  # type: ignore[arg-type]

    def end(self, now_s: float) -> None:
        assert self.replica is not None
        assert self.flight is not None
        self.replica.ledger.settle(self.flight, now_s)
        self.pool.landed(self)  # type: ignore[arg-type]
        self.pool.pump(now_s)


@dataclass(eq=False)
class Worker:
    """A pool and its publisher, moved by hand."""

    name: WorkerId
    backlog: Backlog
    raw: Redis
    mailbox: str
    now_s: float = 100.0
    running: list[Running] = field(default_factory=list)
    waiting: list[Running] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pool = pool(replicas=REPLICAS, worker=self.name, max_in_flight=SLOTS)
        self.publisher = Publisher(
            self.pool,
            self.backlog,
            clock=lambda: self.now_s,
            wall_clock=lambda: self.now_s,
            started_at_s=0.0,
            publish_s=0.05,
            urgent=asyncio.Event(),
        )

    def arrive(self) -> None:
        """What `Scheduled.admit` does with a request."""
        guest = Running(self.pool, weight=weight(0.001, 0.1, input_tokens=10), arrived_at_s=self.now_s)
        chosen = None
        if self.pool.idle(guest.payer):
            chosen = self.pool.choose(guest.weight, self.now_s, avoid=(), salt=1)
        if chosen is not None:
            guest.dispatch(self.pool.replicas[chosen.replica], chosen, self.now_s, leased=False)
            self.running.append(guest)
            return
        guest.wait()
        self.waiting.append(guest)
        self.pool.pump(self.now_s)

    def end(self, which: int) -> None:
        if self.running:
            self.running.pop(which % len(self.running)).end(self.now_s)

    async def turn(self) -> None:
        await self.publisher.turn()
        self._sort()

    def open_mail(self) -> None:
        """The oldest message, if there is one."""
        message = self.raw.lpop(self.mailbox)
        assert message is None or isinstance(message, bytes)
        if message is None:
            return
        if message[:1] == b"L":
            self.pool.granted(self.backlog.lease_from_mail(POOL, message), self.now_s)
        elif message[:1] == b"E":
            self.pool.turned_away(TicketId(message[1:].decode()), self.now_s)
        else:
            self.pool.woken()
        self._sort()

    def _sort(self) -> None:
        self.running += [guest for guest in self.waiting if guest.sent_to is not None]
        self.waiting = [guest for guest in self.waiting if guest.sent_to is None]


@pytest.mark.parametrize("asked", [200, None])
def test_prices_hold_at_a_batch_that_the_slots_allow(asked: int | None) -> None:
    bounded = pool_settings(max_in_flight=4, planning_batch=asked).price()
    assert bounded == pool_settings(planning_batch=4).price()
    assert pool_settings(max_in_flight=4, planning_batch=2).price() == pool_settings(planning_batch=2).price()


def in_flight(*workers: Worker) -> Counter[str | None]:
    return Counter(guest.sent_to for worker in workers for guest in worker.running)


actions = st.sampled_from(["arrive", "arrive", "arrive", "turn", "turn", "mail", "end"])
steps = st.lists(
    st.tuples(actions, st.integers(0, 1), st.integers(0, 3), st.sampled_from([0.0, 0.01, 0.06])), max_size=60
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=steps)
def test_two_workers_never_send_a_replica_more_than_its_slots_and_serve_all(
    history: list[tuple[str, int, int, float]], redis_url: str, redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backlog.turn.LEASE_S", ENDLESS_S)
    asyncio.run(play(history, redis_url, f"{redis_prefix}-{next(_prefixes)}"))


async def play(history: list[tuple[str, int, int, float]], url: str, prefix: str) -> None:
    backlogs = [connect(url, prefix=prefix, heartbeat_s=ENDLESS_S, timeout_s=20.0) for _ in range(2)]
    with Redis.from_url(url) as raw:
        names = [WorkerId("w1"), WorkerId("w2")]
        stem = keys.mail_stem(prefix, POOL)
        first, second = both = [
            Worker(name, backlog, raw, stem + name) for name, backlog in zip(names, backlogs, strict=True)
        ]
        for worker in (first, second):
            await worker.turn()
        first.now_s += 1.0
        await first.turn()
        assert [worker.pool.solo.share for worker in both] == [0.5, 0.5]
        try:
            for action, number, which, pause_s in history:
                worker = both[number]
                for one in both:
                    one.now_s += pause_s
                await act(worker, action, which)
                assert max(in_flight(*both).values(), default=0) <= SLOTS
            await serve_all(both)
        finally:
            for backlog in backlogs:
                await backlog.close()


async def act(worker: Worker, action: str, which: int) -> None:
    if action == "arrive":
        worker.arrive()
    elif action == "turn":
        await worker.turn()
    elif action == "mail":
        worker.open_mail()
    else:
        worker.end(which)


async def serve_all(workers: list[Worker]) -> None:
    """Every request ends soon after it was sent: then all of them are served, and nothing is left."""
    for _ in range(100):
        if not any(worker.waiting or worker.running for worker in workers):
            return
        for worker in workers:
            worker.now_s += 0.06
            worker.open_mail()
            worker.end(0)
            await worker.turn()
            assert max(in_flight(*workers).values(), default=0) <= SLOTS
    pytest.fail("some requests wait for ever")
