"""What it costs to know all pods of a large cluster: CPU of the list, of each event of a watch, and memory.

`python -m benchmarks.kube_watch [--pods 10000] [--events 10000]` lists and watches made-up pods over HTTP from another
process (`benchmarks.kube_pods`), once whole and once without managedFields, and decodes some of them with the official
client's models for comparison. CPU is that of this process alone, sockets included.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from autoscaler.kube.api import KubeApi, Trim, without_managed_fields
from autoscaler.kube.connection import connect_url
from autoscaler.kube.mirror import Mirror
from benchmarks.kube_pods import pages, pod
from benchmarks.machine import cpu_model
from benchmarks.memory import rss_from_status

GOAL_PODS = 10_000
GOAL_LIST_S = 1.0
MODEL_PODS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one list of all pods and one watch of all events. Wall time of the list includes the other process."""

    list_cpu_s: float
    list_wall_s: float
    event_cpu_s: float
    rss_bytes: int


@contextmanager
def _served(pods: int, events: int) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.kube_pods", str(pods), str(events)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.communicate()


async def measure(url: str, trim: Trim | None) -> Cost:
    api = KubeApi(connect_url(url, clock=time.monotonic), clock=time.monotonic, rng=random.Random(0))
    try:
        await api.get("/api/v1/pods")
        before_bytes = _rss_bytes()
        mirror = Mirror()
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        listing = await api.list("/api/v1/pods", trim=trim)
        changes = sum(1 for _ in mirror.replace(listing.items, listing.resource_version))
        list_cpu_s, list_wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        assert changes == len(mirror.objects)
        rss_bytes = _rss_bytes() - before_bytes
        cpu_s, count = time.process_time(), 0
        async with aclosing(api.watch("/api/v1/pods", resource_version=listing.resource_version, trim=trim)) as events:
            async for event in events:
                count += mirror.apply(event.kind, event.object) is not None
        event_cpu_s = (time.process_time() - cpu_s) / max(1, count)
    finally:
        await api.close()
    return Cost(list_cpu_s=list_cpu_s, list_wall_s=list_wall_s, event_cpu_s=event_cpu_s, rss_bytes=rss_bytes)


def models_cpu_s() -> float:
    """CPU to make the official client's model objects of one pod, its JSON included."""
    from kubernetes.aio.client import V1PodList

    (page,) = pages(MODEL_PODS)
    V1PodList.from_dict(json.loads(pages(1)[0]))
    start_s = time.process_time()
    V1PodList.from_dict(json.loads(page))
    return (time.process_time() - start_s) / MODEL_PODS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=GOAL_PODS)
    parser.add_argument("--events", type=int, default=10_000)
    arguments = parser.parse_args()
    cpu = cpu_model(Path("/proc/cpuinfo").read_text())
    print(f"{cpu}, Python {platform.python_version()}, load before {os.getloadavg()[0]:.2f}")
    sizes = [len(json.dumps(pod(1, 1))), len(json.dumps(pod(1, 1)["metadata"]["managedFields"]))]
    print(f"a pod: {sizes[0]} bytes of JSON, {sizes[1]} of them managedFields")
    with _served(arguments.pods, arguments.events) as url:
        for name, trim in (("without managedFields", without_managed_fields), ("whole", None)):
            cost = asyncio.run(measure(url, trim))
            print(
                f"{name}: {arguments.pods} pods listed in {cost.list_cpu_s:.2f} s of CPU ({cost.list_wall_s:.2f} s), "
                f"{cost.event_cpu_s * 1e6:.0f} us of CPU per event, {cost.rss_bytes / 1e6:.0f} MB"
            )
            if trim is not None and arguments.pods == GOAL_PODS:
                verdict = "met" if cost.list_cpu_s <= GOAL_LIST_S else "missed"
                print(f"  goal of {GOAL_LIST_S:.0f} s of CPU for the list: {verdict}")
    model_s = models_cpu_s() * arguments.pods
    print(f"the official client's models of {arguments.pods} pods: {model_s:.1f} s of CPU (from {MODEL_PODS})")


def _rss_bytes() -> int:
    return rss_from_status(Path("/proc/self/status").read_text())


if __name__ == "__main__":
    main()
