"""Four gateway workers, one queue: is the order global, and how often do two workers give a replica too much?

`python -m benchmarks.workers [--seconds 60]` runs `weighbridge up` with three simulated replicas and two tenants
(weights 1 and 3) that keep the pool backlogged, and reads what the workers counted.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.processes import BenchmarkFailed
from weighbridge.demo.fleet import running_up

WORKERS, REPLICAS = 4, 3
PUBLISH_S = 0.05
TENANTS = {"one": 1.0, "three": 3.0}
CLIENTS = {"one": 40, "three": 120}
RAMP_S = 5.0
"""Over which the clients begin; the shares are taken after it."""
START_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Counts over the measured time."""

    seconds: float
    answered: int
    failed: int
    dispatches: int
    leased: int
    out_of_order: int
    over_dispatches: int
    gpu_s_ratio: float
    """GPU-seconds of the tenant of weight 3 over those of the tenant of weight 1; 3 is fair."""
    queue_left: int

    @property
    def out_of_order_ratio(self) -> float:
        return self.out_of_order / max(self.dispatches, 1)

    @property
    def over_per_interval(self) -> float:
        return self.over_dispatches / (self.seconds / PUBLISH_S)


def config() -> dict[str, Any]:
    """A fleet that the load keeps busy."""
    return {
        "pools": {
            "m": {
                "models": ["llama-3.1-8b"],
                "gpu": "L40S",
                "replicas": {"processes": {"min": REPLICAS, "max": REPLICAS}},
                "limits": {"max_wait_s": 120},
            }
        },
        "tenants": {name: {"keys": [f"sk-{name}"], "weight": weight} for name, weight in TENANTS.items()},
        "gateway": {"workers": WORKERS, "publish_s": PUBLISH_S},
    }


async def measure(url: str, admin: str, seconds: float) -> Outcome:
    answered = failed = 0
    # A connection per request: the kernel spreads them over the workers.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        await _ready(session, admin)
        ends_at_s = time.monotonic() + seconds

        async def client(tenant: str, number: int) -> None:
            nonlocal answered, failed
            rng = random.Random(f"{tenant} {number}")
            await asyncio.sleep(rng.uniform(0.0, RAMP_S))
            while time.monotonic() < ends_at_s:
                body = {
                    "model": "llama-3.1-8b",
                    "max_tokens": rng.choice((4, 16, 40)),
                    "messages": [{"role": "user", "content": "word " * rng.choice((100, 800, 2500))}],
                }
                headers = {"authorization": f"Bearer sk-{tenant}"}
                async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as response:
                    await response.read()
                    answered += response.status == 200
                    failed += response.status != 200

        async with asyncio.TaskGroup() as group:
            for tenant, clients in CLIENTS.items():
                for number in range(clients):
                    group.create_task(client(tenant, number), name=f"{tenant} {number}")
            await asyncio.sleep(2 * RAMP_S)
            before = (await _pool(session, admin))["used_gpu_s_by_tenant"]
            await asyncio.sleep(ends_at_s - time.monotonic())
            after = (await _pool(session, admin))["used_gpu_s_by_tenant"]
        counted, pool = await _counters(session, admin), await _pool(session, admin)
    used = {tenant: after[tenant] - before.get(tenant, 0.0) for tenant in TENANTS}
    return Outcome(
        seconds=seconds,
        answered=answered,
        failed=failed,
        dispatches=int(sum(value for name, value in counted.items() if name.startswith("path:"))),
        leased=int(counted.get("path:leased", 0)),
        out_of_order=int(counted.get("out_of_order", 0)),
        over_dispatches=int(counted.get("over", 0)),
        gpu_s_ratio=used["three"] / max(used["one"], 1e-9),
        queue_left=pool["queue"]["tickets"],
    )


async def _ready(session: aiohttp.ClientSession, admin: str) -> None:
    until_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < until_s:
        try:
            async with session.get(f"{admin}/status") as response:
                page = await response.json()
                if page["workers"] == WORKERS and page["pools"]["m"]["ready"] == REPLICAS:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.2)
    raise BenchmarkFailed(f"the fleet was not ready within {START_LIMIT_S:.0f} s")


async def _pool(session: aiohttp.ClientSession, admin: str) -> dict[str, Any]:
    async with session.get(f"{admin}/status") as response:
        page: dict[str, Any] = await response.json()
    pool: dict[str, Any] = page["pools"]["m"]
    return pool


async def _counters(session: aiohttp.ClientSession, admin: str) -> dict[str, float]:
    names = {"weighbridge_dispatches_out_of_order": "out_of_order", "weighbridge_over_dispatches": "over"}
    counted: dict[str, float] = {}
    async with session.get(f"{admin}/metrics") as response:
        text = await response.text()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.endswith("_total"):
                continue
            key = names.get(family.name)
            if family.name == "weighbridge_dispatches":
                key = f"path:{sample.labels['path']}"
            if key is not None:
                counted[key] = counted.get(key, 0.0) + sample.value
    return counted


def report(outcome: Outcome) -> str:
    """The figures with their goals, a line each."""
    bound = WORKERS * REPLICAS
    return "\n".join(
        (
            f"{WORKERS} workers, {REPLICAS} replicas, {outcome.seconds:.0f} s: {outcome.answered} answered, "
            f"{outcome.failed} failed, {outcome.queue_left} tickets left",
            f"dispatches {outcome.dispatches}, of them by lease {outcome.leased}",
            f"out of order {outcome.out_of_order} = {outcome.out_of_order_ratio:.2%} of dispatches (goal: 1 %)",
            f"over-dispatches {outcome.over_dispatches} = {outcome.over_per_interval:.3f} per publish interval "
            f"(bound: {bound})",
            f"GPU-seconds of weight 3 over weight 1: {outcome.gpu_s_ratio:.2f} (goal: 3 within 5 %)",
        )
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args(argv)
    with running_up(config(), key="sk-one") as fleet:
        try:
            outcome = asyncio.run(measure(fleet.url, fleet.admin_url, args.seconds))
        except (BenchmarkFailed, aiohttp.ClientError) as error:
            print(f"benchmark failed: {error}\n{fleet.log_tail()}", file=sys.stderr)
            return 1
    print(report(outcome))
    print(json.dumps(asdict(outcome)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
