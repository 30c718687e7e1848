"""Gateways that share a backlog: each sees the other's work, and replicas come and go by the scaler's word."""

import asyncio

from backlog.records import ReplicaName, ReplicaRecord, ReplicaState
from backlog.store import Backlog
from tests.flows.conftest import StartGateway, until
from tests.flows.scripted import Call, answer, replica


def record(name: str, url: str, state: ReplicaState = ReplicaState.READY) -> ReplicaRecord:
    return ReplicaRecord(name=ReplicaName(name), url=url, state=state, created_at_s=1.0, ready_at_s=2.0)


async def test_a_held_request_is_served_by_the_first_replica_that_gets_ready(
    start_gateway: StartGateway, backlog: Backlog
) -> None:
    async with replica(answer) as one, start_gateway([]) as gateway:
        pool = gateway.pool.settings.name
        await backlog.publish_replicas(pool, [record("a", one.url, ReplicaState.STARTING)])
        held = asyncio.create_task(gateway.chat())
        await until(lambda: gateway.pool.room.count == 1 and gateway.pool.replicas)
        assert not one.calls
        await backlog.publish_replicas(pool, [record("a", one.url)])
        assert (await held).status == 200


async def test_a_draining_replica_gets_no_new_work_and_finishes_what_it_has(
    start_gateway: StartGateway, backlog: Backlog
) -> None:
    may_answer = asyncio.Event()

    async def slow(call: Call) -> None:
        await may_answer.wait()
        await answer(call)

    async with replica(slow) as old, replica(answer) as new, start_gateway([]) as gateway:
        pool = gateway.pool.settings.name
        await backlog.publish_replicas(pool, [record("old", old.url)])
        running = asyncio.create_task(gateway.chat())
        await until(lambda: old.calls)
        await backlog.publish_replicas(pool, [record("old", old.url, ReplicaState.DRAINING), record("new", new.url)])
        await until(lambda: "new" in gateway.pool.replicas)
        later = [await gateway.chat() for _ in range(6)]
        assert {response.headers["x-weighbridge-replica"] for response in later} == {"new"}
        await backlog.publish_replicas(pool, [record("new", new.url)])
        await until(lambda: "old" not in gateway.pool.replicas)
        may_answer.set()
        assert (await running).headers["x-weighbridge-replica"] == "old"


async def test_an_unknown_replica_list_changes_nothing(start_gateway: StartGateway, backlog: Backlog) -> None:
    async with replica(answer) as one, start_gateway([]) as gateway:
        pool = gateway.pool.settings.name
        await backlog.publish_replicas(pool, [record("a", one.url)], ttl_s=1.5)
        await until(lambda: "a" in gateway.pool.replicas)

        async def unknown() -> bool:
            return (await backlog.view(pool)).replicas is None

        await until(unknown)
        heard_at_s = gateway.running.publishers[0].heard_at_s
        await until(lambda: gateway.running.publishers[0].heard_at_s > heard_at_s)
        assert (await gateway.chat()).status == 200


async def test_two_gateways_see_each_others_work(start_gateway: StartGateway, backlog: Backlog) -> None:
    may_answer = asyncio.Event()

    async def slow(call: Call) -> None:
        await may_answer.wait()
        await answer(call)

    long = [{"role": "user", "content": "word " * 30_000}]
    async with (
        replica(slow) as one,
        replica(slow) as two,
        start_gateway([one.url, two.url]) as left,
        start_gateway([one.url, two.url]) as right,
    ):
        first = asyncio.create_task(left.chat(messages=long, max_tokens=10))
        await until(lambda: one.calls or two.calls)
        busy = "r0" if one.calls else "r1"
        await until(lambda: right.pool.replicas[busy].ledger.load.in_flight == 1)
        second = asyncio.create_task(right.chat(messages=long, max_tokens=10))
        await until(lambda: one.calls and two.calls)
        may_answer.set()
        used = {(await task).headers["x-weighbridge-replica"] for task in (first, second)}
    assert used == {"r0", "r1"}
