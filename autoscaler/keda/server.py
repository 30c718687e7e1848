"""KEDA's external scaler over gRPC, answered from Redis: every autoscaler can answer, whether it leads or not."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import grpc
import grpc.aio
import structlog

from autoscaler.keda.answer import METRIC, TARGET, Answer, Unanswered, answer
from autoscaler.keda.feed import Feed
from autoscaler.keda.wire import (
    SERVICE,
    Malformed,
    ScaledObject,
    bytes_from_active,
    bytes_from_spec,
    bytes_from_value,
    metric_query_from_bytes,
    scaled_object_from_bytes,
)
from backlog.records import PoolName
from backlog.store import Backlog, BacklogUnavailable

POLL_S = 0.25
STOP_GRACE_S = 1.0
MAX_CALLS = 1000
"""Open streams and calls together; more are refused as RESOURCE_EXHAUSTED."""
POOL_KEY = "pool"
"""The key of a trigger's metadata that names the pool."""
OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 64 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Answered = TypeVar("Answered")

_log = structlog.get_logger("autoscaler")


class Refused(Exception):
    """A call that gets a gRPC status instead of an answer."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


async def serve(
    backlog: Backlog, pools: Mapping[PoolName, float], stop_event: asyncio.Event, *, host: str, port: int
) -> None:
    """Answer KEDA until `stop_event`. `pools`: how old a decision of each may be, in seconds.

    Raises OSError when the port cannot be had.
    """
    server = KedaServer(backlog, pools)
    try:
        bound = await server.start(host, port)
        _log.info("keda scaler listens", host=host, port=bound, pools=sorted(pools))
        await stop_event.wait()
    finally:
        await server.stop()


class KedaServer:
    """The service and, for each pool, what its streams follow."""

    def __init__(self, backlog: Backlog, pools: Mapping[PoolName, float], *, poll_s: float = POLL_S) -> None:
        self._backlog = backlog
        self._limits_s = dict(pools)
        self._unanswered: set[PoolName] = set()
        self.feeds = {pool: Feed(pool, self._look, poll_s=poll_s) for pool in pools}
        self._tasks: list[asyncio.Task[None]] = []
        self._server: grpc.aio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen. Returns the port, which is another one only for 0. Raises OSError when it cannot be had."""
        self._server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
        self._server.add_generic_rpc_handlers((self._methods(),))
        try:
            bound = self._server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except RuntimeError as error:
            raise OSError(f"keda scaler cannot listen on {host}:{port}: {error}") from error
        await self._server.start()
        for pool, feed in self.feeds.items():
            self._tasks.append(asyncio.create_task(feed.run(), name=f"keda feed of {pool}"))
        return bound

    async def stop(self) -> None:
        """End streams in an orderly way, so that KEDA opens them at once elsewhere; close the port. May be repeated."""
        for feed in self.feeds.values():
            feed.close()
        if self._server is not None:
            await self._server.stop(STOP_GRACE_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def _methods(self) -> grpc.GenericRpcHandler:
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "IsActive": grpc.unary_unary_rpc_method_handler(_refusing(self._is_active)),
            "GetMetricSpec": grpc.unary_unary_rpc_method_handler(_refusing(self._metric_spec)),
            "GetMetrics": grpc.unary_unary_rpc_method_handler(_refusing(self._metrics)),
            "StreamIsActive": grpc.unary_stream_rpc_method_handler(_refusing(self._stream)),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _is_active(self, raw: bytes, context: Context) -> bytes:
        return bytes_from_active((await self._answer(self._pool(scaled_object_from_bytes(raw)))).active)

    async def _metric_spec(self, raw: bytes, context: Context) -> bytes:
        self._pool(scaled_object_from_bytes(raw))
        return bytes_from_spec(METRIC, TARGET)

    async def _metrics(self, raw: bytes, context: Context) -> bytes:
        asked = metric_query_from_bytes(raw)
        pool = self._pool(asked.scaled_object)
        if asked.metric != METRIC:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"metric {asked.metric!r} is unknown, {METRIC!r} is served")
        return bytes_from_value(METRIC, (await self._answer(pool)).replicas)

    async def _stream(self, raw: bytes, context: Context) -> None:
        async def write(active: bool) -> None:
            await context.write(bytes_from_active(active))

        await self.feeds[self._pool(scaled_object_from_bytes(raw))].tell(write)

    def _pool(self, asked: ScaledObject) -> PoolName:
        """The pool that a trigger names. Raises Refused."""
        name = asked.metadata.get(POOL_KEY, "")
        of = f"{asked.namespace}/{asked.name}"
        if not name:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"metadata of the trigger of {of} has no {POOL_KEY!r}")
        if name not in self._limits_s:
            known = ", ".join(sorted(self._limits_s)) or "none"
            raise Refused(grpc.StatusCode.NOT_FOUND, f"pool {name!r} of {of} is not configured here; known: {known}")
        return PoolName(name)

    async def _answer(self, pool: PoolName) -> Answer:
        """Raises Refused where there is none."""
        found = await self._look(pool)
        if isinstance(found, Unanswered):
            raise Refused(grpc.StatusCode.UNAVAILABLE, f"pool {pool}: {found.cause}")
        return found

    async def _look(self, pool: PoolName) -> Answer | Unanswered:
        """What Redis says now, with a warning at the first answer that cannot be given."""
        found: Answer | Unanswered
        try:
            found = answer(await self._backlog.view(pool), limit_s=self._limits_s[pool])
        except BacklogUnavailable as error:
            found = Unanswered(cause=f"backlog unavailable: {error.cause}")
        if isinstance(found, Answer):
            if pool in self._unanswered:
                _log.info("keda is answered again", pool=pool)
            self._unanswered.discard(pool)
        elif pool not in self._unanswered:
            _log.warning("keda is not answered", pool=pool, cause=found.cause)
            self._unanswered.add(pool)
        return found


def _refusing(call: Callable[[bytes, Context], Awaitable[Answered]]) -> Callable[[bytes, Context], Awaitable[Answered]]:
    """`call`, with what it raises turned into a status."""

    async def answered(raw: bytes, context: Context) -> Answered:
        try:
            return await call(raw, context)
        except Malformed as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except Refused as refused:
            await context.abort(refused.code, refused.message)

    return answered
