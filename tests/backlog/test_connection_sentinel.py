"""Sentinel: calls follow the master, whichever way it changes. A killed master is in `test_connection_forms`."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from backlog.connection import BacklogUnavailable, Call, connect_redis
from tests.backlog.scripted import GET, PUT
from tests.backlog.waiting import LIMIT_S
from tests.redis_servers import Server, free_port, start_redis, start_sentinel

WRITE, READ = Call(PUT, ["{a}1"], ["x"]), Call(GET, ["{a}1"], [])


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Server, Server, Server]]:
    """A sentinel and two servers, the first of them its master."""
    with (
        start_redis(tmp_path) as one,
        start_redis(tmp_path) as other,
        start_sentinel(tmp_path, one, down_after_ms=60_000) as sentinel,
    ):
        yield sentinel, one, other


def url(*ports: int, master: str = "main") -> str:
    return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in ports)}/{master}"


def announce(sentinel: Server, master: Server) -> None:
    sentinel.tell("SENTINEL", "REMOVE", "main")
    sentinel.tell("SENTINEL", "MONITOR", "main", "127.0.0.1", master.port, 1)


async def test_a_master_that_is_a_replica_now_is_left_within_the_call(servers: tuple[Server, Server, Server]) -> None:
    sentinel, one, other = servers
    connection = connect_redis(url(sentinel.port), timeout_s=LIMIT_S)
    await asyncio.gather(*(connection.run(WRITE) for _ in range(4)))
    one.tell("REPLICAOF", "127.0.0.1", other.port)
    announce(sentinel, other)
    assert await connection.run(READ, WRITE, READ) == [None, b"x", b"x"]
    assert other.tell("GET", "{a}1") == "x"
    await connection.ask("SET", "k", "v")
    assert other.tell("GET", "k") == "v"
    await connection.close()


async def test_a_wait_moves_to_the_new_master(servers: tuple[Server, Server, Server]) -> None:
    sentinel, one, other = servers
    connection = connect_redis(url(sentinel.port), timeout_s=LIMIT_S)
    waiting = asyncio.create_task(connection.pop("list", wait_s=LIMIT_S))
    await blocked(one)
    announce(sentinel, other)
    one.tell("REPLICAOF", "127.0.0.1", other.port)
    await blocked(other)
    other.tell("RPUSH", "list", "mail")
    assert await waiting == b"mail"
    await connection.close()


async def blocked(server: Server) -> None:
    async with asyncio.timeout(LIMIT_S):
        while "flags=b" not in str(server.tell("CLIENT LIST")) and "blpop" not in str(server.tell("CLIENT LIST")):
            await asyncio.sleep(0.005)


async def test_a_master_that_hangs_is_left_once_sentinel_names_another(servers: tuple[Server, Server, Server]) -> None:
    sentinel, one, other = servers
    connection = connect_redis(url(sentinel.port), timeout_s=0.5)
    await asyncio.gather(*(connection.run(WRITE) for _ in range(4)))
    one.pause()
    with pytest.raises(BacklogUnavailable, match="did not answer"):
        await connection.run(WRITE)
    announce(sentinel, other)
    assert await connection.run(WRITE, READ) == [b"x", b"x"]
    await connection.close()


async def test_a_sentinel_that_is_away_and_one_that_hangs_are_passed_over(
    servers: tuple[Server, Server, Server],
) -> None:
    sentinel, _, other = servers
    other.pause()
    connection = connect_redis(url(free_port(), other.port, sentinel.port), timeout_s=2.0)
    assert await connection.run(WRITE) == [b"x"]
    await connection.close()


async def test_a_master_that_no_sentinel_knows_is_unavailable_by_name(servers: tuple[Server, Server, Server]) -> None:
    connection = connect_redis(url(servers[0].port, master="unknown"), timeout_s=LIMIT_S)
    for call in (connection.run(WRITE), connection.pop("list", wait_s=LIMIT_S)):
        with pytest.raises(BacklogUnavailable, match="'unknown'"):
            await call
    await connection.close()


async def test_without_any_sentinel_redis_is_unavailable_and_no_password_is_shown() -> None:
    address = f"redis+sentinel://:hunter2@127.0.0.1:{free_port()}/main?sentinel_password=hunter3"
    connection = connect_redis(address, timeout_s=LIMIT_S)
    with pytest.raises(BacklogUnavailable, match="'main'") as caught:
        await connection.run(WRITE)
    assert "hunter" not in caught.value.cause
    await connection.close()
