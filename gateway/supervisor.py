"""One gateway: N worker processes on one port, and the admin port that shows them as one."""

import asyncio
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.context import SpawnProcess
from pathlib import Path

import structlog
import uvicorn

from backlog.store import connect
from estimator.price import Price
from gateway import admin, control, worker
from gateway.settings import GatewaySettings
from gateway.snapshot import WorkerState
from gateway.spill_process import SpillProcess

_log = structlog.get_logger()
RESTART_S = 1.0
"""Between a worker's death and its replacement."""
STOP_GRACE_S = 5.0


class PortUnavailable(Exception):
    """A configured address cannot be bound."""


def nothing() -> None:
    """No preparation."""


def run(
    settings: GatewaySettings, *, prepare_worker: Callable[[], None] = nothing, spill_command: Sequence[str] = ()
) -> int:
    """Serve until SIGTERM or SIGINT, then drain. Returns the exit status; 2 when a port cannot be bound.

    `prepare_worker` is called first in each worker process (logging, for one); it must be picklable. `spill_command`
    starts the spill process and takes `--socket PATH` at its end; without one nothing spills.
    """
    try:
        for host, port in ((settings.host, settings.port), (settings.admin_host, settings.admin_port)):
            check_port(host, port)
    except PortUnavailable as error:
        _log.error("cannot start", cause=str(error))
        return 2
    with tempfile.TemporaryDirectory(prefix="weighbridge-") as folder:
        path = Path(folder)
        if spill_command:
            settings = replace(settings, spill_socket=path / "spill.sock")
        return asyncio.run(Supervisor(settings, path, prepare_worker, spill_command).run())


def check_port(host: str, port: int) -> None:
    """Raises `PortUnavailable` when nothing can listen there. Workers share the port, so they could not tell."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise PortUnavailable(f"cannot listen on {host}:{port}: {error.strerror}") from error


class Supervisor:
    """Keeps the workers running until told to stop."""

    def __init__(
        self,
        settings: GatewaySettings,
        folder: Path,
        prepare_worker: Callable[[], None],
        spill_command: Sequence[str] = (),
    ) -> None:
        self._settings = settings
        self._spill_command = spill_command
        self._prepare_worker = prepare_worker
        self._folder = folder
        self._processes: dict[int, SpawnProcess] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Returns 0 after a clean drain, 1 when a worker had to be killed."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stopping.set)
        backlog = connect(self._settings.redis_url, prefix=self._settings.redis_prefix)
        prices: dict[str, Price] = {pool.name: pool.price() for pool in self._settings.pools}
        for pool, price in prices.items():
            _tell_source(pool, price)
        application = admin.build(
            pools=self._settings.pools,
            prices=prices,
            backlog=backlog,
            snapshots=self.snapshots,
            drain=self._drain,
        )
        server = _AdminServer(
            uvicorn.Config(
                application,
                host=self._settings.admin_host,
                port=self._settings.admin_port,
                log_config=None,
                access_log=False,
                lifespan="off",
            )
        )
        serving = loop.create_task(server.serve(), name="admin")
        spill = self._spill_process()
        spilling = None if spill is None else loop.create_task(spill.run(), name="spill process")
        keepers = [
            loop.create_task(self._keep(number), name=f"worker {number}") for number in range(self._settings.workers)
        ]
        try:
            await self._stopping.wait()
            for process in self._processes.values():
                process.terminate()
            killed = sum(await asyncio.gather(*keepers))
        finally:
            for process in self._processes.values():
                process.kill()
            if spill is not None and spilling is not None:
                spill.stop()
                await spilling
            server.should_exit = True
            with suppress(asyncio.CancelledError):
                await serving
            await backlog.close()
        return 1 if killed else 0

    def _spill_process(self) -> SpillProcess | None:
        socket = self._settings.spill_socket
        return None if socket is None else SpillProcess(self._spill_command, socket, clock=time.monotonic)  # noqa: TID251

    async def snapshots(self) -> list[WorkerState]:
        """What the workers that answer say of themselves."""
        states = await asyncio.gather(*(control.ask(self._path(n), control.SNAPSHOT) for n in self._processes))
        return [state for state in states if state is not None]

    async def _drain(self) -> None:
        """As on SIGTERM."""
        self._stopping.set()

    def _path(self, number: int) -> Path:
        return self._folder / f"worker-{number}.sock"

    async def _keep(self, number: int) -> bool:
        """Run one worker, again and again until stopped. Whether it had to be killed at the end."""
        context = multiprocessing.get_context("spawn")
        while not self._stopping.is_set():
            self._path(number).unlink(missing_ok=True)
            process = context.Process(
                target=worker.main,
                args=(self._settings, number, self._path(number), os.getpid(), self._prepare_worker),
                name=f"weighbridge-worker-{number}",
                daemon=True,
            )
            process.start()
            self._processes[number] = process
            ended = asyncio.get_running_loop().create_task(_exit_of(process), name=f"exit of worker {number}")
            await self._first_of(ended)
            if not ended.done():
                # It was told to stop and is draining.
                await asyncio.wait((ended,), timeout=self._settings.limits.drain_s + STOP_GRACE_S)
                killed = not ended.done()
                if killed:
                    _log.error("worker did not drain in time and is killed", worker=number)
                    process.kill()
                await ended
                return killed
            if not self._stopping.is_set():
                _log.error("worker died and is replaced", worker=number, exit_status=process.exitcode)
                with suppress(TimeoutError):
                    async with asyncio.timeout(RESTART_S):
                        await self._stopping.wait()
        return False

    async def _first_of(self, ended: "asyncio.Task[None]") -> None:
        """Wait for a worker's end or for the order to stop."""
        stop = asyncio.get_running_loop().create_task(self._stopping.wait(), name="stop order")
        try:
            await asyncio.wait((ended, stop), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()


def _tell_source(pool: str, price: Price) -> None:
    _log.info("pool priced", pool=pool, source=price.source.value, fit=price.fit, planning_batch=price.planning_batch)
    if price.reason:
        _log.warning("learned kernels are not used", pool=pool, cause=price.reason)


class _AdminServer(uvicorn.Server):
    """Signals belong to the supervisor."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None of its own."""
        yield


async def _exit_of(process: SpawnProcess) -> None:
    """Returns when the process has ended and been reaped."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    sentinel = process.sentinel
    loop.add_reader(sentinel, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(sentinel)
    process.join()
