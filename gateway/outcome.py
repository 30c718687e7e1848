"""How a request can end, whose fault that is, and what the client is told: one table for status and body."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

import msgspec


class Fault(StrEnum):
    """Who can do something about it."""

    NONE = "none"
    CLIENT = "client"
    CAPACITY = "capacity"
    REPLICA = "replica"
    GATEWAY = "gateway"


class Outcome(StrEnum):
    """The end of a request. The value is the metric label and the `x-weighbridge-outcome` header."""

    SERVED = "served"
    SPILLED = "spilled"
    REPLICA_REFUSED = "replica-refused"
    BAD_REQUEST = "bad-request"
    BAD_FRAMING = "bad-framing"
    UNAUTHORIZED = "unauthorized"
    UNKNOWN_MODEL = "unknown-model"
    UNKNOWN_ENDPOINT = "unknown-endpoint"
    WRONG_METHOD = "wrong-method"
    READ_TIMEOUT = "read-timeout"
    BODY_TOO_LARGE = "body-too-large"
    HEADERS_TOO_LARGE = "headers-too-large"
    RATE_LIMITED = "rate-limited"
    BUDGET_SPENT = "budget-spent"
    BACKLOG_FULL = "backlog-full"
    WAIT_EXPIRED = "wait-expired"
    DRAINING = "draining"
    REPLICA_FAILED = "replica-failed"
    REPLICA_FULL = "replica-full"
    REPLICA_TIMEOUT = "replica-timeout"
    REPLICA_BROKE = "replica-broke"
    CLIENT_GONE = "client-gone"
    GATEWAY_FAULT = "gateway-fault"


@dataclass(frozen=True, slots=True)
class Answer:
    """HTTP status, reason phrase, fault, and the OpenAI `error.type`. Status 499 is counted, never sent."""

    status: int
    phrase: str
    fault: Fault
    error_type: str


HTTP: Mapping[Outcome, Answer] = {
    Outcome.SERVED: Answer(200, "OK", Fault.NONE, ""),
    Outcome.SPILLED: Answer(200, "OK", Fault.NONE, ""),
    Outcome.REPLICA_REFUSED: Answer(400, "Bad Request", Fault.CLIENT, "invalid_request_error"),
    Outcome.BAD_REQUEST: Answer(400, "Bad Request", Fault.CLIENT, "invalid_request_error"),
    Outcome.BAD_FRAMING: Answer(400, "Bad Request", Fault.CLIENT, "invalid_request_error"),
    Outcome.UNAUTHORIZED: Answer(401, "Unauthorized", Fault.CLIENT, "authentication_error"),
    Outcome.UNKNOWN_MODEL: Answer(404, "Not Found", Fault.CLIENT, "invalid_request_error"),
    Outcome.UNKNOWN_ENDPOINT: Answer(404, "Not Found", Fault.CLIENT, "invalid_request_error"),
    Outcome.WRONG_METHOD: Answer(405, "Method Not Allowed", Fault.CLIENT, "invalid_request_error"),
    Outcome.READ_TIMEOUT: Answer(408, "Request Timeout", Fault.CLIENT, "invalid_request_error"),
    Outcome.BODY_TOO_LARGE: Answer(413, "Content Too Large", Fault.CLIENT, "invalid_request_error"),
    Outcome.HEADERS_TOO_LARGE: Answer(431, "Request Header Fields Too Large", Fault.CLIENT, "invalid_request_error"),
    Outcome.RATE_LIMITED: Answer(429, "Too Many Requests", Fault.CAPACITY, "rate_limit_error"),
    Outcome.BUDGET_SPENT: Answer(429, "Too Many Requests", Fault.CAPACITY, "rate_limit_error"),
    Outcome.BACKLOG_FULL: Answer(429, "Too Many Requests", Fault.CAPACITY, "rate_limit_error"),
    Outcome.WAIT_EXPIRED: Answer(503, "Service Unavailable", Fault.CAPACITY, "overloaded_error"),
    Outcome.DRAINING: Answer(503, "Service Unavailable", Fault.CAPACITY, "overloaded_error"),
    Outcome.REPLICA_FAILED: Answer(502, "Bad Gateway", Fault.REPLICA, "server_error"),
    Outcome.REPLICA_FULL: Answer(503, "Service Unavailable", Fault.CAPACITY, "overloaded_error"),
    Outcome.REPLICA_TIMEOUT: Answer(504, "Gateway Timeout", Fault.REPLICA, "server_error"),
    Outcome.REPLICA_BROKE: Answer(502, "Bad Gateway", Fault.REPLICA, "server_error"),
    Outcome.CLIENT_GONE: Answer(499, "Client Closed Request", Fault.CLIENT, "invalid_request_error"),
    Outcome.GATEWAY_FAULT: Answer(500, "Internal Server Error", Fault.GATEWAY, "server_error"),
}


class Refusal(Exception):
    """This request ends here with `outcome`. `detail` is for the client and the log; it never holds prompt text."""

    def __init__(
        self, outcome: Outcome, detail: str, *, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(f"{outcome.value}: {detail}")
        self.outcome = outcome
        self.detail = detail
        self.param = param
        self.retry_after_s = retry_after_s


def error_object(refusal: Refusal) -> dict[str, str | None]:
    """OpenAI's error object; `code` is the outcome."""
    return {
        "message": refusal.detail,
        "type": HTTP[refusal.outcome].error_type,
        "param": refusal.param,
        "code": refusal.outcome.value.replace("-", "_"),
    }


def error_body(refusal: Refusal) -> bytes:
    """The error object as JSON."""
    return msgspec.json.encode({"error": error_object(refusal)})


def error_response(refusal: Refusal, *, request_id: bytes, keep_alive: bool) -> bytes:
    """A whole HTTP/1.1 response. `Retry-After` is in whole seconds, at least 1."""
    answer = HTTP[refusal.outcome]
    body = error_body(refusal)
    lines = [
        f"HTTP/1.1 {answer.status} {answer.phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        f"x-weighbridge-outcome: {refusal.outcome.value}",
    ]
    if refusal.retry_after_s is not None:
        lines.append(f"retry-after: {max(1, ceil(refusal.retry_after_s))}")
    if request_id:
        lines.append(f"x-request-id: {request_id.decode('latin-1')}")
    if answer.status == 401:
        lines.append("www-authenticate: Bearer")
    if not keep_alive:
        lines.append("connection: close")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def error_event(refusal: Refusal) -> bytes:
    """The error inside a stream that has begun: one SSE event, then `[DONE]`."""
    return b"data: " + error_body(refusal) + b"\n\ndata: [DONE]\n\n"
