"""What is read from a real Redis, how often, and what stays when it is away."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog

from backlog.account import AccountBatch, Usage, UsageKey
from backlog.accounts import Accounts
from backlog.connection import Connection, connect_redis
from backlog.store import Backlog
from dashboard.reader import DECISIONS_EVERY_S, USAGE_EVERY_S, VIEW_EVERY_S, Reader
from tests.backlog import samples
from tests.dashboard.builders import POOL, facts
from tests.redis_servers import start_redis


class Clock:
    """A clock that a test sets; it starts at the present, as days are those of Redis."""

    def __init__(self) -> None:
        self.now_s = datetime.now(UTC).timestamp()

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[Connection]:
    opened = connect_redis(redis_url, timeout_s=5.0)
    yield opened
    await opened.close()


@pytest.fixture
def accounts(connection: Connection, redis_prefix: str) -> Accounts:
    return Accounts(connection, redis_prefix)


@pytest.fixture
def reader(backlog: Backlog, accounts: Accounts, clock: Clock) -> Reader:
    return Reader([facts()], backlog, accounts, clock)


async def test_view_decisions_and_usage_are_read(backlog: Backlog, accounts: Accounts, reader: Reader) -> None:
    await backlog.publish_replicas(POOL, [samples.replica()])
    await backlog.publish_decision(POOL, samples.decision(1.0))
    await backlog.publish_decision(POOL, samples.decision(2.0))
    used = {UsageKey("blue", "chat", "m"): Usage(requests=2, decode_gpu_s=1.5)}
    await accounts.settle("w1", AccountBatch(number=1, usage=used, charges={}), {})
    everything = await reader.read()
    look = everything.looks[POOL]
    assert look.view is not None
    assert look.view.replicas == (samples.replica(),)
    assert [decision.at_s for decision in look.decisions or ()] == [2.0, 1.0]
    assert [(row.key.tenant, row.usage.requests) for row in everything.booked.rows or ()] == [("blue", 2)]
    assert look.error is None


async def test_each_part_is_read_at_its_own_pace(backlog: Backlog, reader: Reader, clock: Clock) -> None:
    async def known() -> tuple[int, int]:
        look = (await reader.read()).looks[POOL]
        assert look.view is not None
        return len(look.view.replicas or ()), len(look.decisions or ())

    assert await known() == (0, 0)
    await backlog.publish_replicas(POOL, [samples.replica()])
    await backlog.publish_decision(POOL, samples.decision())
    assert await known() == (0, 0)
    clock.now_s += VIEW_EVERY_S
    assert await known() == (1, 0)
    clock.now_s += DECISIONS_EVERY_S
    assert await known() == (1, 1)


async def test_many_who_look_at_once_are_one_reading(accounts: Accounts, backlog: Backlog, clock: Clock) -> None:
    looks = 0

    class Counted:
        async def view(self, pool: str) -> object:
            nonlocal looks
            looks += 1
            return await backlog.view(POOL)

        async def decisions(self, pool: str, limit: int) -> object:
            return await backlog.decisions(POOL, limit)

    reader = Reader([facts()], Counted(), accounts, clock)  # type: ignore[arg-type]
    pages = await asyncio.gather(*(reader.read() for _ in range(20)))
    assert looks == 1
    assert all(page.looks[POOL].view is not None for page in pages)


async def test_a_clock_that_is_set_back_does_not_stop_the_page(backlog: Backlog, reader: Reader, clock: Clock) -> None:
    await reader.read()
    await backlog.publish_replicas(POOL, [samples.replica()])
    clock.now_s -= 3600.0
    look = (await reader.read()).looks[POOL]
    assert look.view is not None
    assert look.view.replicas == (samples.replica(),)


async def test_while_redis_is_away_the_last_values_stay_with_the_reason(tmp_path: Path, clock: Clock) -> None:
    with start_redis(tmp_path) as server:
        connection = connect_redis(server.url, timeout_s=1.0)
        backlog = Backlog(connection)
        reader = Reader([facts()], backlog, Accounts(connection), clock)
        await backlog.publish_replicas(POOL, [samples.replica()])
        first = (await reader.read()).looks[POOL]
        server.stop()
        with structlog.testing.capture_logs() as logs:
            for _ in range(2):
                clock.now_s += USAGE_EVERY_S
                away = (await reader.read()).looks[POOL]
                assert (away.view, away.view_at_s, away.error is not None) == (first.view, first.view_at_s, True)
            server.start()
            clock.now_s += USAGE_EVERY_S
            back = (await reader.read()).looks[POOL]
        assert (back.error, back.view_at_s) == (None, clock.now_s)
        assert back.view is not None
        assert back.view.replicas is None
        assert [log["event"] for log in logs] == [
            "redis unavailable, the page shows what was last read",
            "redis available again",
        ]
        await connection.close()
