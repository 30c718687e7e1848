"""Faults that must not outlive their cause: breakers, records in Redis, dials and ledgers."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from backlog.records import ReplicaName, ReplicaRecord, ReplicaState
from backlog.store import Backlog
from gateway.settings import Limits
from tests.flows.conftest import Gateway, StartGateway, chat, until
from tests.flows.scripted import (
    SSE_HEAD,
    Call,
    answer,
    chunk,
    event,
    full,
    hang,
    json_response,
    replica,
    reset,
    stream,
)  # fmt: skip


def ledgers_are_empty(gateway: Gateway) -> bool:
    return all(
        (load.in_flight, load.kv_tokens, load.prefill_tokens, load.prefill_s, load.remaining_gpu_s) == (0, 0, 0, 0, 0)
        for replica in gateway.pool.replicas.values()
        for load in (replica.ledger.load, replica.ledger.own)
    )


async def test_a_replica_whose_trial_request_timed_out_is_tried_again(start_gateway: StartGateway) -> None:
    turn = [full, hang]

    async def by_turn(call: Call) -> None:
        await (turn.pop(0) if turn else answer)(call)

    limits = Limits(first_byte_s=0.2, drain_s=0.2)
    async with replica(by_turn) as one, start_gateway([one.url], limits=limits, max_wait_s=8.0) as gateway:
        # Full opens the breaker; the request that is on trial afterwards gets no answer.
        assert (await gateway.chat()).status == 504
        assert (await gateway.chat()).status == 200


async def test_a_replica_that_never_answers_opens_its_breaker(start_gateway: StartGateway) -> None:
    limits = Limits(first_byte_s=0.1, drain_s=0.2)
    async with replica(hang) as one, start_gateway([one.url], limits=limits) as gateway:
        responses = await asyncio.gather(*(gateway.chat() for _ in range(5)))
        assert {response.status for response in responses} == {504}
        assert gateway.pool.replicas["r0"].breaker.failures == 5


async def test_a_client_that_leaves_during_the_trial_leaves_room_for_another(start_gateway: StartGateway) -> None:
    turn = [full, hang]

    async def by_turn(call: Call) -> None:
        await (turn.pop(0) if turn else answer)(call)

    async with replica(by_turn) as one, start_gateway([one.url], max_wait_s=8.0) as gateway:
        wire = await gateway.connect()
        wire.send(chat())
        await until(lambda: len(one.calls) == 2)
        wire.writer.transport.abort()
        assert (await gateway.chat()).status == 200


async def test_a_trial_that_takes_long_does_not_keep_everybody_else_away(start_gateway: StartGateway) -> None:
    may_answer = asyncio.Event()

    async def by_turn(call: Call) -> None:
        if len(one.calls) == 1:
            await full(call)
            return
        if len(one.calls) == 2:
            await may_answer.wait()
        await answer(call)

    async with replica(by_turn) as one, start_gateway([one.url], max_wait_s=9.0) as gateway:
        on_trial = asyncio.create_task(gateway.chat())
        await until(lambda: len(one.calls) == 2)
        assert [response.status for response in await asyncio.gather(*(gateway.chat() for _ in range(5)))] == [200] * 5
        may_answer.set()
        assert (await on_trial).status == 200


async def test_one_failed_tick_or_exchange_is_not_the_last(
    start_gateway: StartGateway, backlog: Backlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = []

    def fail_once(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def once(*args: Any, **kwargs: Any) -> Any:
            if name not in failures:
                failures.append(name)
                raise ArithmeticError(name)
            return call(*args, **kwargs)

        return once

    async with start_gateway([], max_wait_s=0.3) as gateway:
        monkeypatch.setattr(gateway.pool, "tick", fail_once("tick", gateway.pool.tick))
        monkeypatch.setattr(gateway.pool, "report", fail_once("report", gateway.pool.report))
        assert (await gateway.chat()).status == 503
        await until(lambda: sorted(failures) == ["report", "tick"])
        heard_at_s = gateway.running.publishers[0].heard_at_s
        await until(lambda: gateway.running.publishers[0].heard_at_s != heard_at_s)


async def test_a_replica_record_that_cannot_be_used_disturbs_nothing_else(
    start_gateway: StartGateway, backlog: Backlog
) -> None:
    def record(name: str, url: str) -> ReplicaRecord:
        return ReplicaRecord(
            name=ReplicaName(name), url=url, state=ReplicaState.READY, created_at_s=1.0, ready_at_s=2.0
        )

    async with replica(answer) as one, start_gateway([]) as gateway:
        pool = gateway.pool.settings.name
        await backlog.publish_replicas(pool, [record("bad", "10.0.0.1:8000"), record("port", "http://h:99999")])
        heard_at_s = gateway.running.publishers[0].heard_at_s or 0.0
        await until(lambda: (gateway.running.publishers[0].heard_at_s or 0.0) > heard_at_s)
        await backlog.publish_replicas(pool, [record("bad", "10.0.0.1:8000"), record("реплика", one.url)])
        await until(lambda: list(gateway.pool.replicas) == ["реплика"])
        response = await gateway.chat()
        assert response.status == 200


async def test_a_request_that_waits_when_the_drain_ends_is_told_so(start_gateway: StartGateway) -> None:
    async with start_gateway([], limits=Limits(drain_s=0.2)) as gateway:
        wire = await gateway.connect()
        wire.send(chat())
        await until(lambda: gateway.pool.room.count == 1)
        gateway.running.drain()
        response = await wire.response()
        assert (response.status, response.error["code"]) == (503, "draining")
        assert await wire.closed()


async def test_the_wait_begins_when_the_request_is_whole(start_gateway: StartGateway) -> None:
    async with start_gateway([]) as gateway:
        wire = await gateway.connect()
        request = chat()
        wire.send(request[:-5])
        await until(lambda: gateway.running.context.connections)
        await asyncio.sleep(0.1)
        whole_at_s = gateway.running.context.clock()
        wire.send(request[-5:])
        await until(lambda: gateway.pool.room.count == 1)
        assert gateway.pool.room.seats[0].arrived_at_s >= whole_at_s
        wire.writer.transport.abort()
        await until(lambda: gateway.pool.room.count == 0)


async def test_absurd_usage_is_not_believed(start_gateway: StartGateway) -> None:
    async def boast(call: Call) -> None:
        call.send(json_response(b'{"usage":{"prompt_tokens":1%b,"completion_tokens":2}}' % (b"0" * 400)))

    async with replica(boast) as one, start_gateway([one.url]) as gateway:
        wire = await gateway.connect()
        for _ in range(2):
            wire.send(chat())
            assert (await wire.response()).status == 200
        await until(lambda: ledgers_are_empty(gateway))


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_clients_and_replicas_do_nothing_stays_behind(start_gateway: StartGateway, seed: int) -> None:
    rng = random.Random(seed)

    async def half(call: Call) -> None:
        call.send(SSE_HEAD + chunk(event("a")) + chunk(event("b"))[:9])
        await call.writer.drain()
        call.reset()

    async def error(call: Call) -> None:
        call.send(json_response(b"{}", "500 Internal Server Error"))

    async def late(call: Call) -> None:
        await asyncio.sleep(0.02)
        await (stream if b'"stream":true' in call.body else answer)(call)

    async def close(call: Call) -> None:
        call.send(json_response())
        await call.writer.drain()
        call.writer.close()

    async def chaos(call: Call) -> None:
        await rng.choice([late, late, late, late, stream, answer, half, error, reset, full, close])(call)

    async def client(gateway: Gateway) -> None:
        for _ in range(6):
            wire = await gateway.connect()
            for _ in range(rng.randint(1, 4)):
                wire.send(chat(stream=rng.random() < 0.5) * rng.randint(1, 3))
                await asyncio.sleep(rng.random() * 0.03)
            if rng.random() < 0.5:
                wire.writer.transport.abort()
            else:
                wire.close()

    problems: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    async with (
        replica(chaos) as one,
        replica(chaos) as two,
        replica(answer) as three,
        start_gateway([one.url, two.url, three.url], max_wait_s=2.0, kv_capacity_tokens=3000) as gateway,
    ):
        await asyncio.gather(*(client(gateway) for _ in range(12)))
        await until(lambda: gateway.pool.room.count == 0 and ledgers_are_empty(gateway))
        await until(lambda: not gateway.running.context.connections)
        for one_replica in gateway.pool.replicas.values():
            await until(lambda r=one_replica: r.open == set(r.idle))
            assert not any(connection.paused or connection.reader for connection in one_replica.idle)
        assert gateway.pool.room.gpu_s == 0.0
    assert problems == []
