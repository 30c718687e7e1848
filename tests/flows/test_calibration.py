"""A replica that is slower than its price says: the gateway learns it from real streams, and a restart keeps it."""

import asyncio

import pytest

from backlog.calibrations import Calibrations
from backlog.connection import connect_redis
from backlog.records import CalibrationRecord, PoolName, ReplicaName, ReplicaRecord, ReplicaState, ScalarRecord
from backlog.store import Backlog
from gateway.recalibrate import Recalibrator
from tests.flows.conftest import StartGateway, chat, until
from tests.flows.scripted import END, SSE_HEAD, Call, chunk, event, replica

REQUESTS = 4


async def test_streams_in_flight_are_attributed_and_a_full_replica_teaches(
    start_gateway: StartGateway, redis_url: str, redis_prefix: str
) -> None:
    go_on = asyncio.Event()

    async def half(call: Call) -> None:
        call.send(SSE_HEAD + chunk(event("a") * 100))
        await go_on.wait()
        call.send(chunk(event("b") * 100 + b"data: [DONE]\n\n") + END)

    # Four sequences are a full batch here.
    async with replica(half) as one, start_gateway([one.url], planning_batch=REQUESTS) as gateway:
        known = gateway.pool.replicas["r0"]
        calibration = gateway.pool.fleet.calibration
        wires = [await gateway.connect() for _ in range(REQUESTS)]
        for wire in wires:
            wire.send(chat(stream=True))
        await until(lambda: len(list(known.running_s())) == REQUESTS and min(known.running_s()) > 0.0)
        await until(lambda: known.meter.attributed_s > 0.0)
        price, sent = gateway.pool.price, next(iter(known.open)).reader.weight
        expected_s = price.prefill_s(input_tokens=sent.input_tokens) + price.decode_s(
            input_tokens=sent.input_tokens, output_tokens=100
        )
        assert list(known.running_s()) == pytest.approx([expected_s] * REQUESTS)
        # What it reports is what others learn from.
        gateway.pool.changed = True
        assert gateway.pool.report(0.0, epoch_s=0.0).attributed_s["r0"] == pytest.approx(REQUESTS * expected_s)

        calibration.learn(gateway.pool.replicas)
        # As if ten seconds had passed since.
        known.meter.busy_s += 10.0
        known.meter.sequence_s += 10.0 * REQUESTS
        go_on.set()
        await asyncio.gather(*(wire.response() for wire in wires))
        await until(lambda: not list(known.running_s()))
        connection = connect_redis(redis_url, timeout_s=1.0)
        calibrations = Calibrations(connection, redis_prefix)
        await until(lambda: calibration.loaded)
        await Recalibrator([gateway.pool], calibrations).turn(gateway.pool)
        assert calibration.scalar_of("r0").periods == 1
        stored = await calibrations.load(PoolName("p"))
        await connection.close()
        assert stored == calibration.record()
        assert known.meter.settled_s > REQUESTS * expected_s


async def test_a_restarted_gateway_weighs_as_it_had_learned(
    start_gateway: StartGateway, redis_url: str, redis_prefix: str
) -> None:
    async def answer(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    async with replica(answer) as one:
        async with start_gateway([one.url]) as gateway:
            await until(lambda: gateway.pool.fleet.calibration.loaded)
            before = float((await gateway.chat()).headers["x-weighbridge-gpu-seconds"])
            connection = connect_redis(redis_url, timeout_s=1.0)
            scalar = ScalarRecord(log_ratio=0.405465, quick_log_ratio=0.405465, periods=40)
            record = CalibrationRecord(price=gateway.pool.fleet.calibration.price, replicas={ReplicaName("r0"): scalar})
            await Calibrations(connection, redis_prefix).store(PoolName("p"), record)
            await connection.close()
        async with start_gateway([one.url]) as gateway:
            await until(lambda: gateway.pool.fleet.calibration.loaded)
            after = float((await gateway.chat()).headers["x-weighbridge-gpu-seconds"])
            assert gateway.pool.replicas["r0"].load.ratio == pytest.approx(1.5, rel=1e-4)
    assert after == pytest.approx(1.5 * before, rel=0.01)


async def test_a_replica_with_a_gpu_half_as_fast_is_billed_double(
    start_gateway: StartGateway, backlog: Backlog
) -> None:
    usage = b'{"usage":{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150}}'

    async def answer(call: Call) -> None:
        call.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(usage) + usage
        )

    async with replica(answer) as one, start_gateway([]) as gateway:
        billed_s = []
        for ratio in (1.0, 2.0):
            record = ReplicaRecord(
                name=ReplicaName("r0"), url=one.url, state=ReplicaState.READY, created_at_s=1.0, ratio=ratio
            )
            await backlog.publish_replicas(PoolName("p"), [record])
            await until(lambda ratio=ratio: [load.ratio for load in gateway.pool.fleet.loads.values()] == [ratio])
            assert (await gateway.chat()).status == 200
            billed_s.append(sum(gateway.pool.stats.used_s.values()))
    assert billed_s[1] - billed_s[0] == pytest.approx(2.0 * billed_s[0])
