"""A replica's address, its idle connections, and what its removal leaves alone."""

import asyncio

import pytest

from backlog.records import ReplicaState
from gateway.replica import Replica
from gateway.upstream import ReplicaConnection


def replica(url: str = "http://127.0.0.1:9000", **changes: str) -> Replica:
    return Replica(name="r0", url=url, api_key=changes.get("api_key"), gpus=1, state=ReplicaState.READY)


@pytest.mark.parametrize("url", ["127.0.0.1:9000", "ftp://host:1", "http://", "", "http://host:port"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        replica(url)


def test_a_closed_connection_is_not_given_out() -> None:
    one = replica()
    assert one.keeps(ReplicaConnection(one))
    assert one.take_idle() is None


def test_a_replica_that_is_removed_keeps_no_connection() -> None:
    one = replica()
    one.close()
    assert not one.keeps(ReplicaConnection(one))
    assert not one.idle


async def test_a_dial_that_is_under_way_when_the_replica_is_removed_still_answers() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        one = replica(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        one.dial(connect_s=5.0, connected=lambda _: answered.set_result("connected"), failed=answered.set_result)
        one.close()
        async with asyncio.timeout(10):
            assert await answered == "connected"
        for connection in list(one.open):
            connection.abort()
        async with asyncio.timeout(10):
            while one.open:
                await asyncio.sleep(0)


async def test_a_replica_that_is_not_there_is_said_to_be_unreachable() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    one = replica(f"http://127.0.0.1:{port}")
    answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    one.dial(connect_s=5.0, connected=lambda _: answered.set_result("connected"), failed=answered.set_result)
    async with asyncio.timeout(10):
        assert (await answered).startswith("cannot connect: ")
