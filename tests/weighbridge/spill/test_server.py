"""The spill process's HTTP face, spoken to as an ASGI server does, over hosted models that do as they are told."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from weighbridge.spill.arguments import Call
from weighbridge.spill.sdk import Hosted, ProviderFailed
from weighbridge.spill.server import BrokeOff, SpillApp

HOSTED = Hosted(model="azure/small", params={"api_key": "secret"})
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


@dataclass
class Told:
    """Answers, events and a failure as told; remembers what it was asked and whether it was cancelled."""

    events: list[dict[str, Any]] = field(default_factory=list)
    failure: ProviderFailed | None = None
    listed: tuple[float, float] | None = (0.5, 1.5)
    holds: bool = False
    asked: list[tuple[Hosted, Call, Mapping[str, Any]]] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: bool = False

    def price(self, hosted: Hosted) -> tuple[float, float] | None:
        return self.listed

    async def complete(self, hosted: Hosted, call: Call, arguments: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append((hosted, call, arguments))
        await self._hold()
        if self.failure is not None:
            raise self.failure
        return {"id": "x"}

    async def stream(self, hosted: Hosted, call: Call, arguments: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        self.asked.append((hosted, call, arguments))
        for event in self.events:
            yield event
        await self._hold()
        if self.failure is not None:
            raise self.failure

    async def _hold(self) -> None:
        self.started.set()
        if self.holds:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise


@dataclass
class Wire:
    """One request of an ASGI server: its body in pieces, then silence until it disconnects."""

    path: str
    body: list[bytes]
    method: str = "POST"
    sent: list[dict[str, Any]] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self) -> dict[str, Any]:
        if self.body:
            return {"type": "http.request", "body": self.body.pop(0), "more_body": bool(self.body)}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    async def run(self, told: Told) -> None:
        scope = {"type": "http", "path": self.path, "method": self.method}
        await SpillApp(told, {"chat": HOSTED})(scope, self.receive, self.send)

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None

    @property
    def text(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def whole(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is False


def chat(body: dict[str, Any] | None = None, **fields: Any) -> Wire:
    encoded = msgspec.json.encode((CHAT if body is None else body) | fields)
    return Wire("/pools/chat/v1/chat/completions", [encoded[:5], encoded[5:]])


async def test_an_answer_is_asked_of_the_pools_model_and_passed_on() -> None:
    told, wire = Told(), chat(temperature=0.0)
    await wire.run(told)
    assert (wire.status, wire.text, wire.whole) == (200, b'{"id":"x"}', True)
    assert told.asked == [(HOSTED, Call.CHAT, {"messages": CHAT["messages"], "temperature": 0.0})]


async def test_a_stream_is_events_and_an_end() -> None:
    told, wire = Told(events=[{"n": 1}, {"n": 2}]), chat(stream=True)
    await wire.run(told)
    assert wire.sent[0]["headers"] == [(b"content-type", b"text/event-stream")]
    assert wire.text == b'data: {"n":1}\n\ndata: {"n":2}\n\ndata: [DONE]\n\n'
    assert wire.whole


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(("of_the_request", "status"), [(True, 422), (False, 502)])
async def test_a_failure_before_the_first_event_says_whose_fault_it_is(
    streams: bool, of_the_request: bool, status: int
) -> None:
    wire = chat(stream=streams)
    await wire.run(Told(failure=ProviderFailed("BadRequestError (400)", of_the_request=of_the_request)))
    assert (wire.status, wire.whole) == (status, True)
    assert msgspec.json.decode(wire.text)["error"]["message"] == "BadRequestError (400)"


async def test_a_stream_of_nothing_is_a_failure() -> None:
    wire = chat(stream=True)
    await wire.run(Told())
    assert wire.status == 502


async def test_a_stream_that_breaks_off_has_no_end() -> None:
    wire = chat(stream=True)
    with pytest.raises(BrokeOff):
        await wire.run(Told(events=[{"n": 1}], failure=ProviderFailed("Timeout (408)", of_the_request=False)))
    assert wire.text == b'data: {"n":1}\n\n'
    assert not wire.whole


async def test_a_request_that_is_not_portable_asks_nobody() -> None:
    told, wire = Told(), chat(top_k=3)
    await wire.run(told)
    assert (wire.status, told.asked) == (422, [])


@pytest.mark.parametrize("streams", [False, True])
async def test_a_caller_that_leaves_ends_the_call_to_the_provider(streams: bool) -> None:
    told, wire = Told(events=[{"n": 1}], holds=True), chat(stream=streams)
    running = asyncio.create_task(wire.run(told))
    await told.started.wait()
    wire.gone.set()
    async with asyncio.timeout(5.0):
        await running
    assert told.cancelled
    assert not wire.whole


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        pytest.param((0.5, 1.5), {"input_per_mtok": 0.5, "output_per_mtok": 1.5}, id="known"),
        pytest.param(None, {"input_per_mtok": None, "output_per_mtok": None}, id="unknown"),
    ],
)
async def test_the_price_of_a_pools_model_is_said(
    listed: tuple[float, float] | None, said: dict[str, float | None]
) -> None:
    wire = Wire("/pools/chat/price", [b""], method="GET")
    await wire.run(Told(listed=listed))
    assert (wire.status, msgspec.json.decode(wire.text)) == (200, said)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/pools/other/v1/chat/completions"),
        ("POST", "/pools/chat/v1/embeddings"),
        ("GET", "/"),
        ("POST", "/pools/chat/price"),
    ],
)
async def test_what_is_not_there_is_404(method: str, path: str) -> None:
    wire = Wire(path, [b"{}"], method=method)
    await wire.run(Told())
    assert wire.status == 404
