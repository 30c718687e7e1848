"""The service by KEDA's own means: a gRPC client on loopback, and a real Redis behind it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from time import time
from typing import Any

import grpc
import grpc.aio
import pytest

from autoscaler.keda.server import KedaServer, serve
from backlog.records import PoolName, ReplicaState
from backlog.store import Backlog, connect
from tests.autoscaler.builders import POOL, record, report
from tests.autoscaler.keda.builders import decided
from tests.autoscaler.keda.client import ACTIVE, INACTIVE, LIMIT_S, METRIC, Keda, keda, query, reference, text, value_of
from tests.redis_servers import free_port, hop, start_redis


@asynccontextmanager
async def serving(backlog: Backlog) -> AsyncIterator[tuple[KedaServer, Keda]]:
    server = KedaServer(backlog, {POOL: 60.0, PoolName("code"): 60.0}, poll_s=0.01)
    port = await server.start("127.0.0.1", 0)
    try:
        async with keda(port) as client:
            yield server, client
    finally:
        await server.stop()


async def publish(backlog: Backlog, desired: int, *states: ReplicaState, age_s: float = 0.0) -> None:
    await backlog.publish_replicas(POOL, [record(f"r{index}", state) for index, state in enumerate(states)])
    await backlog.publish_decision(POOL, decided(desired, at_s=time() - age_s))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not true():
            await asyncio.sleep(0.005)


async def read(stream: Any) -> Any:
    async with asyncio.timeout(LIMIT_S):
        return await stream.read()


async def test_keda_is_told_the_metric_its_target_and_its_value(backlog: Backlog) -> None:
    await publish(backlog, 2, ReplicaState.READY, ReplicaState.READY, ReplicaState.DRAINING)
    async with serving(backlog) as (_, client):
        assert await client.call("GetMetricSpec", reference()) == (
            b"\x0a\x21" + text(1, METRIC) + b"\x10\x01\x19\x00\x00\x00\x00\x00\x00\xf0\x3f"
        )
        assert value_of(await client.call("GetMetrics", query())) == 3
        assert await client.call("IsActive", reference()) == ACTIVE


async def test_a_stream_hears_of_work_that_waits_at_zero(backlog: Backlog) -> None:
    await publish(backlog, 0)
    async with serving(backlog) as (_, client):
        stream = client.stream(reference())
        assert await read(stream) == INACTIVE
        await backlog.exchange(POOL, report(started_at_s=time(), waiting=1))
        assert await read(stream) == ACTIVE
        stream.cancel()


@pytest.mark.parametrize(
    ("method", "message", "code", "said"),
    [
        pytest.param("IsActive", reference(None), "INVALID_ARGUMENT", "has no 'pool'", id="no metadata"),
        pytest.param("IsActive", reference("chat", "Pool"), "INVALID_ARGUMENT", "ml/worker", id="another key"),
        pytest.param("IsActive", reference("ragg"), "NOT_FOUND", "known: chat, code", id="unknown pool"),
        pytest.param("GetMetricSpec", reference("ragg"), "NOT_FOUND", "'ragg'", id="spec of an unknown pool"),
        pytest.param("GetMetrics", query(b"cpu"), "INVALID_ARGUMENT", "'cpu'", id="unknown metric"),
        pytest.param("GetMetrics", query(), "UNAVAILABLE", "no decision", id="no decision"),
        pytest.param("IsActive", reference(), "UNAVAILABLE", "no decision", id="no decision for the activity"),
        pytest.param("StreamMetricSpec", reference(), "UNIMPLEMENTED", "", id="what is not offered"),
        pytest.param("IsActive", b"\xff", "INVALID_ARGUMENT", "corrupt", id="not a message"),
    ],
)
async def test_a_call_that_cannot_be_answered_says_why(
    backlog: Backlog, method: str, message: bytes, code: str, said: str
) -> None:
    async with serving(backlog) as (_, client):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.call(method, message)
        assert caught.value.code().name == code
        assert said in (caught.value.details() or "")


@pytest.mark.parametrize(("pool", "code"), [(None, "INVALID_ARGUMENT"), ("ragg", "NOT_FOUND")], ids=["none", "unknown"])
async def test_a_stream_for_no_pool_ends_with_the_reason(backlog: Backlog, pool: str | None, code: str) -> None:
    async with serving(backlog) as (_, client):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read(client.stream(reference(pool)))
        assert caught.value.code().name == code


async def test_an_old_decision_is_not_answered_from(backlog: Backlog) -> None:
    await publish(backlog, 2, ReplicaState.READY, age_s=100.0)
    async with serving(backlog) as (_, client):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.call("GetMetrics", query())
        assert "100 s old" in (caught.value.details() or "")


async def test_streams_live_through_a_redis_that_is_away(tmp_path: Path) -> None:
    with start_redis(tmp_path) as redis:
        async with hop(redis.port) as way:
            backlog = connect(f"redis://127.0.0.1:{way.port}", timeout_s=0.3)
            await publish(backlog, 1, ReplicaState.READY)
            async with serving(backlog) as (_, client):
                stream = client.stream(reference())
                assert await read(stream) == ACTIVE
                way.cut()
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await client.call("GetMetrics", query())
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
                assert "backlog unavailable" in (caught.value.details() or "")
                way.mend()
                async with asyncio.timeout(LIMIT_S):
                    while True:
                        with suppress(grpc.aio.AioRpcError):
                            assert value_of(await client.call("GetMetrics", query())) == 1
                            break
                await publish(backlog, 0)
                assert await read(stream) == INACTIVE
                stream.cancel()
            await backlog.close()


async def test_a_stream_that_is_cut_is_forgotten_and_can_be_opened_again(backlog: Backlog) -> None:
    await publish(backlog, 1, ReplicaState.READY)
    server = KedaServer(backlog, {POOL: 60.0}, poll_s=0.01)
    port = await server.start("127.0.0.1", 0)
    try:
        async with hop(port) as way, keda(way.port) as client:
            stream = client.stream(reference())
            assert await read(stream) == ACTIVE
            assert server.feeds[POOL].listeners == 1
            way.cut()
            with pytest.raises(grpc.aio.AioRpcError):
                await read(stream)
            await until(lambda: server.feeds[POOL].listeners == 0)
            way.mend()
            async with asyncio.timeout(LIMIT_S):
                while True:
                    with suppress(grpc.aio.AioRpcError):
                        again = client.stream(reference())
                        assert await read(again) == ACTIVE
                        again.cancel()
                        break
    finally:
        await server.stop()


async def test_many_streams_hear_of_a_change_and_leave_nothing(backlog: Backlog) -> None:
    await publish(backlog, 0)
    async with serving(backlog) as (server, client):
        streams = [client.stream(reference()) for _ in range(60)]
        assert set(await asyncio.gather(*map(read, streams))) == {INACTIVE}
        await publish(backlog, 1)
        assert set(await asyncio.gather(*map(read, streams))) == {ACTIVE}
        for stream in streams:
            stream.cancel()
        await until(lambda: server.feeds[POOL].listeners == 0)


async def test_a_client_that_does_not_read_disturbs_nobody(backlog: Backlog) -> None:
    await publish(backlog, 0)
    async with serving(backlog) as (server, client):
        silent = client.stream(reference())
        await until(lambda: server.feeds[POOL].listeners == 1)
        reader = client.stream(reference())
        for desired, expected in [(0, INACTIVE), (1, ACTIVE), (0, INACTIVE), (1, ACTIVE), (0, INACTIVE)]:
            await publish(backlog, desired)
            assert await read(reader) == expected
        reader.cancel()
        silent.cancel()


async def test_streams_end_in_an_orderly_way_when_the_server_stops(backlog: Backlog) -> None:
    await publish(backlog, 1)
    stop_event = asyncio.Event()
    port = free_port()
    task = asyncio.create_task(serve(backlog, {POOL: 60.0}, stop_event, host="127.0.0.1", port=port), name="keda")
    async with keda(port) as client:
        stream = client.channel.unary_stream("/externalscaler.ExternalScaler/StreamIsActive")(
            reference(), wait_for_ready=True
        )
        assert await read(stream) == ACTIVE
        stop_event.set()
        assert await read(stream) is grpc.aio.EOF
        assert await stream.code() is grpc.StatusCode.OK
    await task


async def test_a_port_in_use_is_an_error_that_names_it(backlog: Backlog) -> None:
    first, second = KedaServer(backlog, {}), KedaServer(backlog, {})
    port = await first.start("127.0.0.1", 0)
    try:
        with pytest.raises(OSError, match=f"127.0.0.1:{port}"):
            await second.start("127.0.0.1", port)
    finally:
        await second.stop()
        await first.stop()


async def test_another_pool_of_the_same_server_has_its_own_answer(backlog: Backlog) -> None:
    await publish(backlog, 1, ReplicaState.READY)
    code = PoolName("code")
    await backlog.publish_replicas(code, [])
    await backlog.publish_decision(code, replace(decided(0, at_s=time()), pool=code))
    async with serving(backlog) as (_, client):
        assert await client.call("IsActive", reference("chat")) == ACTIVE
        assert await client.call("IsActive", reference("code")) == INACTIVE
