"""The demo's gateway and fleet: `weighbridge up` as a child process, and waiting for a state of it."""

import asyncio
import random
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from backlog.child import spawn_blocking, stop_blocking
from weighbridge.demo.plan import DemoSettings, demo_config
from weighbridge.replay.status import StatusPoller, StatusSample
from weighbridge.wiring import command_line

STOP_GRACE_S = 10.0
_LOG_TAIL_CHARACTERS = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Where the demo's gateway listens and who may call it."""

    url: str
    admin_url: str
    key: str = field(repr=False)
    log: Path
    alive: Callable[[], bool]

    def log_tail(self) -> str:
        """The end of what `weighbridge up` printed."""
        return self.log.read_text(errors="replace")[-_LOG_TAIL_CHARACTERS:].strip()


@contextmanager
def running_fleet(settings: DemoSettings) -> Iterator[Fleet]:
    """The demo's fleet, with a key of its own."""
    key = f"sk-demo-{random.SystemRandom().getrandbits(64):016x}"
    with running_up(demo_config(key, settings), key=key) as fleet:
        yield fleet


@contextmanager
def running_up(configuration: Mapping[str, Any], *, key: str, env: Mapping[str, str] | None = None) -> Iterator[Fleet]:
    """`weighbridge up` until the block ends, in this process's environment or in `env`.

    Its files live in a private folder that goes with it.
    """
    port, admin_port = _free_ports()
    with tempfile.TemporaryDirectory(prefix="weighbridge-demo-") as folder:
        config, log = Path(folder, "config.yaml"), Path(folder, "up.log")
        config.write_text(yaml.safe_dump(dict(configuration)))
        options = ("--port", str(port), "--admin-port", str(admin_port), "--run-dir", str(Path(folder, "run")))
        with log.open("wb") as output:
            command = command_line("up", "--config", str(config), *options)
            child = spawn_blocking(command, env=env, stdout=output, stderr=output)
        try:
            yield Fleet(
                url=f"http://127.0.0.1:{port}",
                admin_url=f"http://127.0.0.1:{admin_port}",
                key=key,
                log=log,
                alive=lambda: child.poll() is None,
            )
        finally:
            stop_blocking(child, grace_s=STOP_GRACE_S)


async def wait_for(
    fleet: Fleet,
    state: Callable[[StatusSample], bool],
    *,
    limit_s: float,
    clock: Callable[[], float],
    start_s: float,
    every_s: float = 1.0,
) -> tuple[list[StatusSample], bool]:
    """Samples until one satisfies `state`, and whether one did in `limit_s` and before the child ended.

    Instants of the samples count from `start_s` of `clock`.
    """
    poller = StatusPoller(fleet.admin_url, clock=clock, every_s=every_s)
    waiting = asyncio.create_task(poller.run(start_s=start_s, until=state), name="wait for the fleet")
    deadline_s = clock() + limit_s
    try:
        while not waiting.done() and fleet.alive() and clock() < deadline_s:
            await asyncio.wait([waiting], timeout=0.25)
        reached = waiting.done()
    finally:
        waiting.cancel()
        await asyncio.wait([waiting])
    if reached:
        waiting.result()
    return poller.samples, reached


def _free_ports() -> tuple[int, int]:
    """Two ports that nothing listens on now."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1]), int(other.getsockname()[1])
