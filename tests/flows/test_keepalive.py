"""Streams that wait get comments: the status is given away, and what follows is events, whatever happens."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import openai
import pytest

from gateway.settings import Limits
from tests.flows.conftest import KEY, WAIT_S, Gateway, Response, StartGateway, Wire, chat, until
from tests.flows.scripted import (
    DONE,
    SSE_HEAD,
    USAGE_EVENT,
    Call,
    Script,
    answer,
    chunk,
    event,
    full,
    json_response,
    replica,
    reset,
    stream,
)

PING = b": ping\n\n"
LIMITS = Limits(keepalive_s=0.05, drain_s=0.2)
ASK = [{"role": "user", "content": "Say something."}]
OWN_ERROR = b'{\n  "error": {"message": "context too long", "type": "BadRequestError", "code": 400}\n}'


class Held:
    """A replica that is full until `script` is given to it: requests wait in the gateway meanwhile."""

    def __init__(self) -> None:
        self.script: Script = full

    async def serve(self, call: Call) -> None:
        await self.script(call)


async def pinged(wire: Wire, pings: int = 1) -> dict[str, str]:
    """The head's fields, once `pings` comments have come."""
    async with asyncio.timeout(WAIT_S):
        status, headers = await wire.head()
        assert status == 200
        for _ in range(pings):
            assert await wire.chunk() == PING
    return headers


async def rest(wire: Wire) -> bytes:
    """What comes until the end of the body, without comments."""
    body = b""
    async with asyncio.timeout(WAIT_S):
        while data := await wire.chunk():
            body += data
    return body.replace(PING, b"")


def error_of(body: bytes) -> dict[str, object]:
    first, done, nothing = body.split(b"\n\n")
    assert (done, nothing) == (b"data: [DONE]", b"")
    return msgspec.json.decode(first.removeprefix(b"data: "))["error"]


@asynccontextmanager
async def waiting(
    start_gateway: StartGateway, *, limits: Limits = LIMITS, wait_s: float = 30.0
) -> AsyncIterator[tuple[Gateway, Held, Wire]]:
    """A gateway whose replica is full, and a stream that waits in it."""
    held = Held()
    async with replica(held.serve) as one, start_gateway([one.url], limits=limits, max_wait_s=wait_s) as gateway:
        wire = await gateway.connect()
        wire.send(chat(stream=True))
        yield gateway, held, wire


async def test_a_stream_that_waits_gets_comments_and_then_its_events(start_gateway: StartGateway) -> None:
    async with waiting(start_gateway) as (gateway, held, wire):
        headers = await pinged(wire, 3)
        held.script = stream
        assert await rest(wire) == event("a") + event("b") + DONE
        assert headers.keys() - {"x-weighbridge-wait-estimate-ms"} == {
            "content-type", "cache-control", "transfer-encoding", "x-request-id", "x-weighbridge-gpu-seconds",
        }  # fmt: skip
        assert (headers["content-type"], headers["cache-control"]) == ("text/event-stream", "no-cache")
        assert gateway.pool.stats.outcomes == {("m", "served"): 1}
        # The connection serves the next request.
        wire.send(chat())
        assert (await wire.response()).status == 200


async def test_usage_that_was_asked_for_is_passed_on_after_comments(start_gateway: StartGateway) -> None:
    async with waiting(start_gateway) as (gateway, held, _):
        wire = await gateway.connect()
        wire.send(chat(stream=True, stream_options={"include_usage": True}))
        await pinged(wire)
        held.script = stream
        assert await rest(wire) == event("a") + event("b") + USAGE_EVENT + DONE


async def test_comments_go_on_through_the_prefill_and_end_at_the_first_event(start_gateway: StartGateway) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def slow(call: Call) -> None:
        call.send(SSE_HEAD)
        await began.wait()
        call.send(chunk(event("a")))
        await ended.wait()
        call.send(chunk(event("b") + DONE) + b"0\r\n\r\n")

    async with waiting(start_gateway) as (gateway, held, wire):
        await pinged(wire)
        held.script = slow
        await until(lambda: gateway.pool.replicas["r0"].ledger.load.in_flight == 1)
        for _ in range(3):
            assert await wire.chunk() == PING
        began.set()
        while (data := await wire.chunk()) == PING:
            pass
        assert data == event("a")
        # Comments would have come for as long as these do.
        held.script = full
        other = await gateway.connect()
        other.send(chat(stream=True))
        await pinged(other, 4)
        ended.set()
        assert await wire.chunk() == event("b") + DONE


async def test_the_first_token_is_the_replicas_not_a_comment(start_gateway: StartGateway) -> None:
    async with waiting(start_gateway) as (gateway, held, wire):
        await pinged(wire, 4)
        held.script = stream
        await rest(wire)
        await until(lambda: gateway.pool.stats.outcomes)
        assert sum(gateway.pool.stats.ttft_s.counts) == 1
        assert gateway.pool.stats.ttft_s.sum > 4 * LIMITS.keepalive_s
        assert gateway.pool.stats.output_tokens == 2


async def test_a_wait_that_expires_after_comments_is_an_event(start_gateway: StartGateway) -> None:
    async with start_gateway([], limits=LIMITS, max_wait_s=0.3) as gateway:
        response = await gateway.chat(stream=True)
        assert response.status == 200
        assert response.body.startswith(PING)
        assert error_of(response.body.replace(PING, b""))["code"] == "wait_expired"
        assert gateway.pool.stats.outcomes == {("m", "wait-expired"): 1}


async def test_a_shutdown_after_comments_is_an_event(start_gateway: StartGateway) -> None:
    async with start_gateway([], limits=LIMITS) as gateway:
        wire = await gateway.connect()
        wire.send(chat(stream=True))
        await pinged(wire)
        gateway.running.drain()
        assert error_of(await rest(wire))["code"] == "draining"
        assert await wire.closed()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (OWN_ERROR, "context too long"),
        (b"<html>", "the replica answered with status 400: <html>"),
    ],
)
async def test_a_refusal_by_the_replica_after_comments_is_an_event(
    start_gateway: StartGateway, body: bytes, message: str
) -> None:
    async def refuse(call: Call) -> None:
        call.send(json_response(body, "400 Bad Request"))

    async with waiting(start_gateway) as (gateway, held, wire):
        await pinged(wire)
        held.script = refuse
        assert error_of(await rest(wire))["message"] == message
        assert gateway.pool.stats.outcomes == {("m", "replica-refused"): 1}
        held.script = answer
        wire.send(chat())
        assert (await wire.response()).status == 200


async def test_an_answer_that_is_no_stream_after_comments_is_an_error(start_gateway: StartGateway) -> None:
    async with waiting(start_gateway) as (gateway, held, wire):
        await pinged(wire)
        held.script = answer
        assert error_of(await rest(wire))["code"] == "replica_broke"
        assert gateway.pool.stats.outcomes == {("m", "replica-broke"): 1}
        assert gateway.pool.replicas["r0"].ledger.load.in_flight == 0


async def test_a_stream_that_breaks_after_comments_ends_with_an_error_event(start_gateway: StartGateway) -> None:
    async def die(call: Call) -> None:
        call.send(SSE_HEAD + chunk(event("a") + b'data: {"cho'))
        await call.writer.drain()
        call.writer.close()

    async with waiting(start_gateway) as (_, held, wire):
        await pinged(wire)
        held.script = die
        body = await rest(wire)
        assert body.startswith(event("a"))
        assert error_of(body.removeprefix(event("a")))["code"] == "replica_broke"


async def test_a_replica_that_dies_after_comments_is_replaced_by_another(start_gateway: StartGateway) -> None:
    first, second = Held(), Held()
    async with (
        replica(first.serve) as one,
        replica(second.serve) as two,
        start_gateway([one.url, two.url], limits=LIMITS) as gateway,
    ):
        wire = await gateway.connect()
        wire.send(chat(stream=True))
        await pinged(wire)
        first.script = second.script = once_reset()
        assert await rest(wire) == event("a") + event("b") + DONE
        assert gateway.pool.stats.outcomes == {("m", "served"): 1}
        assert gateway.pool.stats.retries > 0


def once_reset() -> Script:
    """Whoever is asked first dies; the next one streams."""
    turn: list[Callable[[Call], Awaitable[None]]] = [reset]

    async def by_turn(call: Call) -> None:
        await (turn.pop() if turn else stream)(call)

    return by_turn


async def test_failed_attempts_after_comments_are_one_error_event(start_gateway: StartGateway) -> None:
    async with waiting(start_gateway, limits=Limits(keepalive_s=0.05, attempts=1, drain_s=0.2)) as (_, held, wire):
        await pinged(wire)
        held.script = reset
        assert error_of(await rest(wire))["code"] == "replica_failed"


async def test_a_replica_that_never_answers_after_comments_is_given_up(start_gateway: StartGateway) -> None:
    async def hang(call: Call) -> None:
        await call.closed()

    limits = Limits(keepalive_s=0.05, first_byte_s=0.2, drain_s=0.2)
    async with waiting(start_gateway, limits=limits) as (_, held, wire):
        await pinged(wire)
        held.script = hang
        assert error_of(await rest(wire))["code"] == "replica_timeout"


async def test_a_stream_whose_replica_stalls_is_not_kept_alive_by_comments(start_gateway: StartGateway) -> None:
    async def stall(call: Call) -> None:
        call.send(SSE_HEAD)
        await call.closed()

    limits = Limits(keepalive_s=0.05, stalled_s=0.2, drain_s=0.2)
    async with waiting(start_gateway, limits=limits) as (_, held, wire):
        await pinged(wire)
        held.script = stall
        assert error_of(await rest(wire))["code"] == "replica_broke"


async def test_a_response_that_takes_longer_than_a_stall_to_begin_is_not_a_stall(start_gateway: StartGateway) -> None:
    async def late(call: Call) -> None:
        await until(lambda: gateway.pool.replicas["r0"].ledger.load.in_flight == 1)
        seen = len(comments)
        await until(lambda: len(comments) >= seen + 6)
        call.send(SSE_HEAD)
        await until(lambda: len(comments) >= seen + 8)
        call.send(chunk(event("a") + DONE) + b"0\r\n\r\n")

    comments: list[bytes] = []
    limits = Limits(keepalive_s=0.05, stalled_s=0.25, drain_s=0.2)
    async with waiting(start_gateway, limits=limits) as (gateway, held, wire):
        await pinged(wire)
        held.script = late
        async with asyncio.timeout(WAIT_S):
            while (data := await wire.chunk()) == PING:
                comments.append(data)
        assert data == event("a") + DONE


async def test_what_does_not_stream_waits_in_silence(start_gateway: StartGateway) -> None:
    async with waiting(start_gateway) as (gateway, held, wire):
        silent = await gateway.connect()
        silent.send(chat())
        await pinged(wire, 4)
        held.script = answer
        response = await silent.response()
        assert (response.status, response.headers["x-weighbridge-outcome"]) == (200, "served")


async def test_a_stream_that_is_sent_at_once_gets_no_comment_while_its_replica_is_silent(
    start_gateway: StartGateway,
) -> None:
    opened = asyncio.Event()

    async def refuse(call: Call) -> None:
        await opened.wait()
        call.send(json_response(OWN_ERROR, "400 Bad Request"))

    async with replica(refuse) as one, start_gateway([one.url], limits=LIMITS, dispatch_prefill_s=1e-9) as gateway:
        sent = asyncio.create_task(gateway.chat(stream=True))
        await until(lambda: one.calls)
        waits = await gateway.connect()
        waits.send(chat(stream=True))
        await pinged(waits, 4)
        opened.set()
        response = await sent
        assert (response.status, response.body) == (400, OWN_ERROR)


async def test_zero_turns_comments_off(start_gateway: StartGateway) -> None:
    async with start_gateway([], limits=Limits(keepalive_s=0.0, drain_s=0.2), max_wait_s=0.8) as gateway:
        response = await gateway.chat(stream=True)
    assert (response.status, response.error["code"]) == (503, "wait_expired")


async def http10(gateway: Gateway, held: Held, script: Script) -> Response:
    wire = await gateway.connect()
    wire.send(chat(stream=True).replace(b"HTTP/1.1", b"HTTP/1.0"))
    status, headers = await wire.head()
    body = await wire.reader.readexactly(len(PING))
    held.script = script
    async with asyncio.timeout(WAIT_S):
        return Response(status, headers, body + await wire.reader.read())


async def test_an_http_1_0_client_gets_comments_and_a_close(start_gateway: StartGateway) -> None:
    async with waiting(start_gateway) as (gateway, held, _):
        response = await http10(gateway, held, stream)
    assert (response.status, response.headers["connection"]) == (200, "close")
    assert "transfer-encoding" not in response.headers
    assert response.body.startswith(PING)
    assert response.body.replace(PING, b"") == event("a") + event("b") + DONE


async def test_a_client_that_leaves_while_it_waits_frees_its_place(start_gateway: StartGateway) -> None:
    async with start_gateway([], limits=LIMITS) as gateway:
        wire = await gateway.connect()
        wire.send(chat(stream=True))
        await pinged(wire, 2)
        wire.writer.transport.abort()
        await until(lambda: gateway.pool.stats.outcomes == {("m", "client-gone"): 1})
        assert gateway.pool.room.count == 0


async def test_a_client_that_does_not_read_gets_no_comment_and_stops_its_replica(start_gateway: StartGateway) -> None:
    async with waiting(start_gateway) as (gateway, held, wire):
        await pinged(wire)
        connection = next(iter(gateway.running.context.connections))
        # As the transport does when the client's buffer is above high water.
        connection.pause_writing()
        other = await gateway.connect()
        other.send(chat(stream=True))
        await pinged(other)
        # What was on its way is here by now.
        while data := await nothing_more(wire):
            assert data == PING
        for _ in range(4):
            assert await other.chunk() == PING
        assert await nothing_more(wire) is None
        held.script = stream
        await until(lambda: gateway.pool.replicas["r0"].ledger.load.in_flight == 1)
        await rest(other)
        assert await nothing_more(wire) is None
        connection.resume_writing()
        assert await rest(wire) == event("a") + event("b") + DONE


async def nothing_more(wire: Wire) -> bytes | None:
    """A chunk that has come already, or `None`."""
    try:
        async with asyncio.timeout(0.0):
            return await wire.chunk()
    except TimeoutError:
        return None


@asynccontextmanager
async def sdk_of(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


async def test_the_openai_sdk_reads_over_comments(start_gateway: StartGateway) -> None:
    async with waiting(start_gateway) as (gateway, held, wire), sdk_of(gateway) as sdk:
        events = await sdk.chat.completions.create(model="m", messages=ASK, stream=True)
        await pinged(wire, 4)
        held.script = stream
        assert [part.choices[0].delta.content async for part in events] == ["a", "b"]


async def test_the_openai_sdk_raises_an_error_that_comes_after_comments(start_gateway: StartGateway) -> None:
    async def refuse(call: Call) -> None:
        call.send(json_response(OWN_ERROR, "400 Bad Request"))

    async with waiting(start_gateway) as (gateway, held, _), sdk_of(gateway) as sdk:
        events = await sdk.chat.completions.create(model="m", messages=ASK, stream=True)
        held.script = refuse
        with pytest.raises(openai.APIError, match="context too long"):
            async for _ in events:
                pass


async def test_the_openai_sdk_raises_a_wait_that_expires(start_gateway: StartGateway) -> None:
    async with start_gateway([], limits=LIMITS, max_wait_s=0.3) as gateway, sdk_of(gateway) as sdk:
        events = await sdk.chat.completions.create(model="m", messages=ASK, stream=True)
        with pytest.raises(openai.APIError, match="the estimated wait is"):
            async for _ in events:
                pass
