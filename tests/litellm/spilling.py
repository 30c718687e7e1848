"""A gateway whose pools spill, as processes from `.venv-litellm`: supervisor, worker and the spill process."""

import asyncio
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from backlog.child import spawn_blocking, stop_blocking
from backlog.records import PoolName
from backlog.store import connect
from tests.litellm.proxy import ROOT, START_S, Client
from tests.litellm.replicas import free_ports
from tests.redis_servers import missing

PYTHON = ROOT / ".venv-litellm" / "bin" / "python"
PROVIDER_KEY = "sk-of-the-provider"
ALLOWED, NOT_ALLOWED = "sk-allowed", "sk-not-allowed"


@dataclass(frozen=True, slots=True)
class Spilling:
    """`ports` of hosted models by pool: a test serves there what it wants."""

    process: "subprocess.Popen[bytes]"
    port: int
    admin_port: int
    ports: Mapping[str, int]
    log: Path

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{self.port}", connector=connector) as session:
            yield Client(session)

    def status(self) -> dict[str, Any]:
        """`/status` of the admin port."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/status", timeout=5.0) as response:
            return json.loads(response.read())  # type: ignore[no-any-return]

    def spill(self, pool: str) -> dict[str, Any]:
        return self.status()["pools"][pool]["spill"]  # type: ignore[no-any-return]

    def children(self) -> dict[str, int]:
        """Process ids of the worker and of the spill process."""
        pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        lines = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}
        spill = next(pid for pid, line in lines.items() if b"\0spill\0" in line)
        return {"spill": spill, "worker": next(pid for pid, line in lines.items() if b"spawn_main" in line)}


def pool(model: str, port: int, *, replicas: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """A pool of a model of its own, whose hosted model is at `port`."""
    spill = {
        "model": "openai/gpt-4o-mini",
        "params": {"api_key": "os.environ/PROVIDER_KEY", "api_base": f"http://127.0.0.1:{port}/v1"},
        "money_per_day": 10,
        **changes,
    }
    return {
        "models": [model],
        "architecture": "llama-3.1-8b",
        "gpu": "L40S",
        "price_per_gpu_hour": 3.6,
        "replicas": replicas,
        "limits": {"max_wait_s": 1.5},
        "autoscaler": {"cold_start_s": 0.5},
        "spill": spill,
    }


NONE_YET = {"processes": {"command": "true {port}", "min": 0, "max": 1}}
"""Replicas that nobody starts: the pool is at zero."""


@contextmanager
def gateway(folder: Path, redis_url: str, redis_prefix: str) -> Iterator[Spilling]:
    """One worker. Pools: `zero` has no replica, `capped` no money, `full` one replica at `ports["replica"]`."""
    if not PYTHON.exists():
        missing("no LiteLLM: `make .venv-litellm/.installed`")
    port, admin_port, *rest = free_ports(5)
    ports = dict(zip(("zero", "full", "replica"), rest, strict=True))
    static = {"static": [f"http://127.0.0.1:{ports['replica']}"]}
    config = {
        "redis": {"url": redis_url, "prefix": redis_prefix},
        "gateway": {"port": port, "admin_port": admin_port},
        "pools": {
            "zero": pool("zero", ports["zero"], replicas=NONE_YET),
            "capped": pool("capped", ports["zero"], replicas=NONE_YET, money_per_day=1e-9),
            "full": {**pool("full", ports["full"], replicas=static, after_wait_s=0.2), "kv_tokens": 1},
        },
        "tenants": {"a": {"keys": [ALLOWED], "spill": True}, "b": {"keys": [NOT_ALLOWED]}},
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PROVIDER_KEY": PROVIDER_KEY,
        "NO_PROXY": "127.0.0.1",
    }
    with (folder / "log").open("wb") as log:
        command = [str(PYTHON), "-P", "-m", "weighbridge.cli", "gateway", "--config", str(file)]
        process = spawn_blocking(command, env=environment, cwd=folder, stdout=log, stderr=log)
    asyncio.run(_publish_none(redis_url, redis_prefix))
    one = Spilling(process, port, admin_port, ports, folder / "log")
    try:
        _wait(one)
        yield one
    finally:
        stop_blocking(process, grace_s=10.0)


async def _publish_none(redis_url: str, redis_prefix: str) -> None:
    """What an autoscaler says of a pool at zero."""
    backlog = connect(redis_url, prefix=redis_prefix)
    for name in ("zero", "capped"):
        await backlog.publish_replicas(PoolName(name), [])
    await backlog.close()


def _wait(one: Spilling) -> None:
    """Until the spill process has said what tokens cost, and the worker has heard what was spent."""
    deadline_s = time.monotonic() + START_S
    while True:
        assert one.process.poll() is None, one.log.read_text()
        assert time.monotonic() < deadline_s, one.log.read_text()
        try:
            spill = one.spill("zero")
            if spill["input_per_mtok"] is not None and spill["money_left"] is not None:
                return
        except (OSError, KeyError, TypeError):
            pass
        time.sleep(0.1)
