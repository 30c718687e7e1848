"""Where calls go and in what order, through a LiteLLM proxy whose calls the plugin schedules."""

import asyncio
from collections import Counter
from functools import partial
from itertools import pairwise

import pytest

from tests.flows.conftest import until
from tests.litellm.conftest import Stand
from tests.litellm.proxy import Answer, Client
from tests.litellm.replicas import free_ports, running

pytestmark = [pytest.mark.litellm, pytest.mark.timeout(180)]  # the first of them starts the proxies
CALLS = 240


async def test_every_call_lands_where_the_scheduler_said(two: Stand) -> None:
    names = [f"c{i}" for i in range(CALLS)]
    async with two.replicas("m") as replicas, two.client() as client:
        answers = await asyncio.gather(*(client.chat(name, stream=i % 2 == 1) for i, name in enumerate(names)))
        await two.idle("m")
    assert Counter(answer.status for answer in answers) == {200: CALLS}
    said = {name: answer.replica for name, answer in zip(names, answers, strict=True)}
    did = {one.name: replica.name for replica in replicas for one in replica.served}
    assert said == did
    assert sum(len(replica.served) for replica in replicas) == CALLS
    # Equal calls, equal replicas: none has half of them.
    assert all(0 < len(replica.served) < CALLS / 2 for replica in replicas)


async def test_held_calls_start_in_the_order_of_the_queue(one: Stand, client: Client) -> None:
    names = [f"c{i}" for i in range(9)]
    async with one.replicas("single") as (replica,):
        tasks = await one.line_up([partial(client.chat, name, model="single") for name in names], "single", replica)
        replica.begin.set()
        answers = await asyncio.gather(*tasks)
    assert [answer.status for answer in answers] == [200] * 9
    assert replica.names() == names
    assert replica.most_running == 1
    waits_ms = [float(answer.headers["x-weighbridge-queue-ms"]) for answer in answers]
    assert waits_ms[0] < min(waits_ms[1:])


async def test_a_key_may_say_that_its_calls_go_first(one: Stand, client: Client) -> None:
    calls = [partial(client.chat, name, model="single") for name in ("first", "second", "third")]
    urgent = partial(client.chat, "urgent", model="single", key="sk-team-7")
    async with one.replicas("single") as (replica,):
        tasks = await one.line_up([*calls, urgent], "single", replica)
        replica.begin.set()
        await asyncio.gather(*tasks)
    assert replica.names() == ["first", "urgent", "second", "third"]


async def test_teams_take_turns(one: Stand, client: Client) -> None:
    flood = [partial(client.chat, f"a{i}", model="single", key="sk-a") for i in range(5)]
    other = partial(client.chat, "b", model="single", key="sk-b")
    async with one.replicas("single") as (replica,):
        tasks = await one.line_up([*flood, other], "single", replica)
        replica.begin.set()
        await asyncio.gather(*tasks)
    assert replica.names().index("b") <= 2


async def test_twelve_calls_on_two_replicas_of_two_slots_are_all_answered(one: Stand, client: Client) -> None:
    async with one.replicas("slots", slots=2) as replicas:
        for replica in replicas:
            replica.begin.clear()
        calls = [asyncio.create_task(client.chat(f"c{i}", model="slots")) for i in range(12)]
        await until(lambda: sum(replica.running for replica in replicas) == 4)
        await one.waits("slots", 8)
        for replica in replicas:
            replica.begin.set()
        answers = await asyncio.gather(*calls)
    assert [answer.status for answer in answers] == [200] * 12
    assert [replica.most_running for replica in replicas] == [2, 2]


async def test_live_pods_that_litellm_does_not_know_are_used(one: Stand, client: Client) -> None:
    async def moved() -> bool:
        return (await client.chat("next", model="live")).replica == "pod-b"

    async with running(free_ports(2)) as (first, second):
        # Scaled to zero: the call waits for a pod.
        await one.publish("live", {})
        held = asyncio.create_task(client.chat("held", model="live"))
        await one.waits("live", 1)
        await one.publish("live", {"pod-a": first.url})
        answer = await held
        assert (answer.status, answer.replica, first.names()) == (200, "pod-a", ["held"]), answer.text
        await one.publish("live", {"pod-b": second.url})
        await until(moved)
        assert second.names() == ["next"]
        await one.idle("live")


async def test_two_workers_share_one_queue(two: Stand) -> None:
    async def holders() -> int:
        return sum(seen.report.waiting > 0 for seen in (await two.view("single")).reports)

    async def placed(count: int) -> bool:
        return await two.waiting("single") + replica.running == count

    calls: dict[str, asyncio.Task[Answer]] = {}
    async with two.replicas("single") as (replica,), two.client() as client:
        replica.begin.clear()
        # Which worker takes a connection is the kernel's choice: until calls wait in both.
        while await holders() < 2 or len(calls) < 8:
            assert len(calls) < 60, "one worker took all connections"
            name = f"c{len(calls)}"
            calls[name] = asyncio.create_task(client.chat(name, model="single"))
            await until(lambda: placed(len(calls)))
        # Before a worker has heard of the first call it may believe that the replica is free.
        started = replica.running
        replica.begin.set()
        answers = await asyncio.gather(*calls.values())
        await two.idle("single")
    assert [answer.status for answer in answers] == [200] * len(calls)
    assert started <= 2
    ahead = replica.names()[:started]
    assert replica.names() == [*ahead, *(name for name in calls if name not in ahead)]
    for before, after in pairwise(replica.served[started - 1 :]):
        assert before.ended_at_s is not None
        assert before.ended_at_s <= after.arrived_at_s  # in whichever worker each of them was
