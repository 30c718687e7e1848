"""Model servers on real sockets with steps of a millisecond, and clients for them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from simulator.request import EngineSettings
from simulator.server import Serving, serve
from simulator.settings import SimulatorSettings

WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class QuickSteps:
    """Steps of one length, whatever they compute."""

    step_s: float = 0.001

    def time_s(
        self, *, prefill_tokens: int, prefill_pairs: float, decode_sequences: int, decode_kv_tokens: int
    ) -> float:
        return self.step_s


def settings(
    *,
    step_s: float = 0.001,
    kv_tokens: int = 160_000,
    max_sequences: int = 256,
    max_waiting: int = 1024,
    start_delay_s: float = 0.0,
    api_key: str | None = None,
) -> SimulatorSettings:
    return SimulatorSettings(
        port=0,
        model="tiny",
        steps=QuickSteps(step_s),
        engine=EngineSettings(
            kv_tokens=kv_tokens, max_context_tokens=kv_tokens, max_sequences=max_sequences, max_waiting=max_waiting
        ),
        start_delay_s=start_delay_s,
        api_key=api_key,
    )


@dataclass(frozen=True, slots=True)
class Client:
    http: aiohttp.ClientSession
    serving: Serving

    def post(self, path: str, body: Any, **kwargs: Any) -> Any:
        return self.http.post(self.serving.url + path, json=body, **kwargs)

    def get(self, path: str, **kwargs: Any) -> Any:
        return self.http.get(self.serving.url + path, **kwargs)

    async def answer(self, path: str, body: Any, **kwargs: Any) -> tuple[int, Any]:
        async with self.post(path, body, **kwargs) as response:
            return response.status, await response.json()

    async def events(self, path: str, body: Any) -> list[Any]:
        """The payloads of a whole stream, parsed, `[DONE]` as text."""
        async with self.post(path, {**body, "stream": True}) as response:
            assert response.status == 200
            assert response.content_type == "text/event-stream"
            text = await response.text()
        assert text.endswith("\n\n")
        payloads = [event.removeprefix("data: ") for event in text.removesuffix("\n\n").split("\n\n")]
        return [payload if payload == "[DONE]" else json.loads(payload) for payload in payloads]


@contextlib.asynccontextmanager
async def running(of: SimulatorSettings | None = None) -> AsyncIterator[Client]:
    async with serve(of or settings()) as serving, aiohttp.ClientSession() as http:
        yield Client(http, serving)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, for a bounded time."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.002)


def chat(content: Any = "how much does it weigh", **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": content}], **more}
