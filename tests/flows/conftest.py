"""A gateway worker on a real socket with a real Redis, in the test's own loop, and a client that sees raw bytes."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backlog.records import PoolName
from estimator.accelerator import find_accelerator
from estimator.models import find_model
from gateway.settings import GatewaySettings, Limits, PoolSettings, StaticReplica, TenantSettings
from gateway.worker import Running, serve

KEY = "sk-test"
KEY_SHA256 = hashlib.sha256(KEY.encode()).hexdigest()
WAIT_S = 10.0
_numbers = count()
"""Worker ids are made of process id and number: workers in one process need numbers of their own."""


async def until(condition: Callable[[], Any] | Callable[[], Awaitable[Any]], limit_s: float = WAIT_S) -> Any:
    """Wait for a true value, at most `limit_s`."""
    async with asyncio.timeout(limit_s):
        while True:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.01)


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        return msgspec.json.decode(self.body)["error"]


class Wire:
    """One client connection: send bytes, read responses."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), {name.lower(): value for name, value in headers.items()}

    async def chunk(self) -> bytes:
        """The next chunk of a chunked body; `b""` at its end."""
        size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def response(self) -> Response:
        async with asyncio.timeout(WAIT_S):
            status, headers = await self.head()
            if headers.get("transfer-encoding") == "chunked":
                body = b""
                while data := await self.chunk():
                    body += data
            elif "content-length" in headers:
                body = await self.reader.readexactly(int(headers["content-length"]))
            else:
                body = await self.reader.read()
            return Response(status, headers, body)

    async def closed(self) -> bool:
        async with asyncio.timeout(WAIT_S):
            with suppress(ConnectionError):
                return await self.reader.read() == b""
            return True

    def close(self) -> None:
        self.writer.close()


@dataclass
class Gateway:
    """A running worker and how to call it."""

    running: Running
    wires: list[Wire]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.running.port}"

    @property
    def pool(self) -> Any:
        return self.running.context.pools[0]

    async def connect(self) -> Wire:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.running.port))
        self.wires.append(wire)
        return wire

    async def chat(self, **body: Any) -> Response:
        wire = await self.connect()
        wire.send(chat(**body))
        return await wire.response()


def post(path: str, body: bytes, *, headers: str = "", key: str | None = KEY) -> bytes:
    authorization = f"authorization: Bearer {key}\r\n" if key else ""
    head = f"POST {path} HTTP/1.1\r\nhost: g\r\n{authorization}{headers}content-length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body


def chat(**body: Any) -> bytes:
    fields = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **body}
    return post("/v1/chat/completions", msgspec.json.encode(fields))


def pool_settings(urls: Sequence[str], **changes: Any) -> PoolSettings:
    architecture, accelerator = find_model("llama-3.1-8b"), find_accelerator("L40S")
    assert architecture is not None
    assert accelerator is not None
    given = {
        "name": PoolName("p"),
        "models": ("m",),
        "served_model": "m",
        "architecture": architecture,
        "accelerator": accelerator,
        "kv_capacity_tokens": 200_000,
        "cold_start_s": 0.0,
        "static_replicas": tuple(StaticReplica(name=f"r{i}", url=url) for i, url in enumerate(urls)),
    }
    return PoolSettings(**{**given, **changes})


@asynccontextmanager
async def running_gateway(settings: GatewaySettings, *, skew_s: float = 0.0) -> AsyncIterator[Gateway]:
    """One worker with these settings, `skew_s` ahead of the true time."""
    started: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(
            settings,
            number=next(_numbers),
            control_path=None,
            clock=lambda: time.perf_counter() + skew_s,
            wall_clock=lambda: time.time() + skew_s,
            started=started,
        ),
        name="gateway",
    )
    await asyncio.wait((started, task), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    gateway = Gateway(started.result(), [])
    try:
        yield gateway
    finally:
        for wire in gateway.wires:
            wire.close()
        gateway.running.drain()
        await task


StartGateway = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.fixture
def start_gateway(redis_url: str, redis_prefix: str) -> StartGateway:
    """`async with start_gateway([url, ...], limits=..., skew_s=..., tenants=..., **pool_settings)`."""

    @asynccontextmanager
    async def start(
        urls: Sequence[str],
        *,
        limits: Limits | None = None,
        redis: str | None = None,
        skew_s: float = 0.0,
        tenants: Sequence[TenantSettings] = (TenantSettings(name="t", key_sha256=(KEY_SHA256,)),),
        spill_socket: Path | None = None,
        **changes: Any,
    ) -> AsyncIterator[Gateway]:
        settings = GatewaySettings(
            port=0,
            redis_url=redis or redis_url,
            redis_prefix=redis_prefix,
            pools=(pool_settings(urls, **changes),),
            tenants=tuple(tenants),
            spill_socket=spill_socket,
            limits=limits or Limits(drain_s=0.2),
        )
        async with running_gateway(settings, skew_s=skew_s) as gateway:
            yield gateway

    return start
