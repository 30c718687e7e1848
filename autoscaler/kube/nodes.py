"""The GPU of a node, from its labels. Nodes are read once each: their GPUs do not change."""

import asyncio
from collections.abc import Mapping

import structlog

from autoscaler.kube.api import KubeApi
from autoscaler.kube.errors import Denied, KubeError, NotFound
from estimator.accelerator import find_accelerator

GPU_LABELS = (
    "nvidia.com/gpu.product",
    "amd.com/gpu.product-name",
    "cloud.google.com/gke-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "node.coreweave.cloud/gpu.model",
)
RETRY_S = 30.0
_log = structlog.get_logger("autoscaler")


def gpu_from_labels(labels: Mapping[str, str]) -> str | None:
    """The name of a known GPU; `None` where no label names one."""
    for label in GPU_LABELS:
        found = find_accelerator(labels[label]) if label in labels else None
        if found is not None:
            return found.name
    return None


class NodeGpus:
    """Answers at once from what was read; asks the API server for what is new, in one task."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._known: dict[str, str | None] = {}
        self._asked: set[str] = set()
        self._wake = asyncio.Event()

    def gpu_of(self, node: str | None) -> str | None:
        """`None`: not known, or not known yet."""
        if node is None:
            return None
        if node not in self._known and node not in self._asked:
            self._asked.add(node)
            self._wake.set()
        return self._known.get(node)

    async def run(self, stop_event: asyncio.Event) -> None:
        """Read the nodes that were asked for, until `stop_event`. Ends by itself where nodes may not be read."""
        while not stop_event.is_set():
            await _either(self._wake, stop_event, None)
            self._wake.clear()
            for node in sorted(self._asked):
                try:
                    item = await self._api.get(f"/api/v1/nodes/{node}")
                except NotFound:
                    self._known[node] = None
                except Denied as error:
                    _log.warning("nodes cannot be read", cause=error.cause)
                    return
                except KubeError:
                    await _either(stop_event, stop_event, RETRY_S)
                    self._wake.set()
                    break
                else:
                    self._known[node] = gpu_from_labels(item["metadata"].get("labels") or {})
                self._asked.discard(node)


async def _either(one: asyncio.Event, other: asyncio.Event, limit_s: float | None) -> None:
    """Wait for one of two events, or for the time."""
    waits = {asyncio.create_task(event.wait(), name="wait for an event") for event in (one, other)}
    try:
        await asyncio.wait(waits, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)
