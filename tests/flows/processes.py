"""The gateway as its own processes: a supervisor and its workers, started as an operator would."""

import asyncio
import pickle
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from backlog.child import spawn, stop
from gateway.settings import GatewaySettings
from tests.flows.conftest import until

_RUN = "import pickle, sys; from gateway.supervisor import run; sys.exit(run(pickle.load(open(sys.argv[1], 'rb'))))"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def supervisor(
    settings: GatewaySettings, folder: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, aiohttp.ClientSession]]:
    """Run until it answers readiness; at the end stop it by SIGTERM. Its log is `folder`/log."""
    file = folder / "settings"
    file.write_bytes(pickle.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = await spawn([sys.executable, "-c", _RUN, str(file)], stdout=log, stderr=log)
    try:
        async with aiohttp.ClientSession() as session:

            async def ready() -> bool:
                assert process.returncode is None, (folder / "log").read_text()
                try:
                    async with session.get(f"http://127.0.0.1:{settings.port}/health/readiness") as response:
                        first = response.status == 200
                    async with session.get(f"http://127.0.0.1:{settings.admin_port}/status") as response:
                        return first and (await response.json())["workers"] == settings.workers
                except aiohttp.ClientError:
                    return False

            await until(ready, limit_s=20.0)
            yield process, session
    finally:
        await stop(process, grace_s=10.0)
