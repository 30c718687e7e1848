"""What was used arrives in the accounts once, whatever happens to Redis in between."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from backlog.account import NO_USAGE, AccountBatch, Charge, Spent, Standing, Usage, UsageKey
from backlog.accounts import Accounts
from backlog.connection import BacklogUnavailable, connect_redis
from backlog.embedded import EmbeddedRedis
from gateway.bookkeeper import HEAR_S, Bookkeeper
from gateway.settings import TenantLimits, TenantSettings
from tests.backlog.waiting import LIMIT_S, until_async

BLUE = TenantSettings(name="blue", key_sha256=(), limits=TenantLimits(gpu_s_per_minute=60.0))
FREE = TenantSettings(name="free", key_sha256=())
CHAT = UsageKey("blue", "chat", "m")
FREE_CHAT = UsageKey("free", "chat", "m")
ONE = Usage(requests=1, input_tokens=10, output_tokens=5, prefill_gpu_s=0.5, decode_gpu_s=1.5, money=0.25)
NOTHING = Spent(gpu_s=0.0, money=0.0, left_s=3600.0)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Book:
    """Accounts in memory: what was booked by number, what was asked for, and how the next calls end."""

    def __init__(self) -> None:
        self.booked: dict[int, AccountBatch] = {}
        self.asked: list[set[str]] = []
        self.away = False
        self.deaf = False
        """Books, and loses its answer."""
        self.broken = False
        self.bucket_gpu_s = 60.0

    async def settle(
        self, worker: str, batch: AccountBatch | None, asked: Mapping[str, float | None]
    ) -> Mapping[str, Standing]:
        await asyncio.sleep(0)
        if self.away:
            raise BacklogUnavailable("gone")
        if self.broken:
            raise ValueError("broken")
        self.asked.append(set(asked))
        if batch is not None:
            self.booked.setdefault(batch.number, batch)
        if self.deaf:
            raise BacklogUnavailable("no answer")
        return {tenant: Standing(bucket_gpu_s=self.bucket_gpu_s, day=NOTHING, month=NOTHING) for tenant in asked}

    @property
    def usage(self) -> Usage:
        return sum((each for batch in self.booked.values() for each in batch.usage.values()), start=NO_USAGE)

    def charged(self, tenant: str) -> float:
        return sum(batch.charges[tenant].gpu_s for batch in self.booked.values() if tenant in batch.charges)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def keeper(book: Book, clock: Clock) -> Bookkeeper:
    return Bookkeeper(book, [BLUE, FREE], worker="w", clock=clock)  # type: ignore[arg-type]


def serve(keeper: Bookkeeper, clock: Clock, *, estimate_gpu_s: float = 3.0, usage: Usage = ONE) -> None:
    charged = keeper.limiter.charge("blue", estimate_gpu_s, 0.5, clock.now_s)
    keeper.settled(CHAT, usage, charged)


async def test_usage_is_booked_under_growing_numbers(keeper: Bookkeeper, book: Book, clock: Clock) -> None:
    for _ in range(3):
        serve(keeper, clock)
        serve(keeper, clock)
        await keeper.flush()
    assert list(book.booked) == [1, 2, 3]
    assert book.usage == ONE + ONE + ONE + ONE + ONE + ONE


async def test_what_is_charged_adds_up_to_what_was_used(keeper: Bookkeeper, book: Book, clock: Clock) -> None:
    charged = keeper.limiter.charge("blue", 3.0, 0.5, clock.now_s)
    await keeper.flush()
    assert book.charged("blue") == 3.0
    keeper.settled(CHAT, ONE, charged)
    keeper.settled(FREE_CHAT, ONE)
    await keeper.flush()
    assert book.charged("blue") == book.charged("free") == ONE.gpu_s
    assert book.booked[2].charges["blue"] == Charge(ONE.gpu_s - 3.0, ONE.money - 0.5)


async def test_a_request_that_never_ran_gets_its_charge_back_and_is_in_no_usage(
    keeper: Bookkeeper, book: Book, clock: Clock
) -> None:
    serve(keeper, clock, usage=NO_USAGE)
    await keeper.flush()
    assert book.usage == NO_USAGE
    assert book.charged("blue") == 0.0


async def test_nothing_is_sent_while_nothing_changes_and_nobody_is_due(
    keeper: Bookkeeper, book: Book, clock: Clock
) -> None:
    await keeper.flush()
    clock.now_s += HEAR_S / 2
    await keeper.flush()
    assert book.asked == [{"blue"}]
    clock.now_s += HEAR_S / 2
    await keeper.flush()
    assert book.asked == [{"blue"}, {"blue"}]


async def test_without_limits_there_is_nothing_to_hear(book: Book, clock: Clock) -> None:
    keeper = Bookkeeper(book, [FREE], worker="w", clock=clock)  # type: ignore[arg-type]
    await keeper.flush()
    assert book.asked == []
    keeper.settled(FREE_CHAT, ONE)
    await keeper.flush()
    assert book.asked == [set()]


async def test_a_batch_hears_of_those_whom_it_charges(keeper: Bookkeeper, book: Book, clock: Clock) -> None:
    await keeper.flush()
    keeper.settled(FREE_CHAT, ONE)
    await keeper.flush()
    serve(keeper, clock)
    await keeper.flush()
    assert book.asked == [{"blue"}, set(), {"blue"}]


async def test_the_limiter_takes_over_what_is_heard(keeper: Bookkeeper, book: Book, clock: Clock) -> None:
    book.bucket_gpu_s = -30.0
    await keeper.flush()
    denial = keeper.limiter.admit("blue", clock.now_s)
    assert denial is not None
    assert denial.retry_after_s == pytest.approx(30.0)


async def test_what_is_used_while_redis_is_away_is_booked_when_it_is_back(
    keeper: Bookkeeper, book: Book, clock: Clock
) -> None:
    book.away = True
    with capture_logs() as logs:
        for _ in range(4):
            serve(keeper, clock)
            await keeper.flush()
        assert (keeper.error, book.booked) == ("gone", {})
        book.away = False
        await keeper.flush()
        await keeper.flush()
    assert [entry["event"] for entry in logs] == ["usage cannot be booked now", "usage is booked again"]
    assert keeper.error is None
    assert list(book.booked) == [1, 2]
    assert book.usage == ONE + ONE + ONE + ONE
    assert book.charged("blue") == 4 * ONE.gpu_s


async def test_a_batch_whose_answer_was_lost_is_sent_again_as_it_was(
    keeper: Bookkeeper, book: Book, clock: Clock
) -> None:
    book.deaf = True
    serve(keeper, clock)
    await keeper.flush()
    serve(keeper, clock)
    await keeper.flush()
    book.deaf = False
    await keeper.flush()
    await keeper.flush()
    assert list(book.booked) == [1, 2]
    assert book.usage == ONE + ONE


async def test_a_bug_loses_one_batch_and_not_those_after_it(keeper: Bookkeeper, book: Book, clock: Clock) -> None:
    book.broken = True
    serve(keeper, clock)
    with capture_logs() as logs:
        running = asyncio.create_task(keeper.run())
        await until_async(lambda: logs)
        book.broken = False
        serve(keeper, clock)
        keeper.stop()
        await running
    assert [entry["event"] for entry in logs] == ["booking usage failed, one batch is lost"]
    assert book.usage == ONE


async def test_what_is_left_at_the_end_is_booked(keeper: Bookkeeper, book: Book, clock: Clock) -> None:
    book.deaf = True
    serve(keeper, clock)
    running = asyncio.create_task(keeper.run())
    await until_async(lambda: keeper.error)
    serve(keeper, clock)
    book.deaf = False
    keeper.stop()
    await running
    assert book.usage == ONE + ONE


async def test_the_end_does_not_wait_for_a_redis_that_is_away(keeper: Bookkeeper, book: Book, clock: Clock) -> None:
    book.away = True
    serve(keeper, clock)
    with capture_logs() as logs:
        keeper.stop()
        await keeper.run()
    assert logs[-1] == {"event": "usage was not booked before the end", "cause": "gone", "log_level": "warning"}


@pytest.fixture
async def accounts(redis_url: str, redis_prefix: str) -> AsyncIterator[Accounts]:
    connection = connect_redis(redis_url, timeout_s=LIMIT_S)
    yield Accounts(connection, redis_prefix)
    await connection.close()


async def test_two_workers_share_one_bucket(accounts: Accounts, clock: Clock) -> None:
    first, second = (Bookkeeper(accounts, [BLUE], worker=name, clock=clock, share=0.5) for name in ("first", "second"))
    for keeper in (first, second):
        await keeper.flush()
    first.limiter.charge("blue", 1000.0, 0.0, clock.now_s)
    await first.flush()
    assert second.limiter.admit("blue", clock.now_s) is None
    clock.now_s += HEAR_S
    await second.flush()
    denial = second.limiter.admit("blue", clock.now_s)
    assert denial is not None
    assert 940.0 - LIMIT_S < denial.retry_after_s <= 940.0


async def test_no_usage_is_lost_or_booked_twice_while_redis_hangs(tmp_path: Path, clock: Clock) -> None:
    with EmbeddedRedis.start(tmp_path) as server:
        connection = connect_redis(server.url, timeout_s=0.05)
        accounts = Accounts(connection)
        keeper = Bookkeeper(accounts, [BLUE, FREE], worker="w", clock=clock)
        serve(keeper, clock)
        await keeper.flush()
        os.kill(server.pid, signal.SIGSTOP)
        try:
            for _ in range(3):
                serve(keeper, clock)
                await keeper.flush()
            assert keeper.error is not None
        finally:
            os.kill(server.pid, signal.SIGCONT)
        async with asyncio.timeout(LIMIT_S):
            await keeper.flush()
            while keeper.error is not None:
                await keeper.flush()
        await keeper.flush()
        await connection.close()
        reading = connect_redis(server.url, timeout_s=LIMIT_S)
        seconds, _ = await reading.ask("TIME")
        rows = await Accounts(reading).usage(*_around(float(seconds)))
        await reading.close()
    assert {row.key for row in rows} == {CHAT}
    assert sum((row.usage for row in rows), start=NO_USAGE) == ONE + ONE + ONE + ONE


def _around(at_s: float) -> tuple[date, date]:
    day = datetime.fromtimestamp(at_s, UTC).date()
    return day - timedelta(days=1), day + timedelta(days=1)
