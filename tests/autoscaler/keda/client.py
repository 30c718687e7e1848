"""A gRPC client that speaks bytes, as KEDA would."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from tests.autoscaler.builders import POOL

LIMIT_S = 10.0
ACTIVE, INACTIVE = b"\x08\x01", b""
METRIC = b"weighbridge-replicas"


def text(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value


def reference(pool: str | None = POOL, key: str = "pool") -> bytes:
    entry = b"" if pool is None else text(3, text(1, key.encode()) + text(2, pool.encode()))
    return text(1, b"worker") + text(2, b"ml") + entry


def query(metric: bytes = METRIC) -> bytes:
    return text(1, reference()) + text(2, metric)


def value_of(raw: bytes) -> int:
    """The whole number in a response with one metric."""
    inner = raw[2:]
    name_length = inner[1]
    rest = inner[2 + name_length :]
    return rest[1] if rest else 0


class Keda:
    """A client that speaks bytes, on a connection of its own."""

    def __init__(self, port: int) -> None:
        self.channel = grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 100)]
        )

    async def call(self, method: str, message: bytes) -> bytes:
        call = self.channel.unary_unary(f"/externalscaler.ExternalScaler/{method}")
        raw: bytes = await call(message, timeout=LIMIT_S)
        return raw

    def stream(self, message: bytes) -> Any:
        return self.channel.unary_stream("/externalscaler.ExternalScaler/StreamIsActive")(message)


@asynccontextmanager
async def keda(port: int) -> AsyncIterator[Keda]:
    client = Keda(port)
    try:
        yield client
    finally:
        await client.channel.close()
