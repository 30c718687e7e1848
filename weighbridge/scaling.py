"""The autoscaler process: one loop per pool on one Redis, until SIGTERM or SIGINT. Its composition root."""

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from autoscaler.advisory import AdvisoryScaler
from autoscaler.loop import run_autoscaler
from autoscaler.process import ProcessScaler
from autoscaler.recorder import Recorder
from autoscaler.scaler import Scaler
from backlog.store import connect
from weighbridge.wiring import ScaledPool

_log = structlog.get_logger("autoscaler")


def run(
    pools: Sequence[ScaledPool],
    *,
    redis_url: str,
    redis_prefix: str,
    run_directory: Path | None,
    record_directory: Path | None = None,
) -> int:
    """Scale `pools` until a signal, then stop the replicas that were started. Returns the exit status.

    `run_directory`: where replicas' output goes, a file each; `None` discards it.
    `record_directory`: where decisions are recorded, a file per pool.
    """
    clock = time.time  # noqa: TID251 (the composition root)
    asyncio.run(
        _run(
            pools,
            clock,
            redis_url=redis_url,
            redis_prefix=redis_prefix,
            run_directory=run_directory,
            record_directory=record_directory,
        )
    )
    return 0


def scaler_of(pool: ScaledPool, clock: Callable[[], float], run_directory: Path | None) -> Scaler:
    """The scaler that fits a pool's replicas."""
    if pool.command is None:
        return AdvisoryScaler(replicas=len(pool.static_urls))
    return ProcessScaler(
        pool.command,
        pool=pool.settings.pool,
        clock=clock,
        health_path=pool.health_path,
        run_directory=run_directory,
        drain_deadline_s=pool.settings.drain_deadline_s,
        start_deadline_s=pool.start_deadline_s,
    )


async def _run(
    pools: Sequence[ScaledPool],
    clock: Callable[[], float],
    *,
    redis_url: str,
    redis_prefix: str,
    run_directory: Path | None,
    record_directory: Path | None,
) -> None:
    stop_event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_event.set)
    backlog = connect(redis_url, prefix=redis_prefix)
    try:
        _log.info("autoscaler started", pools=[pool.settings.pool for pool in pools])
        async with asyncio.TaskGroup() as group:
            for pool in pools:
                scaler = scaler_of(pool, clock, run_directory)
                recorder = None if record_directory is None else Recorder(record_directory, pool.settings)
                group.create_task(
                    run_autoscaler(pool.settings, backlog, clock, stop_event, scaler=scaler, recorder=recorder),
                    name=f"autoscaler of {pool.settings.pool}",
                )
    finally:
        with suppress(OSError):
            await backlog.close()
        _log.info("autoscaler stopped")
