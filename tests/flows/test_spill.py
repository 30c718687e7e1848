"""Requests that would wait too long are answered by the pool's hosted model: when, by whom, and at what price."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backlog.account import Usage
from backlog.accounts import Accounts
from backlog.connection import connect_redis
from backlog.store import Backlog, connect
from gateway.overflow import Overflow
from gateway.spill import SpillSettings, TokenPrice
from tests.flows.conftest import Gateway, Response, StartGateway, post, until
from tests.flows.queueing import ONE_SLOT, POOL, Slots, send, tenant, tickets
from tests.flows.scripted import (
    BODY,
    SSE_HEAD,
    Call,
    Script,
    ScriptedReplica,
    answer,
    chunk,
    event,
    hang,
    json_response,
    replica,
    reset,
    stream,
)
from tests.redis_servers import hop, start_redis

PRICE = TokenPrice(input_per_mtok=1e6, output_per_mtok=1e6)
"""One token, one unit of money: the scripted answers have 7 and 2."""
SPILL = SpillSettings(model="azure/small", price=PRICE, money_per_day=1e6)
TENANTS = (tenant("a", spill=True), tenant("b"))


@pytest.fixture
def hosted(start_gateway: StartGateway, tmp_path: Path, backlog: Backlog) -> Any:
    """`async with hosted(script, [url, ...], **pool) as (gateway, overflow, process)`: a worker that may spill."""

    @asynccontextmanager
    async def start(
        script: Script,
        urls: list[str],
        *,
        spill: SpillSettings = SPILL,
        there: bool = True,
        listed: bool = True,
        **changes: Any,
    ) -> AsyncIterator[tuple[Gateway, Overflow, ScriptedReplica]]:
        path = tmp_path / "spill.sock"
        if listed and not urls:
            await backlog.publish_replicas(POOL, [])
        gateway_of = start_gateway(urls, tenants=TENANTS, spill_socket=path, spill=spill, **changes)
        async with replica(script, path=path if there else tmp_path / "nowhere.sock") as process, gateway_of as gateway:
            overflow = gateway.running.context.overflows["p"]
            clock = gateway.running.context.clock
            await until(lambda: overflow.money_left(clock()) is not None)
            await until(lambda: gateway.pool.connected)
            await until(lambda: gateway.pool.fleet.known is listed)
            yield gateway, overflow, process

    return start


Hosted = Any
"""The fixture above."""


async def ask(gateway: Gateway, *, tenant: str = "a", path: str = "/v1/chat/completions", **fields: Any) -> Response:
    wire = await gateway.connect()
    default = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    body = msgspec.json.encode(
        {"model": "m", **fields} if "input" in fields or "prompt" in fields else default | fields
    )
    wire.send(post(path, body, key=tenant))
    return await wire.response()


@asynccontextmanager
async def full(
    hosted: Hosted, script: Script, *, short: bool = False, **changes: Any
) -> AsyncIterator[tuple[Gateway, Overflow, Any, Slots]]:
    """The pool's one slot is taken by tenant b; `short`: by what is predicted to be over at once, and is not."""
    slots = Slots()
    async with (
        replica(slots.script) as one,
        hosted(script, [one.url], kv_capacity_tokens=ONE_SLOT, **changes) as (gateway, overflow, process),
    ):
        first = await send(gateway, "first", tenant="b", **({"max_tokens": 1} if short else {}))
        await until(lambda: one.calls)
        yield gateway, overflow, process, slots
        slots.open()
        assert (await first.response()).status == 200


async def booked(redis_url: str, redis_prefix: str) -> Usage | None:
    """Of tenant a, once there is any."""
    connection = connect_redis(redis_url, timeout_s=5.0)
    try:
        today = datetime.now(UTC).date()
        rows = await Accounts(connection, redis_prefix).usage(today - timedelta(days=1), today)
        return next((row.usage for row in rows if row.key.tenant == "a"), None)
    finally:
        await connection.close()


async def test_while_no_replica_is_ready_a_request_spills_at_once(
    hosted: Hosted, redis_url: str, redis_prefix: str
) -> None:
    async with hosted(answer, [], price_per_gpu_hour=1.0) as (gateway, overflow, process):
        response = await ask(gateway)
        assert overflow.in_flight == 0
        assert overflow.money == 9.0
        assert overflow.spilled == {"starting": 1}
        report = gateway.pool.report(0.0, epoch_s=0.0)
        usage = await until(lambda: booked(redis_url, redis_prefix))
    assert (response.status, response.body) == (200, BODY)
    assert response.headers["x-weighbridge-outcome"] == "spilled"
    assert response.headers["x-weighbridge-replica"] == "spill:azure/small"
    assert response.headers["x-weighbridge-spill-reason"].startswith("no replica is ready; ")
    assert process.calls[0].head.startswith(b"POST /pools/p/v1/chat/completions HTTP/1.1\r\n")
    assert usage == Usage(spilled_requests=1, spilled_input_tokens=7, spilled_output_tokens=2, spilled_money=9.0)
    # Work that arrives wants GPUs, whoever answers it.
    assert (report.arrived, report.waiting) == (1, 0)
    assert report.arrived_gpu_s > 0.0


async def test_while_nobody_has_said_which_replicas_there_are_a_request_waits(hosted: Hosted) -> None:
    async with hosted(answer, [], listed=False, spill=replace(SPILL, after_wait_s=0.3)) as (gateway, overflow, _):
        response = await ask(gateway)
        assert overflow.spilled == {"waited": 1}
    assert float(response.headers["x-weighbridge-queue-ms"]) >= 300.0


async def test_a_stream_spills_and_hides_the_usage_that_was_not_asked_for(hosted: Hosted) -> None:
    async with hosted(stream, []) as (gateway, overflow, _):
        response = await ask(gateway, stream=True)
        assert overflow.money == 9.0
    assert response.headers["x-weighbridge-outcome"] == "spilled"
    assert response.body.count(b"data: ") == 3
    assert b"usage" not in response.body


async def test_without_room_a_request_whose_wait_is_too_long_spills_on_arrival(hosted: Hosted) -> None:
    async with full(hosted, answer, spill=replace(SPILL, after_wait_s=0.0)) as (gateway, overflow, _, _slots):
        response = await ask(gateway)
        assert overflow.spilled == {"predicted-wait": 1}
        assert gateway.pool.room.count == 0
    assert response.headers["x-weighbridge-outcome"] == "spilled"


async def test_a_request_leaves_the_queue_when_it_has_waited_too_long(hosted: Hosted, backlog: Any) -> None:
    async with full(hosted, answer, short=True, spill=replace(SPILL, after_wait_s=0.3)) as (
        gateway,
        overflow,
        _,
        _slots,
    ):
        waiting = asyncio.create_task(ask(gateway, max_tokens=1))
        await tickets(backlog, 1)
        response = await waiting
        assert overflow.spilled == {"waited": 1}
        await tickets(backlog, 0)
    assert response.headers["x-weighbridge-outcome"] == "spilled"
    assert float(response.headers["x-weighbridge-queue-ms"]) >= 300.0


STAYS = {
    "a tenant that is not allowed": ({"tenant": "b"}, {}, None),
    "a cap that is reached": ({}, {"money_per_day": 1.0}, "cap"),
    "tokens that are dearer than is allowed": ({}, {"premium": 1e-9}, "premium"),
    "token ids": ({"path": "/v1/completions", "prompt": [1, 2, 3]}, {}, "request"),
    "embeddings": ({"path": "/v1/embeddings", "input": "hello"}, {}, "request"),
}


@pytest.mark.parametrize(("asked", "limits", "why"), STAYS.values(), ids=STAYS)
async def test_what_may_not_spill_waits(
    hosted: Hosted, asked: dict[str, Any], limits: dict[str, Any], why: str | None
) -> None:
    settings = replace(SPILL, after_wait_s=0.0, **limits)
    async with full(hosted, answer, spill=settings, price_per_gpu_hour=1.0) as (gateway, overflow, process, slots):
        waiting = asyncio.create_task(ask(gateway, **asked))
        await until(lambda: gateway.pool.room.count == 1)
        if why is not None:
            # On arrival, and again in the queue.
            await until(lambda: overflow.stayed.get(why, 0) >= 2)
        slots.open()
        response = await waiting
        assert overflow.spilled == {}
    assert response.headers["x-weighbridge-outcome"] == "served"
    assert process.calls == []


async def refuse(call: Call) -> None:
    call.send(json_response(b'{"error":{"message":"RateLimitError (429)"}}', "502 Bad Gateway"))


async def not_portable(call: Call) -> None:
    call.send(json_response(b'{"error":{"message":"BadRequestError (400)"}}', "422 Unprocessable Entity"))


@pytest.mark.parametrize(
    ("script", "calls"),
    [
        pytest.param(refuse, 2, id="the provider fails: twice"),
        pytest.param(reset, 2, id="the process dies: twice"),
        pytest.param(not_portable, 1, id="the provider cannot answer it: once"),
    ],
)
async def test_a_request_on_which_the_hosted_model_fails_waits_again(
    hosted: Hosted, script: Script, calls: int, redis_url: str, redis_prefix: str
) -> None:
    async with full(hosted, script, spill=replace(SPILL, after_wait_s=0.0)) as (gateway, overflow, process, slots):
        waiting = asyncio.create_task(ask(gateway))
        await until(lambda: overflow.stayed.get("tried", 0) >= 1)
        assert gateway.pool.room.count == 1
        assert len(process.calls) == overflow.failures == calls
        assert (overflow.in_flight, overflow.money) == (0, 0.0)
        assert overflow.provider.usable(gateway.running.context.clock())
        slots.open()
        response = await waiting
        usage = await until(lambda: booked(redis_url, redis_prefix))
    assert response.headers["x-weighbridge-outcome"] == "served"
    assert (usage.requests, usage.spilled_requests) == (1, 0)


async def test_a_provider_that_keeps_failing_is_left_alone(hosted: Hosted) -> None:
    async with full(hosted, refuse, spill=replace(SPILL, after_wait_s=0.0)) as (gateway, overflow, process, slots):
        waiting = [asyncio.create_task(ask(gateway)) for _ in range(9)]
        await until(lambda: overflow.stayed.get("provider", 0) >= 1)
        slots.open()
        assert {(await one).headers["x-weighbridge-outcome"] for one in waiting} == {"served"}
        assert 5 <= len(process.calls) < 18


async def test_without_the_spill_process_requests_wait_and_none_counts_as_tried(hosted: Hosted) -> None:
    settings = replace(SPILL, after_wait_s=0.0)
    async with full(hosted, answer, spill=settings, there=False) as (gateway, overflow, _, slots):
        waiting = asyncio.create_task(ask(gateway))
        await until(lambda: overflow.failures >= 1)
        await until(lambda: overflow.stayed.get("provider", 0) >= 1)
        assert "tried" not in overflow.stayed
        slots.open()
        response = await waiting
    assert response.headers["x-weighbridge-outcome"] == "served"


async def test_a_hosted_model_that_breaks_off_ends_the_stream_with_an_error(hosted: Hosted) -> None:
    async def begin(call: Call) -> None:
        call.send(SSE_HEAD + chunk(event("a")))
        await call.writer.drain()
        call.reset()

    async with hosted(begin, []) as (gateway, overflow, _):
        response = await ask(gateway, stream=True)
        assert (overflow.in_flight, overflow.failures) == (0, 0)
        assert overflow.money >= 1.0
    assert b'"code":"replica_broke"' in response.body
    assert response.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(("fields", "output"), [({"stream": True}, False), ({}, True)], ids=["stream", "whole"])
async def test_a_client_that_leaves_ends_the_call_and_pays_what_was_asked(
    hosted: Hosted, redis_url: str, redis_prefix: str, fields: dict[str, Any], output: bool
) -> None:
    async def think(call: Call) -> None:
        await asyncio.Event().wait()

    async with hosted(think, []) as (gateway, overflow, process):
        wire = await send(gateway, "x", tenant="a", **fields)
        call = (await until(lambda: process.calls))[0]
        assert overflow.in_flight == 1
        wire.close()
        async with asyncio.timeout(1.0):
            await call.closed()
        await until(lambda: overflow.in_flight == 0)
        usage = await until(lambda: booked(redis_url, redis_prefix))
    assert usage.spilled_input_tokens > 0
    assert (usage.spilled_output_tokens > 0) is output
    assert overflow.money == usage.spilled_money > 0.0


async def test_only_so_many_are_at_the_hosted_model_at_once(hosted: Hosted) -> None:
    async with full(hosted, hang, spill=replace(SPILL, after_wait_s=0.0, max_in_flight=1)) as started:
        gateway, overflow, process, _slots = started
        first = await send(gateway, "one", tenant="a")
        await until(lambda: process.calls)
        second = await send(gateway, "two", tenant="a")
        await until(lambda: overflow.stayed.get("in-flight", 0) >= 1)
        assert len(process.calls) == 1
        for wire in (first, second):
            wire.close()
        await until(lambda: overflow.in_flight == 0)


async def test_the_price_is_asked_of_the_process_when_it_is_not_configured(hosted: Hosted) -> None:
    async def script(call: Call) -> None:
        if call.head.startswith(b"GET /pools/p/price "):
            call.send(json_response(b'{"input_per_mtok":2e6,"output_per_mtok":1e6}'))
        else:
            await answer(call)

    async with hosted(script, [], spill=replace(SPILL, price=None)) as (gateway, overflow, _):
        await until(lambda: overflow.price is not None)
        await ask(gateway)
        assert overflow.money == 16.0


async def test_without_a_known_price_nothing_spills(hosted: Hosted) -> None:
    async def script(call: Call) -> None:
        call.send(json_response(b'{"input_per_mtok":null,"output_per_mtok":null}'))

    async with full(hosted, script, spill=replace(SPILL, price=None, after_wait_s=0.0)) as started:
        gateway, overflow, process, slots = started
        await until(lambda: process.calls)
        waiting = asyncio.create_task(ask(gateway))
        await until(lambda: overflow.stayed.get("price", 0) >= 1)
        slots.open()
        assert (await waiting).headers["x-weighbridge-outcome"] == "served"


async def test_the_second_of_two_spilled_streams_reuses_the_connection(hosted: Hosted) -> None:
    async with hosted(stream, []) as (gateway, _, process):
        for _ in range(2):
            assert (await ask(gateway, stream=True)).headers["x-weighbridge-outcome"] == "spilled"
        assert process.calls[0].writer is process.calls[1].writer


async def test_two_workers_stay_under_one_cap(
    start_gateway: StartGateway, tmp_path: Path, backlog: Backlog, redis_url: str, redis_prefix: str
) -> None:
    cap = 60.0
    spill = replace(SPILL, money_per_day=cap)
    path = tmp_path / "spill.sock"
    await backlog.publish_replicas(POOL, [])

    def start() -> Any:
        return start_gateway([], tenants=TENANTS, spill_socket=path, spill=spill, max_wait_s=0.05)

    async with replica(answer, path=path), start() as left, start() as right:
        both = [(gateway, gateway.running.context.overflows["p"]) for gateway in (left, right)]
        for gateway, overflow in both:
            await until(lambda gateway=gateway: gateway.pool.solo.share == 0.5 and gateway.pool.fleet.known)
            await until(lambda gateway=gateway, overflow=overflow: _left(gateway, overflow) == cap / 2)
        while not all(overflow.stayed.get("cap") for _, overflow in both):
            await asyncio.gather(*(ask(gateway, max_tokens=2) for gateway, _ in both for _ in range(2)))
            assert sum(overflow.money for _, overflow in both) <= cap
    usage = await booked(redis_url, redis_prefix)
    assert usage is not None
    assert 0.0 < usage.spilled_money == sum(overflow.money for _, overflow in both) <= cap


async def test_without_redis_a_worker_goes_on_with_its_share_and_no_further(
    hosted: Hosted, redis_prefix: str, tmp_path: Path
) -> None:
    with start_redis(tmp_path) as server:
        store = connect(server.url, prefix=redis_prefix)
        await store.publish_replicas(POOL, [])
        await store.close()
        async with (
            hop(server.port) as line,
            hosted(
                answer,
                [],
                redis=f"redis://127.0.0.1:{line.port}",
                max_wait_s=0.05,
                spill=replace(SPILL, money_per_day=40),
            ) as (gateway, overflow, _),
        ):
            line.cut()
            await until(lambda: not gateway.pool.connected)
            spilled = 0
            while (await ask(gateway, max_tokens=2)).headers["x-weighbridge-outcome"] == "spilled":
                spilled += 1
            assert overflow.stayed["cap"] >= 1
            assert spilled >= 1
            assert overflow.money <= 40.0


def _left(gateway: Gateway, overflow: Overflow) -> float | None:
    return overflow.money_left(gateway.running.context.clock())
