"""A model server that remembers every request, answers OpenAI's endpoints as a test says, and can die.

A request is known by the `#name` in its prompt. Times are of the running loop's clock.
"""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.litellm import answers


@dataclass(eq=False)
class Served:
    """One request as the replica saw it."""

    name: str
    path: str
    body: dict[str, Any]
    arrived_at_s: float
    ended_at_s: float | None = None
    """When its answer was whole, or its connection was cut."""
    cut: bool = False
    """Its connection was closed before its answer was whole."""
    refused: bool = False
    """It found no slot, or was told to fail."""

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))


@dataclass(eq=False)
class Replica:
    """One server on a port of its own. Change its fields at any time."""

    name: str
    port: int
    slots: int | None = None
    """Requests that run at once; one more is answered 429. `None`: any number."""
    fail: Callable[[Served], int | None] = lambda _: None
    """The status to fail a request with, if any."""
    served: list[Served] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    def __post_init__(self) -> None:
        self.begin, self.go_on = asyncio.Event(), asyncio.Event()
        """Answers begin, and streams go on after their first token, while these are set."""
        self.begin.set()
        self.go_on.set()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def names(self) -> list[str]:
        """Of the requests it worked on, in the order of their arrival."""
        return [one.name for one in self.served if not one.refused]

    def find(self, name: str) -> Served | None:
        """The last request of that name."""
        return next((one for one in reversed(self.served) if one.name == name), None)

    async def start(self) -> None:
        app = web.Application()
        for path in answers.PATHS:
            app.router.add_post(path, self._serve)
        app.router.add_get("/health", self._healthy)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True).start()
        self._runner = runner

    async def kill(self) -> None:
        """As `kill -9` does: connections are reset, new ones refused."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        for site in list(runner.sites):
            await site.stop()
        assert runner.server is not None
        for connection in runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await runner.cleanup()

    async def _healthy(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        name = re.search(r"#([\w-]+)", json.dumps(body))
        served = Served(name.group(1) if name else "", request.path, body, _now_s())
        self.served.append(served)
        status = self.fail(served)
        if status is None and self.slots is not None and self.running >= self.slots:
            status = 429
        if status is not None:
            served.refused, served.ended_at_s = True, _now_s()
            error = {"message": f"told to fail with {status}", "type": "server_error", "code": status}
            return web.json_response({"error": error}, status=status)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.begin.wait()
            if served.stream:
                return await self._stream(request, served)
            return web.json_response(answers.whole(served.path, served.body, self._answer_id(served)))
        except (asyncio.CancelledError, ConnectionError):
            served.cut = True
            raise
        finally:
            self.running -= 1
            served.ended_at_s = _now_s()

    async def _stream(self, request: web.Request, served: Served) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for index, event in enumerate(answers.events(served.path, served.body, self._answer_id(served))):
            if index:
                await self.go_on.wait()
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    def _answer_id(self, served: Served) -> str:
        return f"{self.name}-{served.name}"


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@asynccontextmanager
async def running(ports: Sequence[int], **fields: Any) -> AsyncIterator[list[Replica]]:
    """Replicas `r0`, `r1`, … on those ports while the context is open."""
    replicas = [Replica(f"r{index}", port, **fields) for index, port in enumerate(ports)]
    async with AsyncExitStack() as stack:
        for replica in replicas:
            await replica.start()
            stack.push_async_callback(replica.kill)
        yield replicas


def order(replicas: Sequence[Replica]) -> list[str]:
    """Names of the requests that replicas worked on, by their arrival at any of them."""
    served = [one for replica in replicas for one in replica.served if not one.refused]
    return [one.name for one in sorted(served, key=lambda one: one.arrived_at_s)]


def _now_s() -> float:
    return asyncio.get_running_loop().time()
