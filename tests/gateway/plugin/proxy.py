"""What LiteLLM does with a call, as far as the plugin sees it: asks for a deployment, sends, retries, tells."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any

from backlog.connection import BacklogUnavailable
from backlog.records import ReplicaShare
from backlog.store import Backlog
from gateway.plugin.front import Front
from gateway.settings import GatewaySettings, TenantSettings
from tests.gateway.builders import POOL, pool_settings

LONG = "some words here " * 8000
"""Seconds of prefill on the GPU of `pool_settings`: whoever is sent this leaves no room until its first token."""
ANSWER = {"usage": {"prompt_tokens": 9, "completion_tokens": 4}}
LIMIT_S = 10.0
_numbers = count()


def deployment(port: int, model: str = "hosted_vllm/llama", group: str = "llama", **params: Any) -> dict[str, Any]:
    """An entry of `model_list` as the router holds it."""
    address = {} if port == 0 else {"api_base": f"http://127.0.0.1:{port}/v1"}
    return {
        "model_name": group,
        "litellm_params": {"model": model, **address, **params},
        "model_info": {"id": f"id-{port}"},
    }


def front(
    redis_url: str, prefix: str, *, replicas: int = 2, tenants: tuple[TenantSettings, ...] = (), **changes: Any
) -> Front:
    settings = GatewaySettings(
        redis_url=redis_url,
        redis_prefix=prefix,
        publish_s=0.01,
        pools=(pool_settings(replicas=replicas, **changes),),
        tenants=tenants,
    )
    shift = next(_numbers)
    # Two fronts of one process need different names, which are made of the time.
    return Front(settings, clock=time.perf_counter, wall_clock=lambda: time.time() + shift)


@dataclass
class Proxy:
    """One LiteLLM worker. `sent` is the order in which calls were sent, with the replica's name for LiteLLM."""

    front: Front
    offered: Sequence[dict[str, Any]] = field(default_factory=lambda: [deployment(9000), deployment(9001)])
    sent: list[tuple[str, str]] = field(default_factory=list)

    def call(self, name: str, text: str = "hi", **options: Any) -> "asyncio.Task[Any]":
        """A call in a task of its own, as LiteLLM's router makes it."""
        return asyncio.create_task(self._call(name, text, **options), name=name)

    async def _call(
        self,
        name: str,
        text: str,
        *,
        answers: Sequence[Any] = (ANSWER,),
        streams: bool = False,
        model: str = "llama",
        metadata: dict[str, Any] | None = None,
        tells: bool = True,
    ) -> Any:
        """An exception among `answers` is a failed attempt, an event is waited for. `tells`: by a hook."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 50}
        request = {"url": "http://proxy/v1/chat/completions", "body": body, "headers": {}}
        call = {
            "litellm_call_id": name, "stream": streams, "metadata": metadata or {}, "proxy_server_request": request,
        }  # fmt: skip
        error: BaseException | None = None
        for answer in answers:
            chosen = await self.front.place(model, self.offered, body["messages"], call)
            self.sent.append((name, chosen[0]["model_info"]["id"]))
            if isinstance(answer, asyncio.Event):
                await answer.wait()
                answer = ANSWER
            if isinstance(answer, Exception):
                error = answer
                if tells:
                    self.front.failed(name, answer)
                continue
            if tells:
                self.front.answered(name, answer)
            return answer
        assert error is not None
        raise error

    async def place(self, model: str, messages: Any, call: dict[str, Any]) -> list[dict[str, Any]]:
        """The deployments that LiteLLM may use."""
        return list(await self.front.place(model, self.offered, messages, call))

    async def read(self, name: str, stream: AsyncIterator[Any], *, most: int | None = None) -> list[Any]:
        """Read a stream to its end, or leave after `most` items."""
        items: list[Any] = []
        relayed = self.front.relay(name, stream)
        try:
            async for item in relayed:
                items.append(item)
                if most is not None and len(items) >= most:
                    break
        finally:
            await relayed.aclose()  # type: ignore[attr-defined]
        return items


class Stream:
    """A stream of chunks with usage at the end; it remembers that it was closed."""

    def __init__(self, chunks: int = 3, error: Exception | None = None) -> None:
        self.closed = False
        self._items = self._make(chunks, error)

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Any:
        return await anext(self._items)

    async def _make(self, chunks: int, error: Exception | None) -> AsyncIterator[Any]:
        for _ in range(chunks):
            yield SimpleNamespace(choices=[1], usage=None)
        if error is not None:
            raise error
        yield SimpleNamespace(choices=[], usage=ANSWER["usage"])

    async def aclose(self) -> None:
        self.closed = True


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.005)


async def running(backlog: Backlog) -> dict[str, ReplicaShare]:
    """What Redis says is in flight, by replica."""
    view = await backlog.view(POOL)
    return {name: share for seen in view.reports for name, share in seen.report.running.items() if share.in_flight}


async def settles(backlog: Backlog, in_flight: int) -> None:
    """Wait until Redis knows of so many requests in flight."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                if sum(share.in_flight for share in (await running(backlog)).values()) == in_flight:
                    return
            except BacklogUnavailable:
                pass
            await asyncio.sleep(0.01)
