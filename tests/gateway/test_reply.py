"""What a client is written: when a comment is due, and an error as a response, an event or a cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outcome import Outcome, Refusal
from gateway.relay import MAX_HELD_BYTES, PING, Relay
from gateway.reply import MAX_QUOTED, Reply, refused_event
from tests.gateway.responses import DELTA, EVENTS, JSON, unchunk

BROKE = Refusal(Outcome.REPLICA_BROKE, "it broke")
FAULT = Refusal(Outcome.GATEWAY_FAULT, "a bug")


class Client:
    """Records what it is told."""

    def __init__(self) -> None:
        self.written = b""
        self.ended: list[str] = []

    def write(self, data: bytes) -> None:
        self.written += data

    def response_done(self, *, keep_alive: bool) -> None:
        self.ended.append("kept" if keep_alive else "not kept")

    def close(self) -> None:
        self.ended.append("cut")

    @property
    def body(self) -> bytes:
        return unchunk(self.written.partition(b"\r\n\r\n")[2])


class Case:
    """A reply whose request arrived at 100 s."""

    def __init__(self, *, http10: bool = False, keep_alive: bool = True) -> None:
        self.client = Client()
        self.relay = Relay(http10=http10, hide_usage=True)
        self.reply = Reply(self.client, self.relay, request_id=b"id-1", gpu_s=0.5, keep_alive=keep_alive, now_s=100.0)

    def ping(self, now_s: float, *, waiting: bool = True) -> int:
        """How many comments the client has after `now_s`."""
        self.reply.ping(now_s, silence_s=10.0, waiting=waiting, draining=False)
        return self.client.written.count(PING)

    def head(self, *headers: tuple[bytes, bytes], status: int = 200) -> None:
        outcome = Outcome.SERVED if status < 400 else Outcome.REPLICA_REFUSED
        self.reply.head(status, list(headers), replica=b"r0", queue_wait_s=0.0, outcome=outcome, draining=False)


def test_comments_come_after_each_silence() -> None:
    case = Case()
    assert [case.ping(now_s) for now_s in (100.0, 109.9, 110.0, 119.9, 120.5, 130.0, 130.5)] == [0, 0, 1, 1, 2, 2, 3]


def test_the_first_comment_brings_a_head_that_claims_no_outcome() -> None:
    case = Case()
    case.ping(110.0)
    head = case.client.written.partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
    assert head.endswith(b"x-request-id: id-1\r\nx-weighbridge-gpu-seconds: 0.500000")
    assert head.count(b"x-weighbridge-") == 1


def test_a_request_that_was_sent_before_the_first_comment_keeps_its_status_open() -> None:
    case = Case()
    assert case.ping(500.0, waiting=False) == 0
    assert case.client.written == b""
    assert case.ping(500.5) == 1
    assert case.ping(511.0, waiting=False) == 2


def test_comments_end_at_the_first_event() -> None:
    case = Case()
    case.ping(110.0)
    case.head(EVENTS)
    assert not case.reply.pending
    assert case.ping(120.0, waiting=False) == 2
    case.reply.body(DELTA)
    case.reply.flush(121.0)
    assert case.ping(500.0, waiting=False) == 2
    case.reply.end()
    assert case.client.body == PING * 2 + DELTA


def test_a_stream_that_a_replica_began_gets_no_comment() -> None:
    case = Case()
    case.head(EVENTS)
    case.reply.flush(101.0)
    assert case.ping(500.0, waiting=False) == 0


def test_an_error_before_anything_was_written_is_a_response() -> None:
    case = Case()
    case.reply.refuse(BROKE, draining=False)
    assert case.client.written.startswith(b"HTTP/1.1 502 ")
    assert case.client.ended == ["kept"]


@pytest.mark.parametrize(
    ("refusal", "draining", "keep_alive"), [(FAULT, False, True), (BROKE, True, True), (BROKE, False, False)]
)
def test_an_error_response_can_be_the_connections_last(refusal: Refusal, draining: bool, keep_alive: bool) -> None:
    case = Case(keep_alive=keep_alive)
    case.reply.refuse(refusal, draining=draining)
    assert b"connection: close\r\n" in case.client.written
    assert case.client.ended == ["not kept"]


@pytest.mark.parametrize("http10", [False, True], ids=["HTTP/1.1", "HTTP/1.0"])
def test_an_error_after_a_comment_is_an_event(http10: bool) -> None:
    case = Case(http10=http10)
    case.ping(110.0)
    case.reply.refuse(BROKE, draining=False)
    body = case.client.written.partition(b"\r\n\r\n")[2] if http10 else case.client.body
    comment, event, done, rest = body.split(b"\n\n")
    assert (comment, done, rest) == (b": ping", b"data: [DONE]", b"")
    assert json.loads(event.removeprefix(b"data: "))["error"]["code"] == "replica_broke"
    assert case.client.ended == ["not kept" if http10 else "kept"]


def test_a_body_that_breaks_is_cut() -> None:
    case = Case()
    case.head(JSON, (b"content-length", b"9"))
    case.reply.body(b"half")
    case.reply.refuse(BROKE, draining=False)
    assert case.client.written.endswith(b"\r\n\r\nhalf")
    assert case.client.ended == ["cut"]


def test_a_replicas_error_after_a_comment_is_an_event_of_its_own_words() -> None:
    case = Case()
    case.ping(110.0)
    case.head(JSON, status=400)
    case.reply.body(b'{\n  "error": {"message": "too long", ')
    case.reply.body(b'"code": 400}\n}')
    case.reply.end()
    case.reply.done()
    assert case.client.body == PING + b'data: {"error":{"message":"too long","code":400}}\n\ndata: [DONE]\n\n'
    assert case.client.ended == ["kept"]


def error_of(event: bytes) -> dict[str, object]:
    first, done, rest = event.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    assert b"\n" not in first
    assert b"\r" not in first
    error = json.loads(first.removeprefix(b"data: "))["error"]
    assert error
    return error if isinstance(error, dict) else {"message": error}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"no such model"}}', "no such model"),
        (b'{"error":"too long","error_type":"validation"}', "too long"),
        (b'{"detail":"no field"}', 'the replica answered with status 422: {"detail":"no field"}'),
        (b'{"error":null}', 'the replica answered with status 422: {"error":null}'),
        (b"[1]", "the replica answered with status 422: [1]"),
        (b"<html>\r\n", "the replica answered with status 422: <html>\r\n"),
        (b"\xff", "the replica answered with status 422: �"),
        (b"", "the replica answered with status 422: "),
    ],
)
def test_an_error_event_is_the_replicas_or_quotes_it(body: bytes, message: str) -> None:
    assert error_of(refused_event(422, body))["message"] == message


def test_an_error_body_that_is_too_long_or_too_deep_is_quoted_in_part() -> None:
    for body in (b'{"error":"' + b"x" * MAX_HELD_BYTES, b"[" * MAX_HELD_BYTES):
        message = error_of(refused_event(400, body))["message"]
        assert isinstance(message, str)
        assert len(message) < MAX_QUOTED + 100


@given(st.binary() | st.text().map(lambda text: json.dumps({"error": {"message": text}}, indent=2).encode()))
def test_any_error_body_becomes_one_event(body: bytes) -> None:
    error_of(refused_event(400, body))
