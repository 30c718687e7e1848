"""Every outcome has a status, a fault and an OpenAI error; the bodies are fixed to the byte."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outcome import HTTP, Fault, Outcome, Refusal, error_body, error_event, error_response

NEVER_ERRORS = {Outcome.SERVED, Outcome.SPILLED}

# outcome, status line, error type, error code
ERRORS = [
    (Outcome.REPLICA_REFUSED, "400 Bad Request", "invalid_request_error", "replica_refused"),
    (Outcome.BAD_REQUEST, "400 Bad Request", "invalid_request_error", "bad_request"),
    (Outcome.BAD_FRAMING, "400 Bad Request", "invalid_request_error", "bad_framing"),
    (Outcome.UNAUTHORIZED, "401 Unauthorized", "authentication_error", "unauthorized"),
    (Outcome.UNKNOWN_MODEL, "404 Not Found", "invalid_request_error", "unknown_model"),
    (Outcome.UNKNOWN_ENDPOINT, "404 Not Found", "invalid_request_error", "unknown_endpoint"),
    (Outcome.WRONG_METHOD, "405 Method Not Allowed", "invalid_request_error", "wrong_method"),
    (Outcome.READ_TIMEOUT, "408 Request Timeout", "invalid_request_error", "read_timeout"),
    (Outcome.BODY_TOO_LARGE, "413 Content Too Large", "invalid_request_error", "body_too_large"),
    (Outcome.RATE_LIMITED, "429 Too Many Requests", "rate_limit_error", "rate_limited"),
    (Outcome.BUDGET_SPENT, "429 Too Many Requests", "rate_limit_error", "budget_spent"),
    (Outcome.BACKLOG_FULL, "429 Too Many Requests", "rate_limit_error", "backlog_full"),
    (Outcome.HEADERS_TOO_LARGE, "431 Request Header Fields Too Large", "invalid_request_error", "headers_too_large"),
    (Outcome.CLIENT_GONE, "499 Client Closed Request", "invalid_request_error", "client_gone"),
    (Outcome.GATEWAY_FAULT, "500 Internal Server Error", "server_error", "gateway_fault"),
    (Outcome.REPLICA_FAILED, "502 Bad Gateway", "server_error", "replica_failed"),
    (Outcome.REPLICA_BROKE, "502 Bad Gateway", "server_error", "replica_broke"),
    (Outcome.WAIT_EXPIRED, "503 Service Unavailable", "overloaded_error", "wait_expired"),
    (Outcome.DRAINING, "503 Service Unavailable", "overloaded_error", "draining"),
    (Outcome.REPLICA_FULL, "503 Service Unavailable", "overloaded_error", "replica_full"),
    (Outcome.REPLICA_TIMEOUT, "504 Gateway Timeout", "server_error", "replica_timeout"),
]  # fmt: skip


def header(response: bytes, name: str) -> str | None:
    for line in response.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]:
        key, _, value = line.partition(": ")
        if key == name:
            return value
    return None


def test_every_outcome_has_an_answer_and_every_answer_an_outcome() -> None:
    assert set(HTTP) == set(Outcome)


def test_the_table_of_errors_covers_every_outcome_that_is_one() -> None:
    assert {row[0] for row in ERRORS} == set(Outcome) - NEVER_ERRORS


def test_values_are_kebab_case_words() -> None:
    assert all(outcome.value == outcome.name.lower().replace("_", "-") for outcome in Outcome)


@pytest.mark.parametrize(("outcome", "status", "kind", "code"), ERRORS, ids=[row[0].value for row in ERRORS])
def test_error_response_is_fixed_to_the_byte(outcome: Outcome, status: str, kind: str, code: str) -> None:
    body = f'{{"error":{{"message":"why","type":"{kind}","param":"field","code":"{code}"}}}}'
    challenge = "www-authenticate: Bearer\r\n" if outcome is Outcome.UNAUTHORIZED else ""
    refusal = Refusal(outcome, "why", param="field", retry_after_s=2.5)
    assert error_body(refusal).decode() == body
    assert error_response(refusal, request_id=b"wb-1", keep_alive=False).decode() == (
        f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"x-weighbridge-outcome: {outcome.value}\r\nretry-after: 3\r\nx-request-id: wb-1\r\n{challenge}"
        f"connection: close\r\n\r\n{body}"
    )


def test_an_error_without_a_field_says_null_and_leaves_out_what_it_does_not_know() -> None:
    response = error_response(Refusal(Outcome.BAD_REQUEST, "why"), request_id=b"", keep_alive=True)
    assert json.loads(response.partition(b"\r\n\r\n")[2])["error"]["param"] is None
    assert [header(response, name) for name in ("retry-after", "x-request-id", "connection")] == [None, None, None]


def test_an_error_in_a_stream_is_one_event_and_the_end_marker() -> None:
    assert error_event(Refusal(Outcome.REPLICA_BROKE, "why")) == (
        b'data: {"error":{"message":"why","type":"server_error","param":null,"code":"replica_broke"}}\n\n'
        b"data: [DONE]\n\n"
    )


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        pytest.param(0.0, "1", id="now is one second, since clients treat 0 as at once"),
        pytest.param(0.2, "1", id="a fraction rounds up"),
        pytest.param(1.0, "1", id="a whole second stays"),
        pytest.param(2.0, "2", id="an even second stays"),
        pytest.param(2.1, "3", id="past a second rounds up"),
        pytest.param(600.0, "600", id="ten minutes"),
    ],
)
def test_retry_after_is_in_whole_seconds(seconds: float, said: str) -> None:
    refusal = Refusal(Outcome.BACKLOG_FULL, "full", retry_after_s=seconds)
    assert header(error_response(refusal, request_id=b"", keep_alive=True), "retry-after") == said


@given(st.floats(0.0, 1e6))
def test_retry_after_is_never_too_early_nor_a_whole_second_late(seconds: float) -> None:
    refusal = Refusal(Outcome.WAIT_EXPIRED, "slow", retry_after_s=seconds)
    said = int(header(error_response(refusal, request_id=b"", keep_alive=True), "retry-after") or "0")
    assert said >= 1
    assert seconds <= said < max(seconds, 1.0) + 1.0


@given(st.text(), st.none() | st.text())
def test_any_detail_survives_as_json_and_its_length_is_right(detail: str, param: str | None) -> None:
    detail = detail.encode("utf-8", "ignore").decode()
    param = None if param is None else param.encode("utf-8", "ignore").decode()
    response = error_response(Refusal(Outcome.BAD_REQUEST, detail, param=param), request_id=b"x", keep_alive=True)
    body = response.partition(b"\r\n\r\n")[2]
    assert int(header(response, "content-length") or "") == len(body)
    error = json.loads(body)["error"]
    assert (error["message"], error["param"]) == (detail, param)


def test_a_capacity_problem_is_the_only_one_that_5xx_or_429_calls_overloaded() -> None:
    for outcome, answer in HTTP.items():
        capacity = answer.error_type in ("overloaded_error", "rate_limit_error")
        assert capacity == (answer.fault is Fault.CAPACITY), outcome
        assert (answer.status < 500) == (answer.fault in (Fault.NONE, Fault.CLIENT)) or answer.status == 429, outcome
