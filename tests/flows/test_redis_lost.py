"""Redis dies, is slow or full while requests wait: none is lost, none is sent twice, and the queue comes back."""

from pathlib import Path

from backlog.embedded import EmbeddedRedis
from backlog.order import Order
from backlog.store import connect
from tests.flows.conftest import StartGateway, until
from tests.flows.queueing import ONE_SLOT, POOL, Slots, send, tenant
from tests.flows.scripted import answer, replica
from tests.redis_servers import hop, start_redis

TENANTS = (tenant("a"),)


async def test_a_queue_is_rebuilt_by_its_owners_when_redis_comes_back_empty(
    start_gateway: StartGateway, redis_prefix: str, tmp_path: Path
) -> None:
    slots, redis = Slots(), EmbeddedRedis.start(tmp_path)
    changes = {"redis": redis.url, "tenants": TENANTS, "kv_capacity_tokens": ONE_SLOT}
    try:
        async with (
            replica(slots.script) as one,
            start_gateway([one.url], **changes) as left,
            start_gateway([one.url], **changes) as right,
        ):
            for gateway in (left, right):
                await until(lambda gateway=gateway: gateway.pool.solo.share == 0.5)
            wires = [await send((left, right)[n % 2], f"r{n}") for n in range(20)]
            await until(lambda: left.pool.room.count + right.pool.room.count + len(slots.order) == 20)
            redis.stop()
            for gateway in (left, right):
                await until(lambda gateway=gateway: not gateway.pool.connected)
            # New ones are taken in while Redis is away.
            wires += [await send((left, right)[n % 2], f"r{n}") for n in range(20, 30)]
            await until(lambda: left.pool.room.count + right.pool.room.count + len(slots.order) == 30)
            redis = EmbeddedRedis.start(tmp_path)
            for gateway in (left, right):
                await until(lambda gateway=gateway: gateway.pool.connected)
            reader = connect(redis.url, prefix=redis_prefix)

            async def whole() -> bool:
                waiting = left.pool.room.count + right.pool.room.count
                return waiting > 0 and (await reader.view(POOL)).queue.tickets == waiting

            await until(whole)
            slots.open()
            responses = [await wire.response() for wire in wires]
            assert [response.status for response in responses] == [200] * 30
            assert sorted(slots.order) == sorted(f"r{n}" for n in range(30))
            view = (await reader.view(POOL)).queue
            assert (view.tickets, view.lines) == (0, ())
            await reader.close()
    finally:
        redis.stop()


async def test_a_slow_redis_delays_what_waits_and_nothing_else(start_gateway: StartGateway, tmp_path: Path) -> None:
    """200 ms each way, from the first contact on: no call is given up, nobody is lost or sent twice."""
    slots = Slots()
    with start_redis(tmp_path) as server:
        changes = {"tenants": TENANTS, "kv_capacity_tokens": ONE_SLOT, "order": Order.FCFS}
        async with (
            hop(server.port, delay_s=0.2) as slow,
            replica(slots.script) as one,
            start_gateway([one.url], redis=f"redis://127.0.0.1:{slow.port}", **changes) as gateway,
        ):
            wires = [await send(gateway, f"r{n}") for n in range(5)]
            await until(lambda: gateway.pool.room.count == 4)
            await until(lambda: gateway.pool.connected)
            assert gateway.running.publishers[0].error is None
            wires += [await send(gateway, f"r{n}") for n in range(5, 10)]
            await until(lambda: gateway.pool.room.count == 9)
            slots.open()
            assert [(await wire.response()).status for wire in wires] == [200] * 10
            assert slots.order[0] == "r0"
            assert sorted(slots.order) == [f"r{n}" for n in range(10)]
            assert gateway.running.publishers[0].error is None


async def test_a_full_redis_is_a_redis_that_is_away_until_it_has_room(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    with start_redis(tmp_path, "maxmemory-policy noeviction") as server:
        async with (
            replica(answer) as one,
            start_gateway([one.url], redis=server.url, tenants=TENANTS) as gateway,
        ):
            await until(lambda: gateway.pool.connected)
            server.tell("CONFIG", "SET", "maxmemory", "1")
            await until(lambda: not gateway.pool.connected)
            assert (await (await send(gateway, "full")).response()).status == 200
            server.tell("CONFIG", "SET", "maxmemory", "0")
            await until(lambda: gateway.pool.connected)
            assert (await (await send(gateway, "room")).response()).status == 200


async def test_a_read_only_redis_is_a_redis_that_is_away_until_it_takes_writes(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    with start_redis(tmp_path) as server:
        async with (
            replica(answer) as one,
            start_gateway([one.url], redis=server.url, tenants=TENANTS) as gateway,
        ):
            await until(lambda: gateway.pool.connected)
            server.tell("REPLICAOF", "127.0.0.1", server.port + 1)
            await until(lambda: not gateway.pool.connected)
            assert (await (await send(gateway, "read-only")).response()).status == 200
            server.tell("REPLICAOF", "NO", "ONE")
            await until(lambda: gateway.pool.connected)
            assert (await (await send(gateway, "again")).response()).status == 200


async def test_clients_that_queue_and_leave_a_thousand_times_leave_nothing(
    start_gateway: StartGateway, redis_url: str, redis_prefix: str
) -> None:
    slots = Slots()
    reader = connect(redis_url, prefix=redis_prefix)
    async with (
        replica(slots.script) as one,
        start_gateway([one.url], tenants=TENANTS, kv_capacity_tokens=ONE_SLOT) as gateway,
    ):
        await until(lambda: gateway.pool.connected)
        first = await send(gateway, "first")
        await until(lambda: slots.order)
        for round_ in range(10):
            wires = [await send(gateway, f"r{round_}-{n}") for n in range(100)]
            await until(lambda: gateway.pool.room.count > 50)
            for wire in wires:
                wire.close()
            await until(lambda: gateway.pool.room.count == 0)
        slots.open()
        assert (await first.response()).status == 200

        async def empty() -> bool:
            queue = (await reader.view(POOL)).queue
            return queue.tickets == 0 and not queue.lines and not queue.leases

        await until(empty)
        await until(lambda: gateway.pool.replicas["r0"].ledger.load.in_flight == 0)
        assert slots.order[0] == "first"
        assert len(slots.order) == len(set(slots.order))
    await reader.close()
