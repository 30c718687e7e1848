"""Redis refuses, hangs, dies or is somebody else: the connection says so in time and recovers by itself."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from backlog.connection import BacklogUnavailable, Call, connect_redis
from backlog.embedded import EmbeddedRedis, find_servers
from tests.backlog.scripted import GET, PUT
from tests.backlog.waiting import LIMIT_S
from tests.redis_servers import Server, hop, start_redis

WRITE = Call(PUT, ["{a}1"], ["x"])
READ = Call(GET, ["{a}1"], [])


@pytest.fixture(params=find_servers() or [None])
def server(request: pytest.FixtureRequest, redis_server: EmbeddedRedis, tmp_path: Path) -> Iterator[Server]:
    """Every server on this machine; `redis_server` skips, or fails where CI is set, if there is none."""
    with start_redis(tmp_path, "maxmemory-policy noeviction", binary=request.param) as running:
        yield running


async def test_a_replica_takes_no_writes_and_a_promoted_one_does(server: Server) -> None:
    connection = connect_redis(server.url, timeout_s=LIMIT_S)
    await connection.run(WRITE)
    server.tell("REPLICAOF", "127.0.0.1", server.port + 1)
    with pytest.raises(BacklogUnavailable, match=r"ReadOnlyError|READONLY"):
        await connection.run(READ, WRITE)
    with pytest.raises(BacklogUnavailable, match=r"ReadOnlyError|READONLY"):
        await connection.ask("SET", "k", "v")
    server.tell("REPLICAOF", "NO", "ONE")
    assert await connection.run(WRITE) == [b"x"]
    await connection.close()


async def test_a_full_redis_is_unavailable_for_writes_until_it_has_room(server: Server) -> None:
    connection = connect_redis(server.url, timeout_s=LIMIT_S)
    await connection.run(READ, WRITE)
    server.tell("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(BacklogUnavailable, match=r"OutOfMemoryError|OOM"):
        await connection.run(READ, WRITE)
    with pytest.raises(BacklogUnavailable, match=r"OutOfMemoryError|OOM"):
        await connection.ask("SET", "k", "v")
    assert await connection.run(READ) == [b"x"]
    server.tell("CONFIG", "SET", "maxmemory", "0")
    assert await connection.run(WRITE, READ) == [b"x", b"x"]
    await connection.close()


async def test_a_restart_is_not_noticed_however_many_connections_were_open(server: Server) -> None:
    connection = connect_redis(server.url, timeout_s=LIMIT_S)
    for _ in range(2):
        answers = await asyncio.gather(*(connection.run(WRITE, READ) for _ in range(8)))
        assert answers == [[b"x", b"x"]] * 8
        server.kill()
        server.start()
    await connection.close()


async def test_a_redis_that_hangs_is_unavailable_in_time_and_used_again_when_it_goes_on(server: Server) -> None:
    connection = connect_redis(server.url, timeout_s=0.2)
    await connection.run(WRITE)
    server.pause()
    async with asyncio.timeout(LIMIT_S):
        calls = [connection.run(WRITE) for _ in range(4)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {BacklogUnavailable}
        with pytest.raises(BacklogUnavailable, match=r"did not answer within 0\.2 s"):
            await connection.ask("GET", "{a}1")
    server.resume()
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                assert await connection.run(WRITE, READ) == [b"x", b"x"]
                break
            except BacklogUnavailable:
                continue
    await connection.close()


async def test_closing_does_not_wait_for_a_redis_that_hangs(server: Server) -> None:
    connection = connect_redis(server.url, timeout_s=0.2)
    await connection.run(WRITE)
    server.pause()
    async with asyncio.timeout(LIMIT_S):
        await connection.close()


async def test_a_network_that_swallows_everything_is_unavailable_and_one_that_is_mended_is_used(
    server: Server,
) -> None:
    async with hop(server.port, delay_s=0.005) as network:
        connection = connect_redis(f"redis://127.0.0.1:{network.port}", timeout_s=0.5)
        assert await connection.run(WRITE, READ) == [b"x", b"x"]
        network.pause()
        with pytest.raises(BacklogUnavailable, match="did not answer"):
            await connection.run(WRITE)
        network.resume()
        assert await connection.run(WRITE) == [b"x"]
        network.cut()
        with pytest.raises(BacklogUnavailable, match="ConnectionError"):
            await connection.run(WRITE)
        network.mend()
        assert await connection.run(WRITE) == [b"x"]
        await connection.close()


async def test_a_cancelled_row_leaves_no_answer_behind(server: Server) -> None:
    connection = connect_redis(server.url, timeout_s=LIMIT_S)
    for turns in range(40):
        call = asyncio.create_task(connection.run(Call(PUT, ["{a}cancelled"], ["stray"]), READ))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert await connection.run(WRITE, READ) == [b"x", b"x"]
    await connection.close()


async def test_a_wrong_password_is_unavailable_and_is_not_shown(tmp_path: Path) -> None:
    with start_redis(tmp_path, password="right") as server:
        for url in (f"redis://:hunter2@127.0.0.1:{server.port}", f"redis://127.0.0.1:{server.port}"):
            connection = connect_redis(url, timeout_s=LIMIT_S)
            with pytest.raises(BacklogUnavailable, match="Authentication") as caught:
                await connection.run(WRITE)
            assert "hunter2" not in caught.value.cause
            await connection.close()


async def test_a_redis_that_still_loads_its_data_is_unavailable() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(b"-LOADING Redis is loading the dataset in memory\r\n" * data.count(b"EVAL"))
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        connection = connect_redis(f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}", timeout_s=LIMIT_S)
        with pytest.raises(BacklogUnavailable, match="loading"):
            await connection.run(WRITE)
        await connection.close()
