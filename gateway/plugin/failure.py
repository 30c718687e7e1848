"""A failed attempt of LiteLLM, as what it says about the replica."""

from dataclasses import dataclass

from gateway.outcome import Outcome

FULL = frozenset({429, 503})
BROKEN = frozenset({408, 500, 502, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """`unreachable`: the replica has done no work. `refused`: it answered, and the request is what is wrong."""

    cause: str
    unreachable: bool = False
    full: bool = False
    refused: bool = False

    @property
    def outcome(self) -> Outcome:
        """The end of a request that is not tried again."""
        if self.refused:
            return Outcome.REPLICA_REFUSED
        return Outcome.REPLICA_FULL if self.full else Outcome.REPLICA_FAILED


def failure_of(exception: BaseException) -> Failure:
    """By LiteLLM's class for a connection that failed, else by the status. Messages are not read: they hold prompts."""
    name = type(exception).__name__
    status = getattr(exception, "status_code", None)
    if name == "APIConnectionError" or "Connect" in name or isinstance(exception, ConnectionError):
        return Failure(cause=name, unreachable=True)
    if name == "Timeout" or isinstance(exception, TimeoutError):
        return Failure(cause=name)
    if status in FULL:
        return Failure(cause=f"status {status}", unreachable=True, full=True)
    if isinstance(status, int) and 400 <= status < 500 and status not in BROKEN:
        return Failure(cause=f"status {status}", refused=True)
    return Failure(cause=f"status {status}" if isinstance(status, int) else name)
