"""Two autoscalers as processes on one cluster: one leads, is killed, and the other goes on where it was."""

import asyncio
import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from backlog import child
from backlog.records import PoolName, WorkerId, WorkerReport
from backlog.store import Backlog
from tests.autoscaler.replicas import until
from tests.kube.manifests import deployment
from tests.kube.server import FakeServer
from tests.kube.workload import Workload
from tests.redis_servers import free_port
from weighbridge.wiring import command_line

POOL = PoolName("chat")
LEASE = "weighbridge-autoscaler"


def configuration(redis_url: str, prefix: str, name: str, port: int) -> dict[str, Any]:
    """Minutes become fractions of a second, and nothing goes down within the test."""
    kubernetes = {"namespace": "ml", "kind": "Deployment", "name": "chat", "port": 8000, "min": 1, "max": 9}
    pool = {"models": ["m"], "architecture": "llama-3.1-8b", "gpu": "L40S", "replicas": {"kubernetes": kubernetes}}
    return {
        "pools": {POOL: pool},
        "autoscaler": {"polling_s": 0.2, "wake_s": 0.05, "average_s": 1.0, "window_s": 0.5, "warmup_s": 0.5,
                       "down_every_s": 0.1, "up_max": 9},
        "redis": {"url": redis_url, "prefix": prefix},
        "controller": {
            "port": port,
            "identity": name,
            "lease": {"namespace": "ml", "duration_s": 3.0, "renew_deadline_s": 2.0, "retry_s": 0.5},
        },
    }  # fmt: skip


class Autoscaler:
    """One `weighbridge autoscaler`."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self.name = name
        self.process = process
        self._log = log
        self._port = port

    @property
    def output(self) -> str:
        return self._log.read_text()

    async def get(self, path: str) -> tuple[int, str]:
        return await asyncio.to_thread(self._get, path)

    def _get(self, path: str) -> tuple[int, str]:
        try:
            with urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    async def ready(self) -> None:
        async with asyncio.timeout(30):
            while (await self.get("/readyz"))[0] != 200:
                assert self.process.poll() is None, self.output
                await asyncio.sleep(0.05)


@pytest.fixture
async def cluster() -> AsyncIterator[FakeServer]:
    async with FakeServer() as server:
        server.store.put("deployments", deployment("chat", replicas=2, namespace="ml"))
        async with Workload(server.store):
            yield server


@pytest.fixture
def start(cluster: FakeServer, redis_url: str, redis_prefix: str, tmp_path: Path) -> Any:
    """Starts an autoscaler of this name."""
    kubeconfig = cluster.write_kubeconfig(tmp_path / "kubeconfig", token="t")
    started: list[Autoscaler] = []

    def begin(name: str) -> Autoscaler:
        port, log = free_port(), tmp_path / f"{name}.log"
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(configuration(redis_url, redis_prefix, name, port)))
        with log.open("wb") as output:
            process = child.spawn_blocking(
                command_line("autoscaler", "--config", str(file)),
                env={**os.environ, "KUBECONFIG": str(kubeconfig)},
                stdout=output,
                stderr=output,
            )
        started.append(Autoscaler(name, process, port, log))
        return started[-1]

    yield begin
    for one in started:
        child.stop_blocking(one.process, grace_s=5.0)


@asynccontextmanager
async def load(backlog: Backlog, waiting_prefill_s: Callable[[], float]) -> AsyncIterator[None]:
    """A gateway worker in which this much waits."""

    async def publish() -> None:
        while True:
            report = WorkerReport(
                worker=WorkerId("w"), started_at_s=1000.0, waiting=9, arrived=9,
                waiting_prefill_s=waiting_prefill_s(),
            )  # fmt: skip
            await backlog.exchange(POOL, report)
            await asyncio.sleep(0.1)

    task = asyncio.create_task(publish(), name="load")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def holder(server: FakeServer) -> str:
    lease = server.store.find("leases", LEASE, "ml")
    return "" if lease is None else str(lease["spec"]["holderIdentity"])


def replicas(server: FakeServer) -> int:
    return int(server.store.get("deployments", "chat", "ml")["spec"]["replicas"])


def orders(server: FakeServer) -> list[int]:
    """Every number of replicas that was written."""
    return [call.body["spec"]["replicas"] for call in server.made("patch", "deployments/scale") if call.body]


@pytest.mark.timeout(120)
async def test_a_leader_that_is_killed_is_replaced_and_no_replica_goes_because_of_it(
    cluster: FakeServer, start: Any, backlog: Backlog
) -> None:
    waiting_s = 60.0
    async with load(backlog, lambda: waiting_s):
        both = [start("one"), start("two")]
        for one in both:
            await one.ready()
        await until(lambda: replicas(cluster) == 3)
        leader = next(one for one in both if holder(cluster).startswith(f"{one.name}_"))
        [other] = [one for one in both if one is not leader]
        pattern = re.compile(r'^weighbridge_autoscaler_leader\{identity="\w+"\} ([01])', re.MULTILINE)
        assert pattern.findall((await leader.get("/metrics"))[1]) == ["1"]
        assert pattern.findall((await other.get("/metrics"))[1]) == ["0"]

        os.kill(leader.process.pid, signal.SIGKILL)
        await until(lambda: holder(cluster).startswith(f"{other.name}_"))
        decisions = len(await backlog.decisions(POOL))
        async with asyncio.timeout(20):
            while len(await backlog.decisions(POOL)) < decisions + 5:
                await asyncio.sleep(0.05)
        assert replicas(cluster) == 3

        waiting_s = 120.0
        await until(lambda: replicas(cluster) > 3)
        assert orders(cluster) == sorted(orders(cluster)), "replicas never went down"

        view = await backlog.view(POOL)
        assert view.replicas is not None
        assert len(view.replicas) >= 3
        await until(lambda: "ScaledUp" in {event["reason"] for event in cluster.store.all("events", "ml")})
        [event] = [event for event in cluster.store.all("events", "ml") if event["reason"] == "ScaledUp"][-1:]
        target = cluster.store.get("deployments", "chat", "ml")["metadata"]
        assert event["involvedObject"] == {
            "apiVersion": "apps/v1", "kind": "Deployment", "namespace": "ml", "name": "chat", "uid": target["uid"]
        }  # fmt: skip
        status = json.loads(cluster.store.get("configmaps", "weighbridge-status", "ml")["data"][POOL])
        assert status["desired"] >= 3

        other.process.terminate()
        assert await asyncio.to_thread(other.process.wait, 20) == 0, other.output
    assert holder(cluster) == ""
    assert "lead given back" in other.output
    view = await backlog.view(POOL)
    assert view.replicas, "replicas outlive the autoscaler, and stay on the list"


@pytest.mark.timeout(120)
async def test_while_the_api_server_is_away_nobody_leads_and_afterwards_all_is_as_it_was(
    cluster: FakeServer, start: Any, backlog: Backlog
) -> None:
    async with load(backlog, lambda: 60.0):
        one = start("one")
        await one.ready()
        await until(lambda: replicas(cluster) == 3)
        await cluster.go_down()
        lead = re.compile(r'^weighbridge_autoscaler_leader\{identity="one_\w+"\} 0', re.MULTILINE)
        async with asyncio.timeout(20):
            while lead.search((await one.get("/metrics"))[1]) is None:
                await asyncio.sleep(0.05)
        assert (await one.get("/healthz"))[0] == 200, "it goes on deciding"
        await cluster.come_up()
        decisions = len(await backlog.decisions(POOL))
        async with asyncio.timeout(30):
            while len(await backlog.decisions(POOL)) < decisions + 3:
                await asyncio.sleep(0.05)
        assert orders(cluster) == [3], "nothing was changed but once, before"
    assert one.output.count('"lead lost"') == 1
    assert one.output.count("autoscaler step failed") == 0
