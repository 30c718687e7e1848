"""One simulated model server in real time: socket, engine task, start-up delay, and an orderly end."""

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass

import structlog
import uvicorn

from simulator.app import ModelApp, Readiness
from simulator.engine import Engine
from simulator.metrics import registry_of
from simulator.realtime import RealTimeEngine
from simulator.settings import SimulatorSettings

LINGER_S = 2
"""Seconds that an ended stream may take to reach a slow client before its connection is cut."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A server that accepts connections; `url` has no path. Use it on the loop that serves."""

    url: str
    port: int
    realtime: RealTimeEngine
    failed: asyncio.Task[None]
    """Ends, with an error, only if the engine's loop does."""


class _HttpServer(uvicorn.Server):
    """uvicorn that tells when it listens, without its signal handlers: they would wait for streams to end."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._closing = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        # As uvicorn's own, ten ticks a second, except that `close` ends the wait at once.
        tick = 0
        while not await self.on_tick(tick):
            tick += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), 0.1)

    def close(self) -> None:
        self.should_exit = True
        self._closing.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


@contextlib.asynccontextmanager
async def serve(settings: SimulatorSettings) -> AsyncIterator[Serving]:
    """Serve while the context is open.

    The port is open from the start; `/health` and `/v1/*` say 503 until the start-up delay is over.

    On leaving, every stream gets an error event and its end, then connections close; `OSError` when the port is taken.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    port = int(listener.getsockname()[1])
    loop = asyncio.get_running_loop()
    realtime = RealTimeEngine(Engine(settings.engine, settings.steps), speed=settings.speed, clock=loop.time)
    readiness = Readiness(ready=not settings.start_delay_s)
    app = ModelApp(settings, realtime, registry_of(realtime, settings.model), readiness, time.time)  # noqa: TID251
    http = _HttpServer(
        uvicorn.Config(
            app.asgi(),
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_graceful_shutdown=LINGER_S,
        )
    )
    engine_task = asyncio.create_task(realtime.run(), name="engine")
    http_task = asyncio.create_task(http.serve(sockets=[listener]), name="http")
    loading = asyncio.create_task(_load(settings, readiness), name="loading")
    try:
        await http.listening.wait()
        host = f"[{settings.host}]" if family == socket.AF_INET6 else settings.host
        yield Serving(url=f"http://{host}:{port}", port=port, realtime=realtime, failed=engine_task)
    finally:
        loading.cancel()
        realtime.stop()
        http.close()
        await http_task
        engine_task.cancel()
        await asyncio.gather(engine_task, loading, return_exceptions=True)


def run(settings: SimulatorSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises `OSError` when the port is taken, and whatever stopped the engine."""
    if sys.platform == "win32":
        loop_factory = asyncio.new_event_loop
    else:
        import uvloop

        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_run(settings))


async def _run(settings: SimulatorSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serve(settings) as serving:
        log.info("model server listening", model=settings.model, url=serving.url, start_delay_s=settings.start_delay_s)
        stopping = asyncio.create_task(stop.wait(), name="wait for a signal")
        await asyncio.wait([stopping, serving.failed], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if serving.failed.done():
            serving.failed.result()
    log.info("model server stopped", model=settings.model)


async def _load(settings: SimulatorSettings, readiness: Readiness) -> None:
    await asyncio.sleep(settings.start_delay_s)
    readiness.ready = True
    log.info("model server ready", model=settings.model)
