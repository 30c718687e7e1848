"""Redis dies, forgets, or comes back as it was before: none is lost, none is sent twice, and nothing stays behind."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from backlog.embedded import EmbeddedRedis
from backlog.store import BacklogUnavailable, connect
from tests.conftest import leaked_keys
from tests.flows.conftest import Gateway, Response, StartGateway, until
from tests.flows.queueing import ONE_SLOT, POOL, Slots, address, drain, emptied, look_at, occupy, send, tenant, tickets
from tests.flows.scripted import DONE, END, SSE_HEAD, Call, answer, chunk, event, json_response, replica
from tests.redis_servers import Server, start_redis, start_replica

TENANTS = (tenant("a"),)
OUTAGE_S = 10.0


class Ticking:
    """A replica's script: a stream with an event every 0.2 s until `over`, and short answers; `order` has the names."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.over = False

    async def script(self, call: Call) -> None:
        self.order.append(call.head.decode().split("x-request-id: ")[1].split("\r\n")[0])
        if b'"stream":true' not in call.body:
            await asyncio.sleep(0.02)
            call.send(json_response())
            return
        call.send(SSE_HEAD)
        events = 0
        while not self.over:
            call.send(chunk(event(f"{events}")))
            events += 1
            await asyncio.sleep(0.2)
        call.send(chunk(DONE) + END)


def holds_no_key_for_ever(server: Server) -> bool:
    with server.admin() as client:
        return leaked_keys(client) == []


def waiting(*gateways: Gateway) -> int:
    return sum(gateway.pool.room.count for gateway in gateways)


async def test_no_request_fails_while_redis_is_killed_and_restarted(
    start_gateway: StartGateway, redis_prefix: str, tmp_path: Path
) -> None:
    redis = EmbeddedRedis.start(tmp_path)
    try:
        async with replica(answer) as one, start_gateway([one.url], redis=redis.url) as gateway:
            statuses: list[int] = []
            stop = asyncio.Event()

            async def load() -> None:
                while not stop.is_set():
                    statuses.append((await gateway.chat()).status)

            clients = [asyncio.create_task(load()) for _ in range(4)]
            await until(lambda: len(statuses) > 20)
            redis.stop()
            await until(lambda: gateway.running.publishers[0].error)
            away = len(statuses)
            await until(lambda: len(statuses) > away + 50)
            redis = EmbeddedRedis.start(tmp_path)
            await until(lambda: gateway.running.publishers[0].error is None)
            stop.set()
            await asyncio.gather(*clients)
            assert set(statuses) == {200}

            reader = connect(redis.url, prefix=redis_prefix)

            async def counted() -> bool:
                try:
                    view = await reader.view(gateway.pool.settings.name)
                except BacklogUnavailable:
                    return False
                return sum(seen.report.arrived for seen in view.reports) == len(statuses)

            # Reports are absolute: what arrived while Redis was away is not lost.
            await until(counted)
            await reader.close()
    finally:
        redis.stop()


async def test_a_gateway_starts_while_redis_is_away(start_gateway: StartGateway, tmp_path: Path) -> None:
    async with replica(answer) as one, start_gateway([one.url], redis=f"unix://{tmp_path}/none.sock") as gateway:
        assert (await gateway.chat()).status == 200
        await until(lambda: gateway.running.publishers[0].error)


async def test_a_live_redis_that_loses_everything_is_told_anew(
    start_gateway: StartGateway, redis_prefix: str, tmp_path: Path
) -> None:
    slots = Slots()
    with start_redis(tmp_path) as server:
        changes = {"redis": server.url, "tenants": TENANTS, "kv_capacity_tokens": ONE_SLOT}
        async with (
            replica(slots.script) as one,
            start_gateway([one.url], **changes) as left,
            start_gateway([one.url], **changes) as right,
            look_at(server.url, redis_prefix) as reader,
        ):
            wires = [await occupy(slots, left, right)]
            wires += [await send((left, right)[n % 2], f"r{n}") for n in range(12)]
            await tickets(reader, 12)
            server.tell("FLUSHALL")
            assert (await reader.view(POOL)).queue.tickets < 12

            async def whole() -> bool:
                return (await reader.view(POOL)).queue.tickets == waiting(left, right) > 0

            await until(whole)
            slots.open()
            assert [(await wire.response()).status for wire in wires] == [200] * 13
            assert sorted(slots.order) == sorted(["blocker", *(f"r{n}" for n in range(12))])
            await emptied(reader)
        assert holds_no_key_for_ever(server)


@pytest.mark.parametrize("newcomers", [4, 6], ids=["as many ghosts as missing", "fewer ghosts than missing"])
@pytest.mark.parametrize("noticed", [False, True], ids=["at once", "after an outage"])
async def test_a_failover_to_an_older_copy_sends_no_ghost_and_loses_nobody(
    start_gateway: StartGateway, redis_prefix: str, tmp_path: Path, newcomers: int, noticed: bool
) -> None:
    slots = Slots()
    with start_redis(tmp_path) as master, start_replica(master, tmp_path) as copy:
        async with address(master.port) as redis, replica(slots.script) as one:
            url = f"redis://127.0.0.1:{redis.port}"
            changes = {"redis": url, "tenants": TENANTS, "kv_capacity_tokens": ONE_SLOT}
            async with (
                start_gateway([one.url], **changes) as left,
                start_gateway([one.url], **changes) as right,
                look_at(url, redis_prefix) as reader,
                look_at(copy.url, redis_prefix) as old,
            ):
                wires = {"blocker": await occupy(slots, left, right)}
                for n in range(8):
                    wires[f"r{n}"] = await send((left, right)[n % 2], f"r{n}")
                    await tickets(reader, n + 1)
                await tickets(old, 8)
                copy.tell("REPLICAOF", "NO", "ONE")
                # From here on the copy is old. Two of each gateway's tickets go: one is sent, one client leaves.
                assert await drain(slots, 2) == ["r0", "r1"]
                for served in ("blocker", "r0"):
                    assert (await wires.pop(served).response()).status == 200
                for gone in ("r6", "r7"):
                    wires.pop(gone).close()
                await tickets(reader, 4)
                for n in range(newcomers):
                    wires[f"n{n}"] = await send((left, right)[n % 2], f"n{n}")
                await tickets(reader, 4 + newcomers)
                assert (await old.view(POOL)).queue.tickets == 8
                master.kill()
                if noticed:
                    for gateway in (left, right):
                        await until(lambda gateway=gateway: not gateway.pool.connected)
                redis.move(copy.port)
                slots.open()
                responses = {name: await wire.response() for name, wire in wires.items()}
                assert {name: response.status for name, response in responses.items()} == dict.fromkeys(wires, 200)
                assert sorted(slots.order) == sorted(["blocker", "r0", *wires])
                await emptied(old)
                assert waiting(left, right) == 0
        assert holds_no_key_for_ever(copy)


async def test_a_stream_and_a_steady_load_outlive_ten_seconds_without_redis(
    start_gateway: StartGateway, redis_prefix: str, tmp_path: Path
) -> None:
    ticking = Ticking()
    with start_redis(tmp_path) as server:
        changes = {"redis": server.url, "tenants": TENANTS, "kv_capacity_tokens": ONE_SLOT}
        async with (
            replica(ticking.script) as one,
            replica(ticking.script) as two,
            start_gateway([one.url, two.url], **changes) as left,
            start_gateway([one.url, two.url], **changes) as right,
            look_at(server.url, redis_prefix) as reader,
        ):
            for gateway in (left, right):
                await until(lambda gateway=gateway: gateway.pool.connected and gateway.pool.solo.share == 0.5)
            stream = await send(left, "stream", stream=True)
            assert (await stream.head())[0] == 200
            events: list[bytes] = []
            answers: dict[str, Response] = {}
            stop = asyncio.Event()

            def away() -> bool:
                return not (left.pool.connected or right.pool.connected)

            async def read_stream() -> None:
                while data := await stream.chunk():
                    events.append(data)

            async def short(name: str, gateway: Gateway) -> None:
                wire = await send(gateway, name)
                answers[name] = await wire.response()
                wire.close()

            async def load() -> int:
                """Twenty a second, in bursts that have to queue."""
                async with asyncio.TaskGroup() as group:
                    sent = 0
                    while not stop.is_set():
                        for _ in range(5):
                            group.create_task(short(f"q{sent}", (left, right)[sent % 2]))
                            sent += 1
                        with suppress(TimeoutError):
                            await asyncio.wait_for(stop.wait(), 0.25)
                return sent

            reading, loading = asyncio.create_task(read_stream()), asyncio.create_task(load())
            await until(lambda: len(answers) >= 20)
            server.kill()
            await until(away)
            seen, served = len(events), len(answers)
            await asyncio.sleep(OUTAGE_S)
            assert away()
            assert len(events) - seen >= 10
            assert len(answers) - served >= 50
            server.start()
            for gateway in (left, right):
                await until(lambda gateway=gateway: gateway.pool.connected)
            served = len(answers)
            await until(lambda: len(answers) >= served + 40)
            assert not reading.done()
            stop.set()
            sent = await loading
            ticking.over = True
            await asyncio.wait_for(reading, 10.0)
            assert b"".join(events).endswith(DONE)
            assert b"".join(events) == b"".join(event(f"{n}") for n in range(len(events) - 1)) + DONE
            assert {name: got.status for name, got in answers.items()} == {f"q{n}": 200 for n in range(sent)}
            assert sorted(ticking.order) == sorted(["stream", *answers])
            await emptied(reader)
            for gateway in (left, right):
                for held in gateway.pool.replicas.values():
                    await until(lambda held=held: held.ledger.load.in_flight == 0)
        assert holds_no_key_for_ever(server)
