"""One gateway worker process: the composition root of the data plane."""

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvloop

from backlog.child import die_with_parent
from gateway import control
from gateway.context import Context
from gateway.downstream import ClientConnection
from gateway.outcome import Outcome, Refusal
from gateway.publish import Publisher
from gateway.scheduler import Scheduler
from gateway.settings import GatewaySettings
from gateway.snapshot import WorkerState

_log = structlog.get_logger()
DRAIN_TICK_S = 0.02
BACKLOG = 4096


@dataclass(frozen=True, slots=True)
class Running:
    """What a started worker gives to whoever runs it: a test, or `main`."""

    context: Context
    publishers: list[Publisher]
    port: int
    drain: Callable[[], None]
    snapshot: Callable[[], WorkerState]


def main(
    settings: GatewaySettings, number: int, control_path: Path, supervisor_pid: int, prepare: Callable[[], None]
) -> None:
    """Process entry. Ends when drained."""
    die_with_parent(supervisor_pid)
    prepare()
    uvloop.run(_main(settings, number, control_path))


async def _main(settings: GatewaySettings, number: int, control_path: Path) -> None:
    started: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
    await serve(
        settings,
        number=number,
        control_path=control_path,
        clock=time.perf_counter,
        wall_clock=time.time,  # noqa: TID251 (composition root)
        started=started,
        handle_signals=True,
    )


async def serve(
    settings: GatewaySettings,
    *,
    number: int,
    control_path: Path | None,
    clock: Callable[[], float],
    wall_clock: Callable[[], float],
    started: "asyncio.Future[Running]",
    handle_signals: bool = False,
) -> None:
    """Serve until drained. `started` is resolved when the port is open."""
    loop = asyncio.get_running_loop()
    drained = asyncio.Event()

    def check_time(now_s: float) -> None:
        for connection in list(context.connections):
            connection.check_time(now_s)

    scheduler = Scheduler(settings, number=number, clock=clock, wall_clock=wall_clock, check_time=check_time)
    context = scheduler.context
    listener = await loop.create_server(
        lambda: ClientConnection(context),
        settings.host,
        settings.port,
        reuse_port=settings.workers > 1,
        reuse_address=True,
        backlog=BACKLOG,
    )

    def drain() -> None:
        """Take no new connections; finish what is here."""
        if context.draining:
            return
        context.draining = True
        listener.close()
        check_time(clock())
        drained.set()

    controller = (
        await control.serve(control_path, snapshot=scheduler.snapshot, drain=drain)
        if control_path is not None
        else None
    )
    if handle_signals:
        for number_ in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number_, drain)
    scheduler.start()
    port = listener.sockets[0].getsockname()[1]
    started.set_result(Running(context, scheduler.publishers, port, drain, scheduler.snapshot))
    _log.info("gateway worker ready", worker=scheduler.worker, port=port)
    try:
        await drained.wait()
        await _finish(context)
    finally:
        listener.close()
        await scheduler.stop()
        for connection in list(context.connections):
            connection.abort()
        if controller is not None:
            controller.close()
        await scheduler.leave()


async def _finish(context: Context) -> None:
    """Wait for the requests that are here, at most `drain_s`."""
    deadline_at_s = context.clock() + context.limits.drain_s
    while context.connections and context.clock() < deadline_at_s:
        for connection in list(context.connections):
            connection.check_time(context.clock())
        await asyncio.sleep(DRAIN_TICK_S)
    if context.connections:
        _log.warning("drain deadline passed, requests are cut off", connections=len(context.connections))
        for pool in context.pools:
            refusal = Refusal(Outcome.DRAINING, "the gateway is shutting down", retry_after_s=1.0)
            pool.turn_away(refusal, context.clock())
        # The answers are on their way before the connections are closed.
        await asyncio.sleep(DRAIN_TICK_S)
