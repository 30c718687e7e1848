"""Responses on their way through: framing, headers, usage, and the same body for any chunking."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.relay import TAIL_BYTES, Relay
from gateway.usage import Usage
from tests.gateway.builders import cut
from tests.gateway.responses import DELTA, DONE, EVENTS, JSON, USAGE, unchunk


def relay(
    *headers: tuple[bytes, bytes], http10: bool = False, hide_usage: bool = True, close: bool = False, status: int = 200
) -> tuple[Relay, bytes]:
    made = Relay(http10=http10, hide_usage=hide_usage)
    return made, made.head(status, list(headers), b"x-ours: 1\r\n", phrase=b"OK", close=close)


def run(made: Relay, pieces: list[bytes], last: bytes = b"") -> bytes:
    return b"".join([made.body(piece) for piece in pieces]) + made.end(last)


@pytest.mark.parametrize(
    ("headers", "http10", "close", "head"),
    [
        pytest.param(
            [JSON, (b"Content-Length", b"2")],
            False,
            False,
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length: 2\r\nx-ours: 1\r\n\r\n",
            id="a length is kept",
        ),
        pytest.param(
            [JSON, (b"Transfer-Encoding", b"chunked")],
            False,
            False,
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ntransfer-encoding: chunked\r\nx-ours: 1\r\n\r\n",
            id="chunks are ours",
        ),
        pytest.param(
            [JSON],
            False,
            True,
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ntransfer-encoding: chunked\r\nconnection: close\r\n"
            b"x-ours: 1\r\n\r\n",
            id="the connection will close",
        ),
        pytest.param(
            [EVENTS, (b"content-length", b"999")],
            False,
            False,
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
            b"x-ours: 1\r\n\r\n",
            id="a stream's length would be wrong once usage is hidden",
        ),
        pytest.param(
            [EVENTS],
            True,
            False,
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n"
            b"x-ours: 1\r\n\r\n",
            id="HTTP/1.0 ends with the connection",
        ),
        pytest.param(
            [JSON, (b"Connection", b"keep-alive"), (b"Keep-Alive", b"5"), (b"X-Request-Id", b"theirs"), (b"TE", b"x")],
            False,
            False,
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ntransfer-encoding: chunked\r\nx-ours: 1\r\n\r\n",
            id="hop-by-hop headers and their request id stay",
        ),
        pytest.param(
            [(b"Server", b"uvicorn"), (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")],
            False,
            False,
            b"HTTP/1.1 200 OK\r\nServer: uvicorn\r\nSet-Cookie: a\r\nSet-Cookie: b\r\ntransfer-encoding: chunked\r\n"
            b"x-ours: 1\r\n\r\n",
            id="others pass in order",
        ),
    ],
)
def test_the_head(headers: list[tuple[bytes, bytes]], http10: bool, close: bool, head: bytes) -> None:
    made, written = relay(*headers, http10=http10, close=close)
    assert written == head
    assert made.started
    assert made.keeps_connection is not http10


def test_a_stream_hides_the_usage_that_the_client_did_not_ask_for() -> None:
    made, _ = relay(EVENTS)
    assert unchunk(run(made, [DELTA, DELTA + USAGE, DONE])) == DELTA + DELTA + DONE
    assert (made.streams, made.events, made.done_marker, made.usage) == (True, 2, True, Usage(5, 2, 0))


def test_a_read_that_completes_no_event_writes_nothing() -> None:
    made, _ = relay(EVENTS)
    assert made.body(DELTA[:9]) == b""
    assert not made.first_event
    assert made.body(DELTA[9:]) != b""
    assert made.first_event


def test_a_read_of_hidden_usage_alone_writes_no_empty_chunk() -> None:
    made, _ = relay(EVENTS)
    assert made.body(USAGE) == b""


def test_an_error_event_comes_after_what_was_cut_off() -> None:
    made, _ = relay(EVENTS)
    assert unchunk(run(made, [DELTA, b'data: {"cho'], last=b"data: error\n\n")) == (
        DELTA + b'data: {"cho' + b"data: error\n\n"
    )


def test_a_body_of_given_length_passes_unframed_and_its_usage_is_read() -> None:
    body = b'{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}'
    made, _ = relay(JSON, (b"content-length", b"%d" % len(body)))
    assert run(made, [body[:40], body[40:]]) == body
    assert (made.streams, made.events, made.done_marker, made.usage) == (False, 0, False, Usage(5, 2, 0))


def test_usage_is_found_at_the_end_of_a_long_body() -> None:
    text = json.dumps({"choices": [{"message": {"content": "x" * 50_000}}], "usage": {"prompt_tokens": 5}}).encode()
    made, _ = relay(JSON)
    assert unchunk(run(made, [text[:1000], text[1000:-7], text[-7:]])) == text
    assert made.usage == Usage(5, 0, 0)


@pytest.mark.parametrize("http10", [False, True], ids=["HTTP/1.1", "HTTP/1.0"])
def test_an_empty_body_ends_properly(http10: bool) -> None:
    made, _ = relay(JSON, http10=http10)
    assert run(made, []) == (b"" if http10 else b"0\r\n\r\n")


CUTS = st.lists(st.integers(0, 5000), max_size=12)


@given(st.binary(min_size=1, max_size=3 * TAIL_BYTES), CUTS, st.sampled_from(["length", "chunked", "http10"]))
def test_any_body_passes_byte_for_byte_in_any_chunking(body: bytes, cuts: list[int], framing: str) -> None:
    headers = [JSON, (b"content-length", b"%d" % len(body))] if framing == "length" else [JSON]
    made, _ = relay(*headers, http10=framing == "http10")
    out = run(made, [piece for piece in cut(body, cuts) if piece])
    assert (unchunk(out) if framing == "chunked" else out) == body


@given(
    st.lists(st.sampled_from([DELTA, USAGE, DONE, b": ping\n\n", DELTA.replace(b"\n", b"\r\n")])), CUTS, st.booleans()
)
def test_a_stream_is_the_same_for_any_chunking(events: list[bytes], cuts: list[int], http10: bool) -> None:
    data = b"".join(events)
    kept = b"".join(event for event in events if event != USAGE)
    for pieces in ([data], cut(data, cuts), [data[n : n + 1] for n in range(len(data))]):
        made, _ = relay(EVENTS, http10=http10)
        out = run(made, [piece for piece in pieces if piece])
        assert (out if http10 else unchunk(out)) == kept
        assert made.usage == (Usage(5, 2, 0) if USAGE in events else None)
        assert made.done_marker is (DONE in events)
        assert made.events == sum(event.startswith(b"data: {") for event in events if event != USAGE)


def test_a_comment_is_not_the_first_token() -> None:
    made, _ = relay(EVENTS)
    assert made.body(b": ping\n\n")
    assert not made.first_event
    made.body(DELTA)
    assert made.first_event


def test_headers_that_the_connection_header_names_and_ours_from_a_replica_are_dropped() -> None:
    made = Relay(http10=False, hide_usage=False)
    headers = [
        JSON,
        (b"Connection", b"keep-alive, X-Hop"),
        (b"x-hop", b"1"),
        (b"X-Weighbridge-Replica", b"forged"),
        (b"content-length", b"0"),
    ]
    head = made.head(200, headers, b"", phrase=b"OK", close=False)
    assert head == b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length: 0\r\n\r\n"
