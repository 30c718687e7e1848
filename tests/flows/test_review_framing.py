"""Clients at the edges of HTTP: each request gets one answer, and what is not a request costs nothing."""

import asyncio

import pytest

from gateway.settings import Limits
from tests.flows.conftest import KEY, StartGateway, post
from tests.flows.scripted import BODY, answer, replica

CHAT = "/v1/chat/completions"
OK = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'


def raw(headers: str, body: bytes = b"", line: str = f"POST {CHAT} HTTP/1.1") -> bytes:
    return f"{line}\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n{headers}\r\n".encode() + body


@pytest.mark.parametrize("line", ["HEAD /nothing HTTP/1.1", f"HEAD {CHAT} HTTP/1.1", "HEAD /v1/models HTTP/1.1"])
async def test_the_answer_to_head_has_no_body(start_gateway: StartGateway, line: str) -> None:
    async with start_gateway([]) as gateway:
        wire = await gateway.connect()
        wire.send(raw("", line=line))
        await wire.head()
        wire.send(raw("", line="GET /health/liveliness HTTP/1.1"))
        response = await wire.response()
    assert (response.status, response.body) == (200, b'{"status":"alive"}')


async def test_trailers_are_not_headers(start_gateway: StartGateway) -> None:
    trailers = b"x-evil: 1\r\nexpect: 100-continue\r\nx-request-id: other\r\n"
    async with replica(answer) as one, start_gateway([one.url]) as gateway:
        wire = await gateway.connect()
        body = b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(OK), OK, trailers)
        wire.send(raw("x-request-id: mine\r\ntransfer-encoding: chunked\r\n", body))
        response = await wire.response()
    assert (response.status, response.headers["x-request-id"]) == (200, "mine")
    assert b"x-evil" not in one.calls[0].head


@pytest.mark.parametrize(
    "endless",
    [
        pytest.param(raw("x: ")[:-2], id="header value"),
        pytest.param(raw("transfer-encoding: chunked\r\n", b"0\r\nx: "), id="trailer"),
        pytest.param(b"POST /", id="target"),
    ],
)
async def test_a_header_without_end_is_refused_while_it_is_sent(start_gateway: StartGateway, endless: bytes) -> None:
    async with start_gateway([], limits=Limits(max_header_bytes=8192, drain_s=0.2)) as gateway:
        wire = await gateway.connect()
        wire.send(endless)
        sent = 0

        async def pour() -> None:
            nonlocal sent
            while sent < 8_000_000:
                wire.send(b"a" * 16_384)
                sent += 16_384
                await wire.writer.drain()
                await asyncio.sleep(0)

        pouring = asyncio.create_task(pour())
        try:
            response = await wire.response()
        finally:
            pouring.cancel()
            await asyncio.gather(pouring, return_exceptions=True)
    assert (response.status, response.error["code"]) == (431, "headers_too_large")
    assert sent < 4_000_000


async def test_an_http_1_0_client_that_asks_to_keep_the_connection_sees_it_close(start_gateway: StartGateway) -> None:
    async with replica(answer) as one, start_gateway([one.url]) as gateway:
        wire = await gateway.connect()
        wire.send(post(CHAT, OK, headers="connection: keep-alive\r\n").replace(b"HTTP/1.1", b"HTTP/1.0"))
        response = await wire.response()
        assert (response.body, response.headers["connection"]) == (BODY, "close")
        assert await wire.closed()


async def test_a_connect_request_is_answered_once(start_gateway: StartGateway) -> None:
    async with start_gateway([]) as gateway:
        wire = await gateway.connect()
        wire.send(raw("", line="CONNECT a:1 HTTP/1.1"))
        async with asyncio.timeout(5.0):
            assert (await wire.reader.read()).count(b"HTTP/1.1 ") == 1


async def test_a_field_name_that_is_not_utf8_is_a_bad_request(start_gateway: StartGateway) -> None:
    async with start_gateway([]) as gateway:
        wire = await gateway.connect()
        wire.send(post(CHAT, OK[:-1] + b',"stream":true,"\xff":1}'))
        response = await wire.response()
        assert (response.status, response.error["code"]) == (400, "bad_request")
