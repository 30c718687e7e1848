"""A client that leaves frees its place in the queue and on the replica, and stops the model server."""

import asyncio
from functools import partial

import pytest

from tests.flows.conftest import until
from tests.litellm.conftest import Stand
from tests.litellm.proxy import ENDPOINTS, Answer, Client
from tests.litellm.replicas import Replica

pytestmark = [pytest.mark.litellm, pytest.mark.timeout(180)]  # the first of them starts the proxies
RELEASE_S = 1.0
STREAM = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@STREAM
@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_client_that_leaves_the_queue_frees_its_place(
    one: Stand, client: Client, endpoint: str, stream: bool
) -> None:
    path, body = ENDPOINTS[endpoint]
    runs, stays = (partial(client.chat, name, model="single") for name in ("runs", "stays"))
    leaves = partial(client.post, path, {**body, "model": "single", "stream": stream})
    async with one.replicas("single") as (replica,):
        tasks = await one.line_up([runs, leaves, stays], "single", replica)
        await _leave(tasks[1])
        await until(lambda: _waits(one, 1), limit_s=RELEASE_S)
        replica.begin.set()
        assert [(await tasks[index]).status for index in (0, 2)] == [200, 200]
        await one.idle("single")
    assert replica.names() == ["runs", "stays"]


@STREAM
@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_client_that_leaves_before_the_first_byte_frees_the_replica(
    one: Stand, client: Client, endpoint: str, stream: bool
) -> None:
    path, body = ENDPOINTS[endpoint]
    leaves = partial(client.post, path, {**body, "model": "single", "stream": stream})
    async with one.replicas("single") as (replica,):
        tasks = await one.line_up([leaves, partial(client.chat, "stays", model="single")], "single", replica)
        await _leave(tasks[0])
        await _stopped(replica, "it")
        await until(lambda: replica.names() == ["it", "stays"], limit_s=RELEASE_S)
        replica.begin.set()
        assert (await tasks[1]).status == 200
        await one.idle("single")


async def test_a_client_that_leaves_in_mid_stream_frees_the_replica(one: Stand, client: Client) -> None:
    async with one.replicas("single") as (replica,):
        replica.go_on.clear()
        async with client.open("leaves", model="single") as response:
            assert b"one" in await response.content.readany()
            stays = asyncio.create_task(client.chat("stays", model="single"))
            await one.waits("single", 1)
        await _stopped(replica, "leaves")
        await until(lambda: replica.names() == ["leaves", "stays"], limit_s=RELEASE_S)
        assert (await stays).status == 200
        await one.idle("single")


async def _leave(call: "asyncio.Task[Answer]") -> None:
    """Close a call's connection."""
    call.cancel()
    await asyncio.wait([call])


async def _stopped(replica: Replica, name: str) -> None:
    """The replica sees that connection closed."""

    def cut() -> bool:
        served = replica.find(name)
        return served is not None and served.cut

    await until(cut, limit_s=RELEASE_S)


async def _waits(stand: Stand, count: int) -> bool:
    return await stand.waiting("single") == count
