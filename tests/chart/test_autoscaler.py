"""The autoscaler as the chart starts it, before an API server that enforces the rights that the chart gives it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from autoscaler.kube.names import PAUSED
from backlog.records import PoolName, WorkerId, WorkerReport
from backlog.store import Backlog, connect
from tests.chart.configuration import config, environment
from tests.chart.processes import LIMIT_S, answered, container_of, running
from tests.chart.render import Rendered, example, laid_over, render, render_example
from tests.kube.manifests import deployment
from tests.kube.rbac import Access, rules_from_manifests
from tests.kube.server import FakeServer
from tests.kube.workload import Workload
from tests.redis_servers import free_port, start_redis

DEPLOYMENTS = "/apis/apps/v1/namespaces/serving/deployments"
SEEN_LATER = {("pods", "patch"), ("events", "patch"), ("configmaps", "patch")}
"""Grants that short stories do not come to: drains, events that repeat, a status that changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    server: FakeServer
    access: Access
    backlog: Backlog

    def used(self) -> set[tuple[str, str]]:
        return {(resource, verb) for _, resource, verb in self.access.used}

    def unused(self) -> set[tuple[str, str]]:
        return {(resource, verb) for _, resource, verb in self.access.unused()}

    def refused(self) -> list[Any]:
        return [call for call in self.server.calls if call.status == 403]


@asynccontextmanager
async def autoscaler(
    rendered: Rendered, folder: Path, *, replicas: int, scaling: Mapping[str, float] | None = None
) -> AsyncIterator[Story]:
    """Its process, ready, in a cluster that holds the chart's deployments with that many replicas.

    `scaling`: times of the law, shorter than the chart's.
    """
    access = Access(rules_from_manifests(rendered.objects, account="wb-autoscaler", namespace="serving"))
    container = container_of(rendered, "autoscaler")
    ports = {4002: free_port(), 4004: free_port()}
    document = config(rendered, "control.yaml")
    document["controller"]["port"] = ports[4002]
    if "keda" in document["controller"]:
        document["controller"]["keda"]["port"] = ports[4004]
    document["autoscaler"] = {**document.get("autoscaler", {}), **(scaling or {})}
    file = folder / "control.yaml"
    file.write_text(json.dumps(document), encoding="utf-8")
    command, option, _ = container["args"]
    async with FakeServer() as server:
        setup = server.api()
        for item in rendered.all("Deployment"):
            if item["metadata"]["labels"]["app.kubernetes.io/component"] == "worker":
                await setup.create(
                    DEPLOYMENTS, deployment(item["metadata"]["name"], namespace="serving", replicas=replicas)
                )
        server.calls.clear()
        server.access = access
        kubeconfig = server.write_kubeconfig(folder / "kubeconfig", namespace="serving", token="t")
        with start_redis(folder) as redis:
            env = environment(rendered, "autoscaler")
            env |= {"WEIGHBRIDGE_REDIS_URL": redis.url, "KUBECONFIG": str(kubeconfig)}
            with running([command, option, str(file)], env, folder / "log") as process:
                paths = await asyncio.to_thread(answered, container, ports, process, folder / "log")
                assert paths == {"/healthz", "/readyz"}
                backlog = connect(redis.url, prefix=document["redis"].get("prefix", "wb"))
                try:
                    async with Workload(server.store):
                        yield Story(server=server, access=access, backlog=backlog)
                finally:
                    await backlog.close()
            assert process.returncode == 0, (folder / "log").read_text()


async def until(story: Story, grants: set[tuple[str, str]], folder: Path) -> None:
    """Wait until all these rights were needed."""
    deadline = time.monotonic() + LIMIT_S
    while not grants <= story.used():
        assert time.monotonic() < deadline, f"{grants - story.used()}: {(folder / 'log').read_text()}"
        await asyncio.sleep(0.05)


@pytest.mark.timeout(300)
async def test_it_scales_its_workers_with_the_rights_that_it_has(tmp_path: Path) -> None:
    rendered = render(laid_over(example("simulated"), {"pools": {"chat": {"min": 2}}}))
    async with autoscaler(rendered, tmp_path, replicas=1) as story:
        await until(story, {("deployments/scale", "patch"), ("events", "create"), ("configmaps", "create")}, tmp_path)
        scale = await story.server.api().get(f"{DEPLOYMENTS}/wb-worker-chat/scale")
        assert scale["spec"]["replicas"] == 2
    assert {("leases", "create"), ("leases", "update"), ("pods", "watch"), ("deployments", "watch")} <= story.used()
    assert story.refused() == []
    assert story.unused() <= SEEN_LATER


@pytest.mark.timeout(300)
async def test_it_never_writes_the_scale_of_what_keda_owns(tmp_path: Path) -> None:
    async with autoscaler(render_example("keda"), tmp_path, replicas=0) as story:
        await until(story, {("deployments/scale", "get"), ("configmaps", "get")}, tmp_path)
    assert story.refused() == []
    assert story.server.made("patch", "deployments/scale") == []
    assert story.unused() <= SEEN_LATER | {("events", "create"), ("configmaps", "create")}


async def idle(story: Story) -> None:
    """A gateway worker without work, for as long as it is let."""
    report = WorkerReport(worker=WorkerId("w"), started_at_s=time.time())
    while True:
        await story.backlog.exchange(PoolName("chat"), report)
        await asyncio.sleep(0.1)


@pytest.mark.timeout(300)
async def test_every_right_that_it_has_is_needed(tmp_path: Path) -> None:
    """It reads its nodes, drains and shrinks, is paused twice, and so repeats itself in events and status."""
    rendered = render(
        laid_over(example("simulated"), {"rbac": {"nodes": True}, "pools": {"chat": {"min": 1, "max": 3}}})
    )
    soon = {"polling_s": 0.2, "wake_s": 0.05, "average_s": 1.0, "window_s": 0.5, "warmup_s": 0.5, "down_every_s": 0.0}
    name = "wb-worker-chat"
    async with autoscaler(rendered, tmp_path, replicas=3, scaling=soon) as story:
        operator = story.server.store
        worker = asyncio.create_task(idle(story), name="idle worker")
        try:
            await until(story, {("pods", "patch"), ("deployments/scale", "patch"), ("nodes", "get")}, tmp_path)
            await holds(lambda: operator.get("deployments", name, "serving")["spec"]["replicas"] == 1, tmp_path)
            for value in ("upgrade", None, "upgrade"):
                operator.change("deployments", name, {"metadata": {"annotations": {PAUSED: value}}}, "serving")
                paused = value is not None
                await holds(lambda paused=paused: told_paused(story) == paused, tmp_path)
            await until(story, {("events", "patch"), ("configmaps", "patch")}, tmp_path)
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
    assert story.refused() == []
    assert story.unused() == set()


def told_paused(story: Story) -> bool:
    status = story.server.store.find("configmaps", "weighbridge-status", "serving")
    return status is not None and bool(json.loads(status["data"]["chat"]).get("paused"))


async def holds(condition: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, (folder / "log").read_text()
        await asyncio.sleep(0.05)
