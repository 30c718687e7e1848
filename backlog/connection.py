"""The connection to Redis: scripts in one round trip, single commands, and waiting for an entry of a list.

Works on one server, on a master that Sentinel names and on a cluster. Every fault, a hung Redis included, surfaces as
`BacklogUnavailable` within the timeout. A call whose connection is lost, or that reaches a server which is a master no
longer, is repeated once, so scripts and commands must bear being run twice: a claim does, whose leases nobody heard of
end after `backlog.turn.LEASE_S`. A call that times out is not repeated.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import structlog
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MasterDownError, ReadOnlyError, RedisClusterException, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from backlog.connection_client import Client, open_client, run_row
from backlog.connection_url import parse_redis_url
from backlog.scripts import Script

NOT_THE_MASTER = ("READONLY", "MASTERDOWN", "UNBLOCKED")
"""In the answer of a server that is a replica now. Servers before 7.0 wrap the first word when a script meets it."""
MOST_CAUSE = 300

Answer = TypeVar("Answer")
_log = structlog.get_logger("backlog")


class BacklogUnavailable(Exception):
    """The backlog could not be read or written. `cause` says why, for logs and reasons."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class Call(NamedTuple):
    """One run of a script. All keys of one `Connection.run` share a hash tag."""

    script: Script
    keys: Sequence[str]
    args: Sequence[str | int | float | bytes]


def connect_redis(url: str, *, timeout_s: float) -> "Connection":
    """Opens no connection yet. Raises ValueError for a URL that `backlog.connection_url` does not know."""
    return Connection(url, timeout_s=timeout_s)


class Connection:
    """`timeout_s`: the longest any call takes; `pop` takes that long after its wait."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        if not timeout_s > 0:
            raise ValueError(f"timeout_s={timeout_s} must be positive")
        address = parse_redis_url(url)
        self._timeout_s = timeout_s
        self._asks = _Line(open_client(address, connect_s=timeout_s, answer_s=timeout_s))
        # Connections of their own, so that a wait never holds one that a call could use.
        self._pops = _Line(open_client(address, connect_s=timeout_s, answer_s=None))

    async def run(self, *calls: Call) -> list[Any]:
        """The answers in the order of `calls`, in one round trip, not as a transaction. Floats are sent in full."""
        if not calls:
            return []
        return await self._asks.ask(lambda client: _checked(run_row(client, calls)), limit_s=self._timeout_s)

    async def ask(self, command: str, *args: str | int | float | bytes) -> Any:
        """The answer to one command, e.g. `ask("SET", key, value, "PX", 1000)`."""
        return await self._asks.ask(lambda client: client.execute(command, *args), limit_s=self._timeout_s)

    async def pop(self, key: str, *, wait_s: float) -> bytes | None:
        """The first entry of a list, or None when none came within `wait_s`.

        An entry that Redis has taken out when the caller is cancelled, or when the connection breaks, is lost.
        """
        loop = asyncio.get_running_loop()
        ends_at_s = loop.time() + wait_s

        async def wait(client: Client) -> bytes | None:
            # Redis takes 0 for "for ever", and version 6.2 a millisecond as well.
            left_s = max(ends_at_s - loop.time(), 0.01)
            answer = await client.execute("BLPOP", key, f"{left_s:.3f}")
            return None if answer is None else bytes(answer[1])

        return await self._pops.ask(wait, limit_s=wait_s + self._timeout_s)

    async def close(self) -> None:
        """Close the connections; waits end with `BacklogUnavailable`. A hung Redis does not hold the caller."""
        try:
            with _mapped(self._timeout_s):
                async with asyncio.timeout(self._timeout_s):
                    await asyncio.gather(self._asks.close(), self._pops.close())
        except BacklogUnavailable as error:
            _log.warning("backlog closed while unavailable", error=error.cause)


class _Line:
    """A client, and what is known about it: whether its connections are to be trusted, whether it is closed."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stale = False
        self._closed = False

    async def ask(self, question: Callable[[Client], Awaitable[Answer]], *, limit_s: float) -> Answer:
        with _mapped(limit_s):
            try:
                async with asyncio.timeout(limit_s):
                    return await self._ask(question)
            except (TimeoutError, RedisTimeoutError):
                # A server that hangs may have been replaced meanwhile; its other connections hang as well.
                self._stale = True
                raise

    async def _ask(self, question: Callable[[Client], Awaitable[Answer]]) -> Answer:
        if self._stale:
            self._stale = False
            await self._client.refresh()
        try:
            return await self._open(question)
        except (RedisConnectionError, ResponseError) as error:
            if isinstance(error, ResponseError) and not _from_a_replica(error):
                raise
        await self._client.refresh()
        return await self._open(question)

    async def _open(self, question: Callable[[Client], Awaitable[Answer]]) -> Answer:
        if self._closed:
            raise BacklogUnavailable("the connection is closed")
        return await question(self._client)

    async def close(self) -> None:
        self._closed = True
        await self._client.close()


async def _checked(answers: Awaitable[list[Any]]) -> list[Any]:
    """The first error of a row stands for the row."""
    got = await answers
    for answer in got:
        if isinstance(answer, Exception):
            raise answer
    return got


def _from_a_replica(error: ResponseError) -> bool:
    """Whether a server answered that is a master no longer. redis-py has classes for some of these answers."""
    if isinstance(error, ReadOnlyError | MasterDownError):
        return True
    return any(word in str(error) for word in NOT_THE_MASTER)


@contextmanager
def _mapped(limit_s: float) -> Iterator[None]:
    try:
        yield
    except (TimeoutError, RedisTimeoutError) as error:
        raise BacklogUnavailable(f"Redis did not answer within {limit_s:g} s") from error
    except MasterNotFoundError as error:
        # Behind the colon are the clients that asked, which some versions of redis-py print with their passwords.
        raise BacklogUnavailable(f"MasterNotFoundError: {str(error).partition(' : ')[0]}") from error
    except (RedisError, RedisClusterException, OSError) as error:
        raise BacklogUnavailable(f"{type(error).__name__}: {error}"[:MOST_CAUSE]) from error
