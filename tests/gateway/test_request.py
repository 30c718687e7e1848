"""Request heads: ambiguous framing is refused, hop-by-hop headers stay here, the rest travels on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outcome import Outcome, Refusal
from gateway.request import Head, too_large
from gateway.settings import Limits

LIMITS = Limits(max_header_bytes=1000, max_body_bytes=5000)


def head(*headers: tuple[bytes, bytes], limits: Limits = LIMITS) -> Head:
    built = Head(arrived_at_s=0.0)
    for name, value in headers:
        built.add(name, value, limits)
    return built


LENGTH, ENCODING = b"Content-Length", b"Transfer-Encoding"
_ONCE = "content-length must appear once, without transfer-encoding"
_WHOLE = "content-length must be a whole number"
_CHUNKED = "transfer-encoding must be `chunked`, once, without content-length"
_BIG = "request body is larger than 5000 bytes"


@pytest.mark.parametrize(
    ("headers", "outcome", "detail"),
    [
        pytest.param([(LENGTH, b"5"), (ENCODING, b"chunked")], Outcome.BAD_FRAMING, _CHUNKED, id="length and chunked"),
        pytest.param([(ENCODING, b"chunked"), (LENGTH, b"5")], Outcome.BAD_FRAMING, _ONCE, id="chunked and length"),
        pytest.param([(LENGTH, b"5"), (LENGTH, b"6")], Outcome.BAD_FRAMING, _ONCE, id="two lengths"),
        pytest.param([(LENGTH, b"5"), (b"CONTENT-length", b"5")], Outcome.BAD_FRAMING, _ONCE, id="the same one twice"),
        pytest.param([(LENGTH, b"+5")], Outcome.BAD_FRAMING, _WHOLE, id="length with a sign"),
        pytest.param([(LENGTH, b"-5")], Outcome.BAD_FRAMING, _WHOLE, id="negative length"),
        pytest.param([(LENGTH, b"5, 5")], Outcome.BAD_FRAMING, _WHOLE, id="a list of lengths"),
        pytest.param([(LENGTH, b"0x5")], Outcome.BAD_FRAMING, _WHOLE, id="hexadecimal length"),
        pytest.param([(LENGTH, b"5.0")], Outcome.BAD_FRAMING, _WHOLE, id="fractional length"),
        pytest.param([(LENGTH, b"1_0")], Outcome.BAD_FRAMING, _WHOLE, id="length with an underscore"),
        pytest.param([(LENGTH, "\u0665".encode())], Outcome.BAD_FRAMING, _WHOLE, id="an Arabic digit"),
        pytest.param([(LENGTH, b"")], Outcome.BAD_FRAMING, _WHOLE, id="empty length"),
        pytest.param([(LENGTH, b" ")], Outcome.BAD_FRAMING, _WHOLE, id="blank length"),
        pytest.param([(ENCODING, b"gzip, chunked")], Outcome.BAD_FRAMING, _CHUNKED, id="gzip and chunked"),
        pytest.param([(ENCODING, b"identity")], Outcome.BAD_FRAMING, _CHUNKED, id="identity"),
        pytest.param([(ENCODING, b"chunked"), (ENCODING, b"chunked")], Outcome.BAD_FRAMING, _CHUNKED, id="twice"),
        pytest.param([(ENCODING, b"xchunked")], Outcome.BAD_FRAMING, _CHUNKED, id="nearly chunked"),
        pytest.param([(ENCODING, b"")], Outcome.BAD_FRAMING, _CHUNKED, id="empty encoding"),
        pytest.param(
            [(b"Authorization", b"Bearer a"), (b"authorization", b"Bearer b")],
            Outcome.BAD_FRAMING,
            "more than one authorization header",
            id="two keys",
        ),
        pytest.param([(LENGTH, b"5001")], Outcome.BODY_TOO_LARGE, _BIG, id="a body over the limit"),
        pytest.param([(LENGTH, b"9" * 900)], Outcome.BODY_TOO_LARGE, _BIG, id="a length of many digits"),
        pytest.param(
            [(b"x", b"v" * 996)], Outcome.HEADERS_TOO_LARGE, "request headers are larger than 1000 bytes", id="large"
        ),
        pytest.param(
            [(b"cookie", b"v" * 90)] * 11,
            Outcome.HEADERS_TOO_LARGE,
            "request headers are larger than 1000 bytes",
            id="many small",
        ),
    ],
)  # fmt: skip
def test_a_head_is_refused(headers: list[tuple[bytes, bytes]], outcome: Outcome, detail: str) -> None:
    with pytest.raises(Refusal) as refusal:
        head(*headers)
    assert (refusal.value.outcome, refusal.value.detail) == (outcome, detail)


def test_the_largest_allowed_head_and_body_pass() -> None:
    assert head((b"x", b"v" * 995)).header_bytes == 1000
    assert head((LENGTH, b"5000")).length == 5000


def test_lengths_of_thousands_of_digits_are_too_large_whatever_the_header_limit() -> None:
    with pytest.raises(Refusal) as refusal:
        head((LENGTH, b"0" * 5000), limits=Limits())
    assert refusal.value.outcome is Outcome.BODY_TOO_LARGE
    assert refusal.value.detail == too_large(Limits()).detail


@pytest.mark.parametrize("value", [b"5", b"5 ", b"\t5", b"005"])
def test_a_length_may_have_space_around_it(value: bytes) -> None:
    assert head((LENGTH, value)).length == 5


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b" chunked "])
def test_chunked_is_recognized(value: bytes) -> None:
    assert head((ENCODING, value)).chunked


@pytest.mark.parametrize(("value", "expects"), [(b"100-continue", True), (b"100-Continue ", True), (b"200-ok", False)])
def test_expectations_are_noted_and_not_passed_on(value: bytes, expects: bool) -> None:
    built = head((b"Expect", value))
    assert (built.expects_continue, built.forwarded) == (expects, b"")


def test_an_upgrade_is_noted() -> None:
    assert head((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")).upgrades


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Connection",
        b"Proxy-Authenticate",
        b"Proxy-Authorization",
        b"TE",
        b"Trailer",
        b"Upgrade",
        b"Host",
        b"Authorization",
        b"Accept-Encoding",
        b"X-Request-Id",
        b"X-Weighbridge-Gpu-Seconds",
        b"x-weighbridge-anything",
    ],
)
def test_is_not_forwarded(name: bytes) -> None:
    assert head((name, b"value")).forwarded == b""


def test_other_headers_are_forwarded_as_they_came_in_their_order() -> None:
    headers = [(b"Content-Type", b"application/json"), (b"X-Trace", b"1"), (b"host", b"h"), (b"x-trace", b"2")]
    assert head(*headers).forwarded == b"Content-Type: application/json\r\nX-Trace: 1\r\nx-trace: 2\r\n"


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        pytest.param(b"abc-1", True, id="plain"),
        pytest.param(b"a" * 128, True, id="the longest"),
        pytest.param(b"a" * 129, False, id="too long"),
        pytest.param(b"", False, id="empty"),
        pytest.param(b"a\tb", False, id="control character"),
        pytest.param("é".encode(), False, id="not ASCII"),
    ],
)
def test_a_request_id_is_taken_if_it_can_be_logged(value: bytes, kept: bool) -> None:
    assert head((b"X-Request-Id", value)).request_id == (value if kept else b"")


@pytest.mark.parametrize(("value", "asked"), [(b"0", 0), (b"7", 7), (b" 3\t", 3)])
def test_a_priority_is_taken_and_not_passed_on(value: bytes, asked: int) -> None:
    built = head((b"X-Weighbridge-Priority", value))
    assert (built.priority, built.forwarded) == (asked, b"")


def test_no_priority_is_asked_for_without_the_header() -> None:
    assert head((b"x-other", b"1")).priority is None


@pytest.mark.parametrize("value", [b"", b"8", b"-1", b"+1", b"1.0", b"01", b"high", b"1 2", "\u0665".encode()])
def test_a_priority_that_is_none_is_refused_by_name(value: bytes) -> None:
    with pytest.raises(Refusal) as refusal:
        head((b"x-weighbridge-priority", value))
    assert (refusal.value.outcome, refusal.value.param) == (Outcome.BAD_REQUEST, "x-weighbridge-priority")
    assert refusal.value.detail == "x-weighbridge-priority must be one whole number from 0 to 7"


def test_two_priorities_are_refused() -> None:
    with pytest.raises(Refusal):
        head((b"x-weighbridge-priority", b"1"), (b"x-weighbridge-priority", b"1"))


@pytest.mark.parametrize(
    ("target", "path"),
    [(b"/v1/models", b"/v1/models"), (b"/v1/models?limit=1?", b"/v1/models"), (b"?x", b""), (b"", b"")],
)
def test_the_path_is_the_target_without_its_query(target: bytes, path: bytes) -> None:
    assert Head(arrived_at_s=0.0, target=target).path == path


def test_the_payload_is_id_headers_length_and_body() -> None:
    built = head((b"Accept", b"*/*"), (LENGTH, b"2"))
    built.request_id = b"wb-1"
    assert built.payload(b"body") == b"x-request-id: wb-1\r\nAccept: */*\r\ncontent-length: 4\r\n\r\nbody"


TOKEN = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12).map(str.encode)
VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20).map(str.encode)
SPECIAL = st.sampled_from([LENGTH, ENCODING, b"Host", b"connection", b"x-weighbridge-queue-ms", b"Authorization"])


@given(st.lists(st.tuples(TOKEN | SPECIAL, VALUE | st.sampled_from([b"5", b"chunked"])), max_size=12), st.binary())
def test_no_head_that_is_accepted_can_frame_the_next_request(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    try:
        payload = head(*headers).payload(body)
    except Refusal:
        return
    lines, _, rest = payload.partition(b"\r\n\r\n")
    names = [line.partition(b":")[0].lower() for line in lines.split(b"\r\n")]
    assert rest == body
    assert names.count(b"content-length") == 1
    assert lines.endswith(b"content-length: %d" % len(body))
    assert not {b"transfer-encoding", b"host", b"connection", b"authorization"} & set(names)
    assert not any(name.startswith(b"x-weighbridge-") for name in names)


def test_headers_that_the_connection_header_names_are_not_forwarded_wherever_they_stand() -> None:
    made = Head(arrived_at_s=0.0)
    for name, value in ((b"x-before", b"1"), (b"Connection", b"close, X-Before, x-after"), (b"X-After", b"2")):
        made.add(name, value, Limits())
    made.add(b"x-kept", b"3", Limits())
    assert made.forwarded == b"x-kept: 3\r\n"
