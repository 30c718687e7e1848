"""A whole installation for a story: an API server, pods that serve, Redis, autoscaler and gateway as processes."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from backlog.child import spawn, stop
from simulator.server import Serving, serve
from simulator.settings import simulator_settings
from tests.flows.conftest import until
from tests.flows.processes import free_port
from tests.kube.server import FakeServer
from tests.kube.workload import Workload
from weighbridge.wiring import command_line

MODEL = "chat"
PATIENCE_S = 45.0


@dataclass(slots=True, kw_only=True)
class Pods:
    """A simulated model server at the address of every pod. `cut`: pods that were stopped while sequences ran there."""

    speed: float
    port: int
    serving: dict[str, Serving] = field(default_factory=dict)
    cut: list[str] = field(default_factory=list)
    stopped: int = 0
    _stacks: dict[str, AsyncExitStack] = field(default_factory=dict)

    async def start(self, pod: Mapping[str, Any]) -> None:
        uid = pod["metadata"]["uid"]
        stack = self._stacks[uid] = AsyncExitStack()
        settings = simulator_settings(
            model=MODEL,
            architecture="qwen2.5-0.5b",
            gpu="H100",
            host=pod["status"]["podIP"],
            port=self.port,
            speed=self.speed,
        )
        self.serving[uid] = await stack.enter_async_context(serve(settings))

    async def die(self, uid: str) -> None:
        """The server goes without a word to anyone."""
        self.serving.pop(uid)
        await self._stacks.pop(uid).aclose()

    async def stop(self, pod: Mapping[str, Any]) -> None:
        uid = pod["metadata"]["uid"]
        serving = self.serving.pop(uid, None)
        if serving is not None:
            self.stopped += 1
            if not serving.realtime.engine.idle:
                self.cut.append(pod["metadata"]["name"])
            await self._stacks.pop(uid).aclose()


@dataclass(slots=True, kw_only=True)
class Story:
    """What runs, and how its user calls it."""

    server: FakeServer
    workload: Workload
    pods: Pods
    session: aiohttp.ClientSession
    url: str
    admin: str
    config: Path
    logs: Path

    @property
    def replicas(self) -> int:
        return int(self.server.store.get("deployments", "chat")["spec"]["replicas"])

    async def stream(self, tokens: int) -> int:
        """A streamed chat; returns how many tokens came before its end. Fails for a stream without an end."""
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "say something long"}],
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": True,
        }
        events = 0
        async with self.session.post(f"{self.url}/v1/chat/completions", json=body) as response:
            assert response.status == 200, await response.text()
            async for line in response.content:
                if line.startswith(b"data: [DONE]"):
                    return events
                # The first event has the role and an empty text.
                events += b'"content":"' in line and b'"content":""' not in line
        raise AssertionError(f"a stream ended after {events} tokens without its end")

    async def ready(self, count: int) -> None:
        """Wait until the gateway has this many replicas to send to."""

        async def known() -> bool:
            async with self.session.get(f"{self.admin}/status") as response:
                pool = (await response.json())["pools"]["chat"]
            return sum(replica["state"] == "ready" for replica in pool["replicas"]) == count

        await until(known, limit_s=PATIENCE_S)


@asynccontextmanager
async def a_story(
    folder: Path,
    deployment: Mapping[str, Any],
    *,
    redis_url: str,
    redis_prefix: str,
    low: int,
    high: int,
    scaling: Mapping[str, Any],
    speed: float = 4.0,
    autoscalers: int = 1,
) -> AsyncIterator[Story]:
    """Everything as an operator starts it. Fails with the log of a process that ends before the story."""
    port, admin_port, pod_port = free_port(), free_port(), free_port()
    kubernetes = {"name": "chat", "port": pod_port, "min": low, "max": high}
    config = {
        "pools": {
            "chat": {
                "models": [MODEL],
                "architecture": "qwen2.5-0.5b",
                "gpu": "H100",
                "replicas": {"kubernetes": kubernetes},
                "limits": {"max_wait_s": 30},
            }
        },
        "autoscaler": {"polling_s": 0.25, "wake_s": 0.05, **scaling},
        "gateway": {"port": port, "admin_port": admin_port},
        "redis": {"url": redis_url, "prefix": redis_prefix},
    }
    pods = Pods(speed=speed, port=pod_port)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(FakeServer())
        server.store.put("deployments", dict(deployment))
        workload = await stack.enter_async_context(Workload(server.store, start=pods.start, stop=pods.stop))
        kubeconfig = server.write_kubeconfig(folder / "kubeconfig", token="t")
        environ = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        lease = {"duration_s": 3.0, "renew_deadline_s": 2.0, "retry_s": 0.3}
        for number in range(autoscalers):
            controller = {"port": free_port(), "identity": f"a{number}", "lease": lease}
            file = folder / f"autoscaler-{number}.json"
            file.write_text(json.dumps({**config, "controller": controller}))
            await _start(stack, "autoscaler", file, folder / f"autoscaler-{number}.log", environ)
        await _start(stack, "gateway", file, folder / "gateway.log", environ)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        story = Story(
            server=server,
            workload=workload,
            pods=pods,
            session=session,
            url=f"http://127.0.0.1:{port}",
            admin=f"http://127.0.0.1:{admin_port}",
            config=file,
            logs=folder,
        )
        await until(lambda: _answers(story), limit_s=PATIENCE_S)
        yield story


async def _start(stack: AsyncExitStack, name: str, file: Path, log: Path, environ: Mapping[str, str]) -> None:
    with log.open("wb") as output:
        process = await spawn(command_line(name, "--config", str(file)), env=environ, stdout=output, stderr=output)
    stack.push_async_callback(stop, process, grace_s=10.0)


async def _answers(story: Story) -> bool:
    try:
        async with story.session.get(f"{story.url}/livez") as live:
            listening = live.status == 200
        async with story.session.get(f"{story.admin}/status") as status:
            return listening and status.status == 200
    except aiohttp.ClientError:
        return False


async def several(story: Story, stop_event: asyncio.Event, *, tokens: int, streams: int) -> list[int]:
    """So many streams at once, one after the other each, until `stop_event`; returns the tokens of every stream."""

    async def one() -> list[int]:
        counts = []
        while not stop_event.is_set():
            counts.append(await story.stream(tokens))
        return counts

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(), name=f"user {number}") for number in range(streams)]
    return [count for task in tasks for count in task.result()]
