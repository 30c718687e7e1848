"""What tests of the shared queue have in common: a replica with slots, named requests, tenants with keys."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from backlog.records import PoolName, PoolView
from backlog.store import Backlog, connect
from gateway.settings import TenantSettings
from tests.flows.conftest import Gateway, Wire, post, until
from tests.flows.scripted import BODY, Call, json_response
from tests.redis_servers import Hop

POOL = PoolName("p")
ONE_SLOT = 1
"""KV capacity with which a replica runs one request at a time: an empty one always has room."""


class Slots:
    """A replica's script that holds each request until released; `order` has their names as they came."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.body = BODY
        self._held: list[asyncio.Event] = []
        self._open = False

    async def script(self, call: Call) -> None:
        self.order.append(call.head.decode().split("x-request-id: ")[1].split("\r\n")[0])
        may_end = asyncio.Event()
        self._held.append(may_end)
        if not self._open:
            await may_end.wait()
        call.send(json_response(self.body))

    def release(self) -> None:
        """Let the request end that has run longest."""
        self._held.pop(0).set()

    def open(self) -> None:
        """Hold nothing any more."""
        self._open = True
        for may_end in self._held:
            may_end.set()


def tenant(name: str, **changes: Any) -> TenantSettings:
    """A tenant whose key is its name."""
    return TenantSettings(name=name, key_sha256=(hashlib.sha256(name.encode()).hexdigest(),), **changes)


def request(name: str, *, tenant: str, headers: str = "", **fields: Any) -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **fields}
    lines = f"x-request-id: {name}\r\n{headers}"
    return post("/v1/chat/completions", msgspec.json.encode(body), headers=lines, key=tenant)


async def send(gateway: Gateway, name: str, *, tenant: str = "a", headers: str = "", **fields: Any) -> Wire:
    wire = await gateway.connect()
    wire.send(request(name, tenant=tenant, headers=headers, **fields))
    return wire


async def tickets(backlog: Backlog, count: int) -> PoolView:
    """The view once so many tickets wait in Redis."""

    async def view() -> PoolView | None:
        seen = await backlog.view(POOL)
        return seen if seen.queue.tickets == count else None

    found = await until(view)
    assert isinstance(found, PoolView)
    return found


@asynccontextmanager
async def look_at(url: str, prefix: str) -> AsyncIterator[Backlog]:
    """A backlog beside those of the gateways."""
    backlog = connect(url, prefix=prefix)
    try:
        yield backlog
    finally:
        await backlog.close()


async def emptied(backlog: Backlog) -> None:
    """Wait until the queue in Redis holds nothing: no ticket, no line, no lease."""

    async def empty() -> bool:
        queue = (await backlog.view(POOL)).queue
        return (queue.tickets, queue.lines, queue.leases) == (0, (), ())

    await until(empty)


class Address:
    """A port that leads to one server, and after a failover to another."""

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self._hop = Hop(server_port, 0.0)

    def move(self, server_port: int) -> None:
        """Break what leads to the server of before; the next connection leads to this one."""
        before, self._hop = self._hop, Hop(server_port, 0.0)
        before.cut()

    def close(self) -> None:
        self._hop.cut()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._hop.accept(reader, writer)


@asynccontextmanager
async def address(server_port: int) -> AsyncIterator[Address]:
    made = Address(server_port)
    listener = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    made.port = listener.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        listener.close()
        made.close()


async def occupy(slots: Slots, *gateways: Gateway) -> Wire:
    """Fill the only slot from the first gateway, and wait until all of them know."""
    for gateway in gateways:
        await until(lambda gateway=gateway: gateway.pool.connected and gateway.pool.solo.share == 1.0 / len(gateways))
    wire = await send(gateways[0], "blocker")
    await until(lambda: slots.order)
    for gateway in gateways:
        await until(lambda gateway=gateway: gateway.pool.replicas["r0"].ledger.load.in_flight == 1)
    return wire


async def drain(slots: Slots, count: int) -> list[str]:
    """Release one request after the other; the order in which `count` more of them came."""
    for _ in range(count):
        before = len(slots.order)
        slots.release()
        await until(lambda before=before: len(slots.order) > before)
    return slots.order[-count:]
