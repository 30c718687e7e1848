"""A pool in a cluster under test: a scaler over the fake server, and a gateway worker that reports what a test says."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from autoscaler.kube.cluster import Cluster
from autoscaler.kube.scaler import KubernetesScaler
from autoscaler.kube.target import DEPLOYMENT, Target, Writes
from autoscaler.scaler import ScalingFailed
from backlog.records import PoolName, PoolView, ReplicaRecord, ReplicaState
from tests.autoscaler.builders import report, running, share, view
from tests.kube.manifests import deployment
from tests.kube.server import FakeServer
from tests.kube.workload import Workload

PATIENCE_S = 20.0


@dataclass(slots=True, kw_only=True)
class Pool:
    """`busy`: replica -> requests in flight there. `leads` may be changed at any time."""

    server: FakeServer
    workload: Workload
    scaler: KubernetesScaler
    cluster: Cluster
    told: list[tuple[str, str, str]]
    busy: dict[str, int] = field(default_factory=dict)
    leads: bool = True

    def look(self) -> PoolView:
        loads = running(**{name: share(in_flight=count, remaining_gpu_s=count) for name, count in self.busy.items()})
        return view(report(running=loads), at_s=time.time(), replicas=self.scaler.records() or ())

    async def until(self, holds: Callable[[], bool], what: str = "it") -> None:
        """Let the scaler move on until a condition holds."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline_s, f"{what} did not come about: {self.scaler.fleet()}, {self.states()}"
            if self.leads:
                await self.scaler.advance(self.look())
            await asyncio.sleep(0.01)

    async def apply(self, desired: int) -> None:
        await self.scaler.apply(desired, self.look())

    async def scaled(self, desired: int) -> None:
        """Decide as the loop does until as many replicas are ready and nothing else is there."""
        deadline_s = time.monotonic() + PATIENCE_S
        while self.names(ReplicaState.READY) != self.names() or len(self.names()) != desired:
            assert time.monotonic() < deadline_s, f"{desired} replicas did not come about: {self.states()}"
            with suppress(ScalingFailed):
                await self.apply(desired)
            await asyncio.sleep(0.02)

    def records(self) -> tuple[ReplicaRecord, ...]:
        return self.scaler.records() or ()

    def states(self) -> dict[str, str]:
        return {record.name: record.state.value for record in self.records()}

    def names(self, state: ReplicaState | None = None) -> list[str]:
        return sorted(record.name for record in self.records() if state in (None, record.state))

    def replicas(self, name: str = "chat", resource: str = "deployments") -> int:
        return int(self.server.store.get(resource, name)["spec"]["replicas"])

    def writes(self) -> int:
        """How often `replicas` was written by anyone but the test."""
        return len(self.server.made("patch", "deployments/scale"))


def target(name: str = "chat", **changes: Any) -> Target:
    values: dict[str, Any] = {"kind": DEPLOYMENT, "namespace": "default", "name": name, "port": 8000}
    return Target(**{**values, "minimum": 0, "maximum": 20, **changes})


@asynccontextmanager
async def a_pool(
    server: FakeServer,
    *,
    replicas: int = 2,
    targets: tuple[Target, ...] = (),
    objects: Mapping[str, list[dict[str, Any]]] | None = None,
    writes: Writes = Writes.ALL,
    leads: bool = True,
    read_nodes: bool = False,
    drain_deadline_s: float = 60.0,
    like_deployments: tuple[str, ...] = (),
    known: bool = True,
) -> AsyncIterator[Pool]:
    """One pool whose targets exist (`objects` by resource; default: the Deployment `chat`), seen by the scaler."""
    for resource, items in (objects or {"deployments": [deployment(replicas=replicas)]}).items():
        for item in items:
            server.store.put(resource, item)
    told: list[tuple[str, str, str]] = []
    async with Workload(server.store, like_deployments=like_deployments) as workload:
        cluster = Cluster(
            server.api(), clock=time.time, monotonic=time.monotonic, leads=lambda: pool.leads, read_nodes=read_nodes
        )
        scaler = KubernetesScaler(
            targets or (target(),),
            cluster,
            pool=PoolName("chat"),
            writes=writes,
            drain_deadline_s=drain_deadline_s,
            tell=lambda where, reason, message: told.append((where.name, reason, message)),
            ratio_of=lambda gpu: {"H100": 1.0, "L40S": 2.5}.get(gpu),
        )
        pool = Pool(server=server, workload=workload, scaler=scaler, cluster=cluster, told=told, leads=leads)
        stop_event = asyncio.Event()
        run = asyncio.create_task(cluster.run(stop_event), name="cluster")
        try:
            if known:
                wanted = sum(int(item["spec"]["replicas"]) for items in _all(server) for item in items)
                await pool.until(lambda: scaler.known and len(pool.names(ReplicaState.READY)) >= wanted, "the start")
            yield pool
        finally:
            stop_event.set()
            await run


def _all(server: FakeServer) -> list[list[dict[str, Any]]]:
    return [server.store.all(kind) for kind in ("deployments", "statefulsets", "leaderworkersets")]
