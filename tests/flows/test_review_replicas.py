"""Replicas whose framing is odd, late or broken: the client gets one clean response, and the next is clean too."""

import asyncio

import pytest

from tests.flows.conftest import StartGateway, chat, post, until
from tests.flows.scripted import BODY, DONE, SSE_HEAD, Call, chunk, event, json_response, replica, stream

CHAT = "/v1/chat/completions"
OK = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'


async def test_a_second_response_that_nobody_asked_for_is_not_relayed(start_gateway: StartGateway) -> None:
    async def answer_twice(call: Call) -> None:
        call.send(json_response() + json_response(b'{"stolen":1}'))

    async with replica(answer_twice) as one, start_gateway([one.url]) as gateway:
        wire = await gateway.connect()
        for _ in range(3):
            wire.send(chat())
            assert (await wire.response()).body == BODY
        wire.close()
        assert await wire.closed()
        assert gateway.pool.replicas["r0"].idle == type(gateway.pool.replicas["r0"].idle)()


async def test_a_response_without_a_body_has_none_on_the_way_to_the_client(start_gateway: StartGateway) -> None:
    async def nothing(call: Call) -> None:
        call.send(b"HTTP/1.1 204 No Content\r\n\r\n" if len(one.calls) == 1 else json_response())

    async with replica(nothing) as one, start_gateway([one.url]) as gateway:
        wire = await gateway.connect()
        wire.send(chat())
        status, headers = await wire.head()
        assert (status, "transfer-encoding" in headers, "content-length" in headers) == (204, False, False)
        wire.send(chat())
        assert (await wire.response()).body == BODY


async def test_a_closed_connection_does_not_answer_for_the_response_before_it(start_gateway: StartGateway) -> None:
    async def nothing_then_close(call: Call) -> None:
        if len(one.calls) == 1:
            call.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif len(one.calls) == 2:
            call.writer.close()
        else:
            call.send(json_response())

    async with replica(nothing_then_close) as one, start_gateway([one.url]) as gateway:
        wire = await gateway.connect()
        wire.send(chat())
        assert (await wire.head())[0] == 204
        wire.send(chat())
        assert (await wire.response()).body == BODY


async def test_a_broken_chunk_in_the_read_that_brought_the_head_ends_a_whole_response(
    start_gateway: StartGateway,
) -> None:
    async def broken(call: Call) -> None:
        call.send(SSE_HEAD + chunk(event("a")) + b"zz\r\n")

    async with replica(broken) as one, start_gateway([one.url]) as gateway:
        wire = await gateway.connect()
        wire.send(chat(stream=True))
        response = await wire.response()
        assert response.status == 200
        assert response.body.startswith(event("a"))
        assert b"replica_broke" in response.body
        assert response.body.endswith(DONE)


async def test_an_error_event_is_not_glued_to_half_an_event(start_gateway: StartGateway) -> None:
    async def die(call: Call) -> None:
        call.send(SSE_HEAD + chunk(event("a")) + chunk(event("b")[:20]))
        await call.writer.drain()
        await asyncio.sleep(0.05)
        call.reset()

    async with replica(die) as one, start_gateway([one.url]) as gateway:
        body = (await gateway.chat(stream=True)).body
    events = body.split(b"\n\n")
    assert events[0] + b"\n\n" == event("a")
    assert events[1].startswith(b'data: {"error":')
    assert events[2:] == [b"data: [DONE]", b""]


async def test_a_stream_that_has_shown_done_is_whole_however_the_connection_ends(start_gateway: StartGateway) -> None:
    async def no_last_chunk(call: Call) -> None:
        call.send(SSE_HEAD + chunk(event("a") + DONE))
        await call.writer.drain()
        await asyncio.sleep(0.05)
        call.reset()

    async with replica(no_last_chunk) as one, start_gateway([one.url]) as gateway:
        assert (await gateway.chat(stream=True)).body == event("a") + DONE
        assert gateway.pool.stats.outcomes == {("m", "served"): 1}


async def test_a_replica_that_answers_before_it_has_read_the_request_gets_no_other_on_that_connection(
    start_gateway: StartGateway,
) -> None:
    served = 0

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(json_response(b"{}", "400 Bad Request"))
        # The rest of the request stays unread, and the connection stays open.
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await gone.wait()
        writer.transport.abort()

    gone = asyncio.Event()
    server = await asyncio.start_server(early, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        async with start_gateway([url]) as gateway:
            wire = await gateway.connect()
            for _ in range(2):
                wire.send(post(CHAT, OK[:-1] + b',"x":"' + b"y" * 20_000_000 + b'"}'))
                assert (await wire.response()).status == 400
        assert served == 2
    finally:
        gone.set()
        server.close()
        await server.wait_closed()


async def test_a_replica_that_speaks_http_1_0_is_relayed_to_its_end(start_gateway: StartGateway) -> None:
    async def old(call: Call) -> None:
        call.send(b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + event("a") + DONE)
        await call.writer.drain()
        call.writer.close()

    async with replica(old) as one, start_gateway([one.url]) as gateway:
        wire = await gateway.connect()
        for _ in range(2):
            wire.send(chat(stream=True))
            assert (await wire.response()).body == event("a") + DONE


async def test_interim_responses_are_not_the_response(start_gateway: StartGateway) -> None:
    async def early_hints(call: Call) -> None:
        call.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        await call.writer.drain()
        await stream(call)

    async with replica(early_hints) as one, start_gateway([one.url]) as gateway:
        for _ in range(2):
            response = await gateway.chat(stream=True)
            assert (response.status, response.body) == (200, event("a") + event("b") + DONE)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_a_stream_arrives_whole_in_any_chunking(start_gateway: StartGateway, size: int) -> None:
    whole = event("a") + event("\\u00e9") + DONE

    async def drip(call: Call) -> None:
        call.send(SSE_HEAD)
        for start in range(0, len(whole), size):
            for byte in chunk(whole[start : start + size]):
                call.send(bytes((byte,)))
                await asyncio.sleep(0)
        call.send(b"0\r\n\r\n")

    async with replica(drip) as one, start_gateway([one.url]) as gateway:
        assert (await gateway.chat(stream=True)).body == whole
        await until(lambda: gateway.pool.replicas["r0"].ledger.load.in_flight == 0)
