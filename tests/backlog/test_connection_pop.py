"""Waiting for an entry of a list: bounded, beside other calls, and safe to cancel."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backlog.connection import BacklogUnavailable, Connection, connect_redis
from tests.backlog.waiting import LIMIT_S, until_async
from tests.redis_servers import start_redis


@pytest.fixture
async def connection(redis_url: str, redis_prefix: str) -> AsyncIterator[Connection]:
    made = connect_redis(redis_url, timeout_s=LIMIT_S)
    yield made
    await made.close()


async def push(connection: Connection, key: str, value: bytes) -> None:
    await connection.ask("RPUSH", key, value)


async def blocked(connection: Connection) -> None:
    """Wait until a client of this Redis is in BLPOP."""
    async with asyncio.timeout(LIMIT_S):
        while not (await connection.ask("INFO", "clients"))["blocked_clients"]:
            await asyncio.sleep(0.005)


async def test_entries_are_taken_in_order_and_then_there_are_none(connection: Connection) -> None:
    for value in (b"one", b"two \xff"):
        await push(connection, "list", value)
    assert [await connection.pop("list", wait_s=0.01) for _ in range(3)] == [b"one", b"two \xff", None]


@pytest.mark.parametrize("wait_s", [0.0, -1.0, 1e-9])
async def test_no_wait_is_not_for_ever(wait_s: float, connection: Connection) -> None:
    async with asyncio.timeout(LIMIT_S):
        assert await connection.pop("list", wait_s=wait_s) is None


async def test_an_entry_that_comes_later_ends_the_wait(connection: Connection) -> None:
    waiting = asyncio.create_task(connection.pop("list", wait_s=LIMIT_S))
    await blocked(connection)
    await push(connection, "list", b"late")
    assert await waiting == b"late"


async def test_a_wait_may_be_longer_than_the_timeout(redis_url: str, redis_prefix: str) -> None:
    connection = connect_redis(redis_url, timeout_s=0.1)
    assert await connection.pop("list", wait_s=0.3) is None
    await connection.close()


async def test_waits_do_not_hold_the_connection_that_calls_use(redis_url: str, redis_prefix: str) -> None:
    connection = connect_redis(f"{redis_url}?max_connections=1", timeout_s=LIMIT_S)
    waiting = asyncio.create_task(connection.pop("list", wait_s=LIMIT_S))
    await blocked(connection)
    for _ in range(5):
        await connection.ask("GET", "key")
    assert not waiting.done()
    await push(connection, "list", b"x")
    assert await waiting == b"x"
    await connection.close()


async def test_several_waits_at_the_same_time_get_their_own_entries(connection: Connection) -> None:
    waiting = [asyncio.create_task(connection.pop(f"list{number}", wait_s=LIMIT_S)) for number in range(10)]
    await blocked(connection)
    for number in reversed(range(10)):
        await push(connection, f"list{number}", str(number).encode())
    assert await asyncio.gather(*waiting) == [str(number).encode() for number in range(10)]


async def test_a_cancelled_wait_ends_and_leaves_no_answer_behind(connection: Connection) -> None:
    for turns in range(30):
        waiting = asyncio.create_task(connection.pop("cancelled", wait_s=LIMIT_S))
        for _ in range(turns):
            await asyncio.sleep(0)
        await push(connection, "cancelled", b"for the cancelled")
        waiting.cancel()
        (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
        assert outcome == b"for the cancelled" or isinstance(outcome, asyncio.CancelledError)
        await push(connection, "other", b"for the other")
        assert await connection.pop("other", wait_s=LIMIT_S) == b"for the other"
        await connection.ask("DEL", "cancelled")


async def test_a_blocked_wait_is_cancelled_at_once(connection: Connection) -> None:
    waiting = asyncio.create_task(connection.pop("list", wait_s=LIMIT_S))
    await blocked(connection)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until_async(waiting.cancelled)
    await push(connection, "list", b"next")
    assert await connection.pop("list", wait_s=LIMIT_S) == b"next"


async def test_closing_ends_a_wait(connection: Connection) -> None:
    waiting = asyncio.create_task(connection.pop("list", wait_s=LIMIT_S))
    await blocked(connection)
    await connection.close()
    with pytest.raises(BacklogUnavailable):
        await waiting


async def test_a_redis_that_dies_ends_a_wait_and_one_that_is_back_is_used(tmp_path: Path) -> None:
    with start_redis(tmp_path) as server:
        connection = connect_redis(server.url, timeout_s=LIMIT_S)
        waiting = asyncio.create_task(connection.pop("list", wait_s=LIMIT_S))
        await blocked(connection)
        server.kill()
        with pytest.raises(BacklogUnavailable):
            await waiting
        server.start()
        await push(connection, "list", b"back")
        assert await connection.pop("list", wait_s=LIMIT_S) == b"back"
        await connection.close()


async def test_a_redis_that_hangs_ends_a_wait_after_the_timeout(tmp_path: Path) -> None:
    with start_redis(tmp_path) as server:
        connection = connect_redis(server.url, timeout_s=0.2)
        assert await connection.pop("list", wait_s=0.01) is None
        server.pause()
        async with asyncio.timeout(LIMIT_S):
            with pytest.raises(BacklogUnavailable, match="did not answer"):
                await connection.pop("list", wait_s=0.1)
        server.resume()
        await connection.close()


async def test_a_server_that_becomes_a_replica_ends_a_wait(tmp_path: Path) -> None:
    with start_redis(tmp_path) as server:
        connection = connect_redis(server.url, timeout_s=LIMIT_S)
        waiting = asyncio.create_task(connection.pop("list", wait_s=LIMIT_S))
        await blocked(connection)
        server.tell("REPLICAOF", "127.0.0.1", server.port + 1)
        with pytest.raises(BacklogUnavailable, match=r"ReadOnlyError|READONLY|UNBLOCKED"):
            await waiting
        await connection.close()
