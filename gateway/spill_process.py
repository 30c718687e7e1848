"""The spill process as a child of the gateway: kept running while the gateway runs, and no part of it."""

import asyncio
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from backlog.child import spawn, stop

_log = structlog.get_logger()
FIRST_RESTART_S, LONGEST_RESTART_S = 1.0, 60.0
"""Between its end and its replacement: doubled while it does not live for `STEADY_S`."""
STEADY_S = 60.0
STOP_GRACE_S = 5.0


class SpillProcess:
    """Runs `command --socket PATH`. Requests wait for replicas while it is away."""

    def __init__(self, command: Sequence[str], socket: Path, *, clock: Callable[[], float]) -> None:
        self._command = (*command, "--socket", str(socket))
        self._clock = clock
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Start it, and start it again, until `stop`; then end it.

        What is in flight there has had the time that the gateway had to drain.
        """
        restart_s = FIRST_RESTART_S
        process: Process | None = None
        while not self._stopping.is_set():
            started_at_s = self._clock()
            try:
                process = await spawn(self._command)
            except OSError as error:
                _log.error("spill process cannot be started", cause=error.strerror or type(error).__name__)
            else:
                await self._ended(process)
                if not self._stopping.is_set():
                    _log.error("spill process ended and is replaced", exit_status=process.returncode)
            if self._clock() - started_at_s >= STEADY_S:
                restart_s = FIRST_RESTART_S
            with suppress(TimeoutError):
                async with asyncio.timeout(restart_s):
                    await self._stopping.wait()
            restart_s = min(2.0 * restart_s, LONGEST_RESTART_S)
        if process is not None:
            await stop(process, grace_s=STOP_GRACE_S)

    def stop(self) -> None:
        """End `run`."""
        self._stopping.set()

    async def _ended(self, process: Process) -> None:
        """Returns when it has ended, or is to be stopped."""
        loop = asyncio.get_running_loop()
        end = loop.create_task(process.wait(), name="end of the spill process")
        order = loop.create_task(self._stopping.wait(), name="stop order of the spill process")
        try:
            await asyncio.wait((end, order), return_when=asyncio.FIRST_COMPLETED)
        finally:
            end.cancel()
            order.cancel()
