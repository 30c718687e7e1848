"""One local replica: a child process, its record, and the watch for its first healthy answer."""

import asyncio
import socket
from asyncio.subprocess import Process
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import aiohttp

from autoscaler.drain import Drain
from backlog import child
from backlog.records import ReplicaRecord, ReplicaState

PROBE_S = 0.1
MAX_PROBE_S = 1.0
PROBE_LIMIT_S = 2.0
"""A health endpoint that takes longer to answer is asked again."""


class LocalReplica:
    """A child process from its start to its stop. Dies with this process."""

    def __init__(self, record: ReplicaRecord, process: Process, log: Path | None) -> None:
        self.record = record
        self.log = log
        self.drain: Drain | None = None
        self._process = process
        self._probe: asyncio.Task[None] | None = None

    @property
    def exit_code(self) -> int | None:
        """`None` while the process runs. Negative: the signal that ended it."""
        return self._process.returncode

    @property
    def pid(self) -> int:
        return self._process.pid

    def watch(self, http: aiohttp.ClientSession, health_url: str, clock: Callable[[], float]) -> None:
        """Ask for its health until it answers 200, then mark it ready."""
        self._probe = asyncio.create_task(
            self._await_ready(http, health_url, clock), name=f"readiness of {self.record.name}"
        )

    def mark_draining(self, drain: Drain) -> None:
        self.drain = drain
        self.record = replace(self.record, state=ReplicaState.DRAINING)

    def revive(self) -> None:
        self.drain = None
        self.record = replace(self.record, state=ReplicaState.READY)

    async def stop(self, *, grace_s: float) -> None:
        """SIGTERM, after `grace_s` SIGKILL; everything that the child started goes too."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.wait([self._probe])
        await child.stop(self._process, grace_s=grace_s)

    async def _await_ready(self, http: aiohttp.ClientSession, health_url: str, clock: Callable[[], float]) -> None:
        pause_s = PROBE_S
        limit = aiohttp.ClientTimeout(total=PROBE_LIMIT_S)
        while True:
            try:
                async with http.get(health_url, timeout=limit, allow_redirects=False) as response:
                    if response.status == 200:
                        break
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass  # Not listening yet, or not able to answer yet: that is what starting looks like.
            await asyncio.sleep(pause_s)
            pause_s = min(MAX_PROBE_S, pause_s * 1.2)
        self.record = replace(self.record, state=ReplicaState.READY, ready_at_s=clock())


def free_port(host: str, taken: Collection[int]) -> int:
    """A TCP port on `host` that nobody listens on now and that is not in `taken`."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port
