"""Clients that read slowly, stop reading or leave: what they hold is bounded, and nobody after them pays for it."""

import asyncio
import socket

from gateway.downstream import ClientConnection
from gateway.settings import Limits
from tests.flows.conftest import Gateway, StartGateway, Wire, chat, until
from tests.flows.scripted import BODY, SSE_HEAD, Call, answer, chunk, event, json_response, replica

BIG = 3_000_000


async def big(call: Call) -> None:
    """More than the kernel buffers hold, in one go."""
    call.send(json_response(b"x" * BIG))


async def slow_wire(gateway: Gateway) -> Wire:
    """A connection with small buffers that reads nothing on its own."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", gateway.running.port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=1024)
    wire = Wire(reader, writer)
    gateway.wires.append(wire)
    return wire


async def test_a_replica_connection_given_back_while_its_client_reads_slowly_is_read_again(
    start_gateway: StartGateway,
) -> None:
    async def big_then_small(call: Call) -> None:
        await (big if len(one.calls) == 1 else answer)(call)

    limits = Limits(write_high_water_bytes=16 * 1024, drain_s=0.2)
    async with replica(big_then_small) as one, start_gateway([one.url], limits=limits) as gateway:
        wire = await slow_wire(gateway)
        wire.send(chat())
        response = await wire.response()
        assert len(response.body) == BIG
        await until(lambda: gateway.pool.replicas["r0"].idle)
        assert not any(connection.paused for connection in gateway.pool.replicas["r0"].idle)
        assert (await gateway.chat()).body == BODY


async def test_a_connection_is_not_paused_by_the_last_bytes_of_a_response(start_gateway: StartGateway) -> None:
    async def one_read(call: Call) -> None:
        call.send(json_response(b"x" * 60_000))

    limits = Limits(write_high_water_bytes=1, drain_s=0.2)
    async with replica(one_read) as one, start_gateway([one.url], limits=limits) as gateway:
        slow = await slow_wire(gateway)
        await fill(gateway, slow)
        idle = gateway.pool.replicas["r0"].idle
        assert not any(connection.paused for connection in idle)
        assert (await gateway.chat()).status == 200


async def fill(gateway: Gateway, wire: Wire) -> ClientConnection:
    """Ask, and read nothing, until a whole response no longer fits into the kernel's buffers."""
    wire.send(chat())
    served = 1
    await until(lambda: gateway.running.context.connections)
    (client,) = gateway.running.context.connections
    while True:
        await until(lambda number=served: gateway.pool.stats.outcomes.get(("m", "served")) == number)
        # Kernel buffers grow for a while: what counts is what they do not take even then.
        await asyncio.sleep(0.05 if client.transport.get_write_buffer_size() else 0.0)
        if client.transport.get_write_buffer_size():
            return client
        wire.send(chat())
        served += 1


async def test_no_stream_starts_behind_a_response_that_the_client_has_not_read(start_gateway: StartGateway) -> None:
    async def by_kind(call: Call) -> None:
        if b'"stream":true' not in call.body:
            call.send(json_response(b"x" * 60_000))
            return
        call.send(SSE_HEAD)
        while True:
            call.send(chunk(event("y" * 60_000)))
            await call.writer.drain()

    limits = Limits(write_high_water_bytes=1, drain_s=0.2)
    async with replica(by_kind) as one, start_gateway([one.url], limits=limits) as gateway:
        wire = await slow_wire(gateway)
        client = await fill(gateway, wire)
        wire.send(chat(stream=True))
        for _ in range(50):
            await asyncio.sleep(0.01)
            assert client.transport.get_write_buffer_size() < 500_000
        wire.writer.transport.abort()
        await until(lambda: not gateway.running.context.connections)
        assert gateway.pool.replicas["r0"].ledger.load.in_flight == 0


async def test_a_client_that_stops_reading_is_cut_off_and_frees_the_replica(start_gateway: StartGateway) -> None:
    left = asyncio.Event()

    async def endless(call: Call) -> None:
        call.send(SSE_HEAD)
        try:
            while True:
                call.send(chunk(event("x" * 60_000)))
                await call.writer.drain()
        finally:
            left.set()

    limits = Limits(stalled_s=0.5, write_high_water_bytes=16 * 1024, drain_s=0.2)
    async with replica(endless) as one, start_gateway([one.url], limits=limits) as gateway:
        wire = await slow_wire(gateway)
        wire.send(chat(stream=True))
        async with asyncio.timeout(8.0):
            await left.wait()
        await until(lambda: not gateway.running.context.connections)
        assert gateway.pool.stats.outcomes == {("m", "client-gone"): 1}
        assert gateway.pool.replicas["r0"].ledger.load.in_flight == 0


async def test_a_client_that_never_reads_a_closed_response_is_cut_off(start_gateway: StartGateway) -> None:
    limits = Limits(stalled_s=0.5, drain_s=0.2)
    async with replica(big) as one, start_gateway([one.url], limits=limits) as gateway:
        wire = await slow_wire(gateway)
        wire.send(chat().replace(b"host: g\r\n", b"host: g\r\nconnection: close\r\n"))
        await until(lambda: gateway.running.context.connections)
        await until(lambda: not gateway.running.context.connections, limit_s=8.0)


async def test_a_client_that_reads_slowly_but_reads_is_served_whole(start_gateway: StartGateway) -> None:
    limits = Limits(stalled_s=1.5, write_high_water_bytes=16 * 1024, drain_s=0.2)
    async with replica(big) as one, start_gateway([one.url], limits=limits) as gateway:
        wire = await slow_wire(gateway)
        wire.send(chat())
        _, headers = await wire.head()
        left = int(headers["content-length"])
        # About three seconds for the whole, in which every half second sees progress.
        while left:
            left -= len(await wire.reader.readexactly(min(left, 100_000)))
            await asyncio.sleep(0.1)
