"""The controllers of the fake turn replicas into pods as real ones do, and choose the same victims."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.kube.manifests import deployment, leader_worker_set, stateful_set
from tests.kube.server import FakeServer
from tests.kube.victim import COST, condition, in_order_of_deletion
from tests.kube.workload import Workload

Json = dict[str, Any]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.fixture
async def workload(server: FakeServer) -> AsyncIterator[Workload]:
    async with Workload(server.store) as made:
        yield made


def names(server: FakeServer) -> list[str]:
    return [pod["metadata"]["name"] for pod in server.store.all("pods")]


def scale(server: FakeServer, resource: str, replicas: int) -> None:
    server.store.change(resource, "chat", {"spec": {"replicas": replicas}})


async def test_a_deployment_gets_ready_pods_with_addresses_and_reports_them(
    server: FakeServer, workload: Workload
) -> None:
    server.store.put("deployments", deployment("chat", replicas=3))
    await until(lambda: server.store.get("deployments", "chat").get("status", {}).get("readyReplicas") == 3)
    pods = server.store.all("pods")
    assert len({pod["status"]["podIP"] for pod in pods}) == 3
    assert all(pod["metadata"]["labels"] == {"app": "chat"} for pod in pods)
    assert all(pod["spec"]["nodeName"] == "node-1" for pod in pods)


async def test_the_pod_of_lowest_deletion_cost_goes_when_replicas_fall(server: FakeServer, workload: Workload) -> None:
    server.store.put("deployments", deployment("chat", replicas=3))
    await until(lambda: len(workload.ready()) == 3)
    victim = names(server)[1]
    server.store.change("pods", victim, {"metadata": {"annotations": {COST: "-100"}}})
    kept = sorted(set(names(server)) - {victim})
    scale(server, "deployments", 2)
    await until(lambda: names(server) == kept)


async def test_a_pod_without_a_node_says_that_it_cannot_be_scheduled(server: FakeServer, workload: Workload) -> None:
    workload.capacity = 1
    server.store.put("deployments", deployment("chat", replicas=2))
    await until(lambda: len(workload.ready()) == 1)

    def stuck() -> list[Json]:
        return [
            pod for pod in server.store.all("pods") if condition(pod, "PodScheduled").get("reason") == "Unschedulable"
        ]

    await until(lambda: len(stuck()) == 1)
    assert stuck()[0]["status"]["phase"] == "Pending"
    workload.capacity = 2
    workload.wake()
    await until(lambda: len(workload.ready()) == 2)
    assert not stuck()


async def test_pods_can_be_held_before_their_start_and_at_their_end(server: FakeServer, workload: Workload) -> None:
    workload.hold_starting = workload.hold_terminating = True
    server.store.put("deployments", deployment("chat", replicas=1))
    await until(lambda: any(pod["spec"].get("nodeName") for pod in server.store.all("pods")))
    assert workload.ready() == []
    workload.hold_starting = False
    workload.wake()
    await until(lambda: len(workload.ready()) == 1)
    scale(server, "deployments", 0)
    await until(lambda: any("deletionTimestamp" in pod["metadata"] for pod in server.store.all("pods")))
    workload.hold_terminating = False
    workload.wake()
    await until(lambda: names(server) == [])


async def test_a_pod_crashes_comes_back_and_may_be_unready(server: FakeServer, workload: Workload) -> None:
    server.store.put("deployments", deployment("chat", replicas=1))
    await until(lambda: len(workload.ready()) == 1)
    (name,) = names(server)
    workload.set_ready(name, False)
    await until(lambda: workload.ready() == [])
    workload.set_ready(name, True)
    await until(lambda: workload.ready() == [name])
    workload.crash(name)
    assert workload.ready() == []
    await until(lambda: workload.ready() == [name])
    assert server.store.get("pods", name)["status"]["containerStatuses"][0]["restartCount"] == 1


async def test_a_pod_that_failed_or_was_deleted_gets_a_successor(server: FakeServer, workload: Workload) -> None:
    server.store.put("deployments", deployment("chat", replicas=1))
    await until(lambda: len(workload.ready()) == 1)
    (first,) = names(server)
    workload.fail(first)
    await until(lambda: len(workload.ready()) == 1)
    (second,) = workload.ready()
    assert second != first
    async with aiohttp.ClientSession() as session:
        answer = await session.delete(f"{server.url}/api/v1/namespaces/default/pods/{second}")
        assert answer.status == 200
    await until(lambda: len(workload.ready()) == 1 and workload.ready() != [second])


async def test_a_stateful_set_grows_in_order_and_shrinks_from_the_top(server: FakeServer, workload: Workload) -> None:
    workload.unready.add("chat-0")
    server.store.put("statefulsets", stateful_set("chat", replicas=3))
    await until(lambda: "podIP" in server.store.get("pods", "chat-0")["status"] if names(server) else False)
    assert names(server) == ["chat-0"]
    workload.set_ready("chat-0", True)
    await until(lambda: workload.ready() == ["chat-0", "chat-1", "chat-2"])
    scale(server, "statefulsets", 1)
    await until(lambda: names(server) == ["chat-0"])


async def test_a_leader_worker_set_has_groups_and_counts_leaders(server: FakeServer, workload: Workload) -> None:
    server.store.put("leaderworkersets", leader_worker_set("chat", replicas=2, size=2))
    await until(lambda: len(workload.ready()) == 4)
    await until(lambda: server.store.get("leaderworkersets", "chat")["status"].get("readyReplicas") == 2)
    scale(server, "leaderworkersets", 1)
    await until(lambda: names(server) == ["chat-0", "chat-0-1"])


async def test_the_pods_of_a_workload_that_is_deleted_go_too(server: FakeServer, workload: Workload) -> None:
    server.store.put("deployments", deployment("chat", replicas=2))
    await until(lambda: len(workload.ready()) == 2)
    server.store.remove("deployments", "chat")
    await until(lambda: names(server) == [])


async def test_a_server_runs_at_the_address_of_each_pod_for_as_long_as_it_lives(server: FakeServer) -> None:
    runners: dict[str, web.AppRunner] = {}

    async def start(pod: Json) -> None:
        runner = web.AppRunner(web.Application())
        await runner.setup()
        site = web.TCPSite(runner, pod["status"]["podIP"], 0)
        await site.start()
        runners[pod["metadata"]["name"]] = runner

    async def stop(pod: Json) -> None:
        await runners.pop(pod["metadata"]["name"]).cleanup()

    async with Workload(server.store, start=start, stop=stop) as workload:
        server.store.put("deployments", deployment("chat", replicas=2))
        await until(lambda: len(workload.ready()) == 2)
        assert sorted(runners) == names(server)
        scale(server, "deployments", 1)
        await until(lambda: len(names(server)) == 1)
        assert sorted(runners) == names(server)
    assert runners == {}


def _pod(name: str, *, node: str | None = "n", phase: str = "Running", ready: str = "True", **more: Any) -> Json:
    since, cost, made = more.get("since", "2026-01-01"), more.get("cost", 0), more.get("made", "2026-01-01")
    return {
        "metadata": {"name": name, "creationTimestamp": made, "annotations": {COST: str(cost)}},
        "spec": {"nodeName": node} if node else {},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}],
            "containerStatuses": [{"restartCount": more.get("restarts", 0)}],
        },
    }


def test_victims_are_chosen_in_the_order_of_a_replica_set() -> None:
    pods = [
        _pod("unassigned", node=None, phase="Pending", ready="False", cost=100),
        _pod("pending", phase="Pending", ready="False", cost=50),
        _pod("unready", ready="False", cost=10),
        _pod("cheap", cost=-5),
        _pod("just ready", since="2026-01-03"),
        _pod("restarted", since="2026-01-02", restarts=3),
        _pod("young", since="2026-01-02", made="2026-01-02"),
        _pod("old", since="2026-01-02"),
        _pod("dear", cost=7, since="2026-01-03"),
    ]
    shuffled = random.Random(0).sample(pods, len(pods))
    assert in_order_of_deletion(shuffled) == pods
