"""The ASGI application of the spill process: one hosted model per pool, and what it costs.

A status of 400 and above says that nothing of the answer has been sent: 422 that this request cannot be answered here,
502 that the provider failed. A stream that fails later ends without its end, as a model server's does that dies.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any, Protocol

import msgspec
import structlog

from weighbridge.spill.arguments import Call, NotPortable, arguments
from weighbridge.spill.sdk import Hosted, ProviderFailed

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

JSON = (b"content-type", b"application/json")
EVENTS = (b"content-type", b"text/event-stream")
_log = structlog.get_logger()


class Models(Protocol):
    """Who calls hosted models: `sdk.Sdk`."""

    def price(self, hosted: Hosted) -> tuple[float, float] | None: ...
    async def complete(self, hosted: Hosted, call: Call, arguments: Mapping[str, Any]) -> dict[str, Any]: ...
    def stream(self, hosted: Hosted, call: Call, arguments: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]: ...


class BrokeOff(Exception):
    """The provider failed after the first event: the connection is closed without the end of the body."""


class SpillApp:
    """`/pools/NAME/v1/chat/completions`, `/pools/NAME/v1/completions` and `/pools/NAME/price`."""

    def __init__(self, models: Models, hosted: Mapping[str, Hosted]) -> None:
        self._models = models
        self._hosted = hosted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        pool, _, rest = str(scope["path"]).removeprefix("/pools/").partition("/")
        hosted = self._hosted.get(pool)
        path = f"/{rest}"
        if hosted is not None and path == "/price" and scope["method"] == "GET":
            await _respond(send, 200, self._price(hosted))
        elif hosted is not None and path in tuple(Call) and scope["method"] == "POST":
            await self._while_connected(self._answer(pool, hosted, Call(path), await _body(receive), send), receive)
        else:
            await _respond(send, 404, _error("no such pool or path here"))

    def _price(self, hosted: Hosted) -> dict[str, float | None]:
        price = self._models.price(hosted)
        per_input, per_output = (None, None) if price is None else price
        return {"input_per_mtok": per_input, "output_per_mtok": per_output}

    async def _while_connected(self, answer: Any, receive: Receive) -> None:
        """Run `answer`; a caller that leaves ends it, and with it the call to the provider."""
        answering = asyncio.create_task(answer, name="answer")
        leaving = asyncio.create_task(_left(receive), name="caller leaves")
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not answering.done():
                answering.cancel()
        with suppress(asyncio.CancelledError):
            await answering

    async def _answer(self, pool: str, hosted: Hosted, call: Call, body: bytes, send: Send) -> None:
        try:
            given = arguments(call, body)
            if given.get("stream") is True:
                await self._stream(pool, hosted, call, given, send)
            else:
                await _respond(send, 200, await self._models.complete(hosted, call, given))
        except NotPortable as error:
            await _respond(send, 422, _error(str(error)))
        except ProviderFailed as error:
            _log.warning("hosted model failed", pool=pool, model=hosted.model, cause=error.cause)
            await _respond(send, 422 if error.of_the_request else 502, _error(error.cause))

    async def _stream(self, pool: str, hosted: Hosted, call: Call, given: Mapping[str, Any], send: Send) -> None:
        """Nothing is sent before the first event is there: until then the request may go elsewhere."""
        async with aclosing(self._models.stream(hosted, call, given)) as events:
            first = await anext(events, None)
            if first is None:
                raise ProviderFailed("no event", of_the_request=False)
            await send({"type": "http.response.start", "status": 200, "headers": [EVENTS]})
            await _send_event(send, first)
            try:
                async for event in events:
                    await _send_event(send, event)
            except ProviderFailed as error:
                _log.warning("hosted model broke off", pool=pool, model=hosted.model, cause=error.cause)
                raise BrokeOff from error
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})


async def _body(receive: Receive) -> bytes:
    """The request's body, which is bounded by the gateway."""
    parts = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False) and message["type"] == "http.request"
    return b"".join(parts)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_event(send: Send, event: dict[str, Any]) -> None:
    data = b"data: " + msgspec.json.encode(event) + b"\n\n"
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _respond(send: Send, status: int, answer: dict[str, Any]) -> None:
    body = msgspec.json.encode(answer)
    headers = [JSON, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "spill_error", "param": None, "code": None}}
