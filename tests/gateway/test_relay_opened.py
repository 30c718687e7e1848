"""A stream that is opened before a replica has answered: one head, comments, then events or a body that is held."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.relay import MAX_HELD_BYTES, PING, Relay
from gateway.usage import Usage
from tests.gateway.builders import cut
from tests.gateway.responses import DELTA, DONE, EVENTS, JSON, USAGE, unchunk


def opened(*, http10: bool = False, close: bool = False) -> tuple[Relay, bytes]:
    made = Relay(http10=http10, hide_usage=True)
    return made, made.open(b"x-ours: 1\r\n", close=close)


def answered(made: Relay, *headers: tuple[bytes, bytes], status: int = 200) -> bytes:
    return made.head(status, list(headers), b"x-ours: 2\r\n", phrase=b"OK", close=True)


@pytest.mark.parametrize(
    ("http10", "close", "framing"),
    [
        pytest.param(False, False, b"transfer-encoding: chunked\r\n", id="chunks"),
        pytest.param(False, True, b"transfer-encoding: chunked\r\nconnection: close\r\n", id="the last response"),
        pytest.param(True, True, b"connection: close\r\n", id="HTTP/1.0 ends with the connection"),
    ],
)
def test_the_head_promises_a_stream_of_events(http10: bool, close: bool, framing: bytes) -> None:
    made, head = opened(http10=http10, close=close)
    assert head == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n%bx-ours: 1\r\n\r\n"
        % framing
    )
    assert made.ping() == (PING if http10 else b"8\r\n: ping\n\n\r\n")
    assert made.keeps_connection is not http10


def test_opening_is_not_the_start_of_a_replicas_response() -> None:
    made, _ = opened()
    made.ping()
    assert (made.opened, made.started, made.first_event, made.uneventful) == (True, False, False, True)
    answered(made, EVENTS)
    assert (made.started, made.first_event, made.uneventful) == (True, False, True)


def test_comments_end_where_the_replicas_bytes_begin() -> None:
    made, _ = opened()
    answered(made, EVENTS)
    made.body(DELTA[:9])
    assert made.uneventful
    made.body(DELTA[9:])
    assert (made.uneventful, made.first_event) == (False, True)


def test_the_events_follow_the_comments_and_usage_stays_hidden() -> None:
    made, _ = opened()
    body = made.ping() + made.ping()
    assert answered(made, EVENTS, (b"content-length", b"999")) == b""
    body += made.body(DELTA + USAGE) + made.body(DONE) + made.end()
    assert unchunk(body) == PING + PING + DELTA + DONE
    assert (made.events, made.usage, made.done_marker, made.held) == (1, Usage(5, 2, 0), True, None)


@pytest.mark.parametrize(
    ("status", "headers"), [(400, [JSON]), (400, [EVENTS]), (200, [JSON]), (204, [EVENTS]), (200, [])]
)
def test_what_is_no_stream_of_events_is_held_back(status: int, headers: list[tuple[bytes, bytes]]) -> None:
    made, _ = opened()
    assert answered(made, *headers, status=status) == b""
    assert (made.body(b'{"error"'), made.body(b":1}")) == (b"", b"")
    assert made.held == b'{"error":1}'
    assert (made.streams, made.first_event, made.events, made.usage) == (False, False, 0, None)
    assert unchunk(made.end(b"data: x\n\n")) == b"data: x\n\n"


def test_what_is_held_is_bounded() -> None:
    made, _ = opened()
    answered(made, JSON, status=400)
    for _ in range(5):
        assert made.body(b"x" * MAX_HELD_BYTES) == b""
    assert made.held is not None
    assert MAX_HELD_BYTES <= len(made.held) <= 2 * MAX_HELD_BYTES


def test_an_error_can_end_it_at_any_time() -> None:
    made, _ = opened()
    assert unchunk(made.ping() + made.cut(b"data: error\n\n")) == PING + b"data: error\n\n"


@given(
    st.lists(st.sampled_from([DELTA, USAGE, DONE, b": theirs\n\n", DELTA.replace(b"\n", b"\r\n")])),
    st.lists(st.integers(0, 5000), max_size=12),
    st.integers(0, 3),
    st.booleans(),
)
def test_a_comment_is_never_inside_an_event(events: list[bytes], cuts: list[int], pings: int, http10: bool) -> None:
    """However the replica's bytes are cut: comments while they are allowed, then exactly the events."""
    made, _ = opened(http10=http10)
    out = made.ping() * pings
    answered(made, EVENTS)
    written = pings
    for piece in cut(b"".join(events), cuts):
        if piece:
            out += made.body(piece)
        if made.uneventful:
            out += made.ping()
            written += 1
    out += made.end()
    kept = b"".join(event for event in events if event != USAGE)
    assert (out if http10 else unchunk(out)) == PING * written + kept
