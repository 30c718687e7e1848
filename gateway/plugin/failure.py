"""A failed attempt of LiteLLM, as what it says about the replica."""

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.outcome import Outcome

_UNREACHABLE = frozenset({"ConnectError", "ConnectTimeout", "ClientConnectorError", "ConnectionTimeoutError"})
_MOST_DEEP = 8
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


def _below(exception: BaseException) -> Iterator[BaseException]:
    """An exception and those that it was made of: LiteLLM makes a status of 500 of a refused connection.

    Another of LiteLLM's own is of an attempt before.
    """
    error: BaseException | None = exception
    for _ in range(_MOST_DEEP):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
        if error is not None and type(error).__module__.partition(".")[0] == "litellm":
            return


def _is_of_the_connection(error: BaseException) -> bool:
    """Before anything was sent. httpx and aiohttp have classes of their own; one that broke later tells nothing."""
    name = type(error).__name__
    return isinstance(error, ConnectionRefusedError) or name in _UNREACHABLE


def failure_of(exception: BaseException) -> Failure:
    """By the connection's failure that it stands for, else by its status. Messages are not read: they hold prompts."""
    name = type(exception).__name__
    status = getattr(exception, "status_code", None)
    for error in _below(exception):
        if _is_of_the_connection(error):
            return Failure(cause=type(error).__name__, unreachable=True)
    if name == "Timeout" or isinstance(exception, TimeoutError):
        return Failure(cause=name)
    if status in FULL:
        return Failure(cause=f"status {status}", unreachable=True, full=True)
    if isinstance(status, int) and 400 <= status < 500 and status not in BROKEN:
        return Failure(cause=f"status {status}", refused=True)
    return Failure(cause=f"status {status}" if isinstance(status, int) else name)
