"""Refusals, with the Status bodies that a real API server writes."""

from typing import Any


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def body(self) -> dict[str, Any]:
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details:
            status["details"] = self.details
        return status | {"code": self.code}

    def headers(self) -> dict[str, str]:
        seconds = self.details.get("retryAfterSeconds")
        return {} if seconds is None else {"Retry-After": str(seconds)}


def not_found_path(path: str) -> Refusal:
    return Refusal(404, "NotFound", "the server could not find the requested resource", path=path)


def not_found(qualified: str, name: str) -> Refusal:
    resource, _, group = qualified.partition(".")
    return Refusal(404, "NotFound", f'{qualified} "{name}" not found', name=name, group=group, kind=resource)


def already_exists(qualified: str, name: str) -> Refusal:
    resource, _, group = qualified.partition(".")
    return Refusal(409, "AlreadyExists", f'{qualified} "{name}" already exists', name=name, group=group, kind=resource)


def conflict(qualified: str, name: str, because: str | None = None) -> Refusal:
    resource, _, group = qualified.partition(".")
    why = because or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {qualified} "{name}": {why}'
    return Refusal(409, "Conflict", message, name=name, group=group, kind=resource)


def expired(
    message: str = "The provided continue parameter is too old to display a consistent list result.",
) -> Refusal:
    return Refusal(410, "Expired", message)


def unauthorized() -> Refusal:
    return Refusal(401, "Unauthorized", "Unauthorized")


def bad_request(message: str) -> Refusal:
    return Refusal(400, "BadRequest", message)


def invalid(message: str) -> Refusal:
    return Refusal(422, "Invalid", message)


def fault(code: int, retry_after_s: int | None = None) -> Refusal:
    """A refusal that has nothing to do with the request."""
    reason, message = {
        429: ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
        500: ("InternalError", "an error on the server has prevented the request from succeeding"),
        503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
        504: ("Timeout", "request did not complete within the allotted timeout"),
    }.get(code, ("Unknown", "an error of the test"))
    return Refusal(code, reason, message, **({} if retry_after_s is None else {"retryAfterSeconds": retry_after_s}))
