"""Replicas that fail or die, a LiteLLM worker that is killed, Redis that is away."""

import asyncio
import math
import time
from contextlib import suppress

import aiohttp
import pytest

from tests.flows.conftest import until
from tests.litellm.conftest import RETRIES, Stand
from tests.litellm.proxy import Answer, Client, kill, ready
from tests.litellm.replicas import Served, order
from tests.redis_servers import Server

pytestmark = [pytest.mark.litellm, pytest.mark.timeout(180)]  # the first of them starts the proxies


async def test_calls_that_fail_on_every_attempt_leave_nothing_in_flight(one: Stand, client: Client) -> None:
    async with one.replicas("failing", fail=lambda _: 500) as replicas:
        answers = await asyncio.gather(*(client.chat(f"c{i}", model="failing") for i in range(5)))
        await one.idle("failing")
    assert [answer.status for answer in answers] == [500] * 5
    assert sorted(served.name for replica in replicas for served in replica.served) == sorted(
        f"c{i}" for i in range(5) for _ in range(1 + RETRIES)
    )


async def test_a_failed_attempt_is_made_again_on_another_replica(one: Stand, client: Client) -> None:
    async with one.replicas("m") as replicas:

        def fail_once(served: Served) -> int | None:
            return 500 if sum(replica.find(served.name) is not None for replica in replicas) == 1 else None

        for replica in replicas:
            replica.fail = fail_once
        answer = await client.chat("again")
        await one.idle("m")
    assert answer.status == 200, answer.text
    assert sum(replica.find("again") is not None for replica in replicas) == 2
    assert [replica.name for replica in replicas if replica.names()] == [answer.replica]


async def test_a_replica_that_is_killed_is_avoided(one: Stand, client: Client) -> None:
    async with one.replicas("dying") as replicas:
        for replica in replicas:
            replica.begin.clear()
        running = [asyncio.create_task(client.chat(f"runs{i}", model="dying")) for i in range(12)]
        await until(lambda: all(replica.running for replica in replicas))
        await replicas[0].kill()
        for replica in replicas:
            replica.begin.set()
        assert [(await call).status for call in running] == [200] * 12
        begun_s = time.monotonic()
        after = [await client.chat(f"after{i}", model="dying") for i in range(40)]
        took_s = time.monotonic() - begun_s
        await one.idle("dying")
    assert [answer.status for answer in after] == [200] * 40
    assert {answer.replica for answer in after} <= {"r1", "r2", "r3"}
    retried = sum(int(answer.headers.get("x-litellm-attempted-retries", 0)) for answer in after)
    # A kept connection breaks, then the first that is refused shuts it out. It is tried again after 0.5 s, and twice
    # as late each time.
    assert retried <= 2 + math.log2(1.0 + took_s / 0.5)


async def test_a_replica_that_dies_in_mid_stream_ends_the_stream_and_leaves_nothing(one: Stand, client: Client) -> None:
    async with one.replicas("failing") as replicas:
        for replica in replicas:
            replica.go_on.clear()
        async with client.open("broken", model="failing") as response:
            assert b"one" in await response.content.readany()
            (serving,) = [replica for replica in replicas if replica.running]
            await serving.kill()
            with suppress(aiohttp.ClientError):
                assert b"three" not in await response.content.read()
        await one.idle("failing")


async def test_a_worker_that_is_killed_takes_only_its_own_calls_along(two: Stand) -> None:
    calls: list[asyncio.Task[Answer]] = []
    async with two.replicas("m") as replicas, two.client() as client:

        def lost() -> bool:
            cut = sum(served.cut for replica in replicas for served in replica.served)
            return 0 < cut == sum(call.done() for call in calls)

        for replica in replicas:
            replica.begin.clear()
        # Which worker takes a connection is the kernel's choice.
        while await two.busy("m") < 2 or len(calls) < 12:
            assert len(calls) < 60, "one worker took all connections"
            calls.append(asyncio.create_task(client.chat(f"c{len(calls)}")))
            await until(lambda: len(order(replicas)) == len(calls))
        workers, starts = two.proxy.worker_pids(), two.proxy.starts()
        assert len(workers) == 2
        kill(workers[0])
        await until(lost)
        kept = [call for call in calls if not call.done()]
        assert kept
        for replica in replicas:
            replica.begin.set()
        assert [(await call).status for call in kept] == [200] * len(kept)
        await asyncio.wait(calls)
        assert sum(isinstance(call.exception(), aiohttp.ClientError) for call in calls) == len(calls) - len(kept)
        # What it ran is forgotten with its last report.
        await two.idle("m")
        assert (await client.chat("next")).status == 200
    await asyncio.to_thread(ready, two.proxy, starts=starts + 1)


async def test_calls_are_served_while_redis_is_away(one: Stand, client: Client, litellm_redis: Server) -> None:
    async with one.replicas("m") as replicas:
        assert (await client.chat("before")).status == 200
        litellm_redis.kill()
        try:
            answers = await asyncio.gather(*(client.chat(f"c{i}") for i in range(8)))
        finally:
            litellm_redis.start()
        assert [answer.status for answer in answers] == [200] * 8
        assert {f"c{i}" for i in range(8)} < set(order(replicas))
        await until(lambda: _reported(one))
        assert (await client.chat("after")).status == 200
        await one.idle("m")


async def _reported(stand: Stand) -> bool:
    return len((await stand.view("m")).reports) == 1
