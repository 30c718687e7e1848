"""What a gateway's processes take of memory with learned prices, beside the same with analytic ones.

`python -m benchmarks.memory [--requests 300]` runs `weighbridge up` twice with two pools and two workers: as it ships,
and with a copy of the estimator that has no weights. After the requests, which simulated replicas answer, it prints the
resident set (RSS) of each gateway process, as `/proc` has it.
"""

import argparse
import asyncio
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

import estimator
from benchmarks.processes import BenchmarkFailed, all_stats, tree_of
from estimator.price import WeightSource
from weighbridge.demo.fleet import running_up

WORKERS = 2
POOLS = {"llama-3.1-8b": "H100", "qwen3-32b": "H200"}
GOAL_BYTES = 80e6
START_LIMIT_S = 90.0
AT_ONCE = 16
KEY = "sk-memory"
_KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process, by what `/proc` says."""

    pid: int
    parent: int
    command: str
    """Its words, with spaces between."""
    rss_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Resident sets of a gateway's processes, in bytes."""

    supervisor_bytes: int
    workers_bytes: tuple[int, ...]
    """In the order in which the workers were started."""


def rss_from_status(text: str) -> int:
    """Bytes of `VmRSS` in `/proc/PID/status`; 0 for a process that has ended and is not yet reaped."""
    line = next((line for line in text.splitlines() if line.startswith("VmRSS:")), "VmRSS: 0 kB")
    return int(line.split()[1]) * _KIB


def memory_of(processes: Sequence[Process], workers: int) -> Memory:
    """Of the one gateway among `processes`. `BenchmarkFailed` if there is none, or another number of workers."""
    supervisors = [one for one in processes if " -m weighbridge.cli gateway" in one.command]
    if len(supervisors) != 1:
        raise BenchmarkFailed(f"{len(supervisors)} gateways run; it has to be one")
    (supervisor,) = supervisors
    # Beside the workers there is the resource tracker of multiprocessing.
    children = [one for one in processes if one.parent == supervisor.pid and "spawn_main" in one.command]
    if len(children) != workers:
        raise BenchmarkFailed(f"{len(children)} gateway workers run; they have to be {workers}")
    return Memory(
        supervisor_bytes=supervisor.rss_bytes,
        workers_bytes=tuple(one.rss_bytes for one in sorted(children, key=lambda one: one.pid)),
    )


def report(learned: Memory, analytic: Memory) -> str:
    """A line per process, and the goal."""
    rows = [("supervisor", learned.supervisor_bytes, analytic.supervisor_bytes)]
    for number, (one, other) in enumerate(zip(learned.workers_bytes, analytic.workers_bytes, strict=True)):
        rows.append((f"worker {number}", one, other))
    lines = [f"{'RSS, MB':<12}{'learned':>9}{'analytic':>10}{'ratio':>7}"]
    lines += [f"{name:<12}{one / 1e6:>9.1f}{other / 1e6:>10.1f}{one / other:>7.2f}" for name, one, other in rows]
    largest = max(learned.workers_bytes)
    kept = "kept" if largest < GOAL_BYTES else "missed"
    lines.append(
        f"largest worker with learned prices {largest / 1e6:.1f} MB (goal: under {GOAL_BYTES / 1e6:.0f} MB, {kept})"
    )
    return "\n".join(lines)


def config() -> dict[str, Any]:
    """One simulated replica per pool."""
    return {
        "pools": {
            model: {"models": [model], "gpu": gpu, "replicas": {"processes": {"min": 1, "max": 1}}}
            for model, gpu in POOLS.items()
        },
        "tenants": {"memory": {"keys": [KEY]}},
        "gateway": {"workers": WORKERS},
    }


def without_weights(folder: Path) -> dict[str, str]:
    """An environment in which the estimator is a copy in `folder` that has no weights: every price is analytic."""
    source = Path(estimator.__file__).parent
    shutil.copytree(source, folder / "estimator", ignore=shutil.ignore_patterns("weights", "__pycache__"))
    path = os.pathsep.join((str(folder), str(source.parent)))
    return {**os.environ, "PYTHONPATH": path}


def measure(source: WeightSource, requests: int, env: Mapping[str, str] | None) -> Memory:
    """Start everything, send `requests`, and look. `BenchmarkFailed` if a price is not from `source`."""
    with running_up(config(), key=KEY, env=env) as fleet:
        try:
            asyncio.run(_load(fleet.url, fleet.admin_url, source, requests))
        except (BenchmarkFailed, aiohttp.ClientError) as error:
            raise BenchmarkFailed(f"{error}\n{fleet.log_tail()}") from error
        return memory_of(_descendants(), WORKERS)


def _descendants() -> list[Process]:
    stats = all_stats()
    found = []
    for pid in tree_of(os.getpid(), stats):
        folder = Path("/proc", str(pid))
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            rss_bytes = rss_from_status((folder / "status").read_text())
        except OSError:
            continue  # it ended meanwhile
        found.append(Process(pid=pid, parent=stats[pid].parent, command=command, rss_bytes=rss_bytes))
    return found


async def _load(url: str, admin: str, source: WeightSource, requests: int) -> None:
    # A connection per request: the kernel spreads them over the workers.
    connector = aiohttp.TCPConnector(limit=AT_ONCE, force_close=True)
    async with aiohttp.ClientSession(connector=connector, headers={"authorization": f"Bearer {KEY}"}) as session:
        await _ready(session, admin, source)
        rng = random.Random(0)
        failed: list[str] = []

        async def send(model: str, words: int, output_tokens: int) -> None:
            messages = [{"role": "user", "content": "word " * words}]
            body = {"model": model, "max_tokens": output_tokens, "messages": messages}
            try:
                async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                    await response.read()
                    failed.extend([] if response.status == 200 else [str(response.status)])
            except aiohttp.ClientError as error:
                failed.append(repr(error))

        async with asyncio.TaskGroup() as group:
            for number in range(requests):
                model = tuple(POOLS)[number % len(POOLS)]
                sizes = (rng.choice((20, 200, 2000)), rng.choice((4, 16, 40)))
                group.create_task(send(model, *sizes), name=f"request {number}")
    if failed:
        raise BenchmarkFailed(f"{len(failed)} of {requests} requests failed, the first with {failed[0]}")


async def _ready(session: aiohttp.ClientSession, admin: str, source: WeightSource) -> None:
    until_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < until_s:
        try:
            async with session.get(f"{admin}/status") as response:
                page = await response.json()
        except aiohttp.ClientError:
            page = None
        if page and page["workers"] == WORKERS and all(pool["ready"] for pool in page["pools"].values()):
            sources = {pool["price"]["source"] for pool in page["pools"].values()}
            if sources != {source.value}:
                raise BenchmarkFailed(f"prices are {', '.join(sorted(sources))}; they have to be {source.value}")
            return
        await asyncio.sleep(0.2)
    raise BenchmarkFailed(f"the gateway was not ready within {START_LIMIT_S:.0f} s")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=300)
    args = parser.parse_args(argv)
    try:
        learned = measure(WeightSource.LEARNED, args.requests, None)
        with tempfile.TemporaryDirectory(prefix="weighbridge-memory-") as folder:
            analytic = measure(WeightSource.ANALYTIC, args.requests, without_weights(Path(folder)))
    except BenchmarkFailed as error:
        print(f"benchmark failed: {error}", file=sys.stderr)
        return 1
    print(report(learned, analytic))
    return 0


if __name__ == "__main__":
    sys.exit(main())
