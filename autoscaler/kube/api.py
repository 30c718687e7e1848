"""Calls to a Kubernetes API server: JSON in, JSON out, errors of `errors`, at a bounded rate.

The official client gives credentials and TLS (`connection`). Its model objects are not used: objects are plain dicts,
as the server writes them, because a list of 10,000 pods must stay cheap.
"""

import asyncio
import math
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import aiohttp
import msgspec

from autoscaler.kube.bucket import TokenBucket
from autoscaler.kube.decode import Trim, event_from_line, page_from_bytes, without_managed_fields
from autoscaler.kube.errors import Gone, KubeError, Unavailable, error_from_status
from autoscaler.kube.names import FIELD_MANAGER, Json

MERGE_PATCH = "application/merge-patch+json"
JSON = "application/json"

__all__ = [
    "Connection",
    "KubeApi",
    "Limits",
    "Listing",
    "Trim",
    "WatchEvent",
    "without_managed_fields",
]

EventKind = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]

_EVENT_KINDS: Mapping[str, EventKind] = {
    "ADDED": "ADDED",
    "MODIFIED": "MODIFIED",
    "DELETED": "DELETED",
    "BOOKMARK": "BOOKMARK",
}
# What a Status body may say without being cut; a proxy in between may send a page of HTML.
_CAUSE_CHARACTERS = 500
# How much longer than it was asked to last a watch may hang before it counts as dead.
_WATCH_GRACE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All objects of a list, and the version of it from which a watch may go on."""

    items: tuple[Json, ...]
    resource_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchEvent:
    """One change. The object of a BOOKMARK has a kind and metadata.resourceVersion only."""

    kind: EventKind
    object: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what one client does to the server.

    `rate_per_s` and `burst` bound requests; watches are free. A request gets `timeout_s` for its whole answer. Reads
    are tried `attempts` times if the server is unavailable, for `retry_s` altogether. Lists come in pages of
    `page_items`.
    """

    rate_per_s: float = 50.0
    burst: float = 100.0
    timeout_s: float = 10.0
    attempts: int = 3
    retry_s: float = 10.0
    first_backoff_s: float = 0.2
    page_items: int = 500


class Connection(Protocol):
    """Sends one HTTP request with credentials. Raises aiohttp's errors, `OSError` and `KubeError`."""

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        body: Json | None,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse: ...

    def refused(self) -> None:
        """The server did not accept the credentials: read them again before the next request."""

    async def close(self) -> None: ...


class KubeApi:
    """A client. `clock` is monotonic, in seconds; `rng` draws the jitter of waits."""

    def __init__(
        self,
        connection: Connection,
        *,
        clock: Callable[[], float],
        rng: random.Random,
        limits: Limits | None = None,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._rng = rng
        self._limits = limits or Limits()
        self._bucket = TokenBucket(rate_per_s=self._limits.rate_per_s, burst=self._limits.burst)

    async def get(self, path: str) -> Json:
        """One object, or a subresource. Tried again while the server is unavailable, within `Limits`."""
        return await self._read(path, {})

    async def list(self, path: str, *, labels: str = "", fields: str = "", trim: Trim | None = None) -> Listing:
        """All objects below `path` that match the selectors, of one moment of the server.

        They carry `kind` and `apiVersion`, as those of a watch do. Starts again, once, if the server forgets that
        moment between two pages; then raises `Gone`. `trim` is called with each object as it comes.
        """
        try:
            return await self._pages(path, labels, fields, trim)
        except Gone:
            return await self._pages(path, labels, fields, trim)

    async def watch(
        self,
        path: str,
        *,
        resource_version: str,
        labels: str = "",
        fields: str = "",
        trim: Trim | None = None,
        timeout_s: float = 300.0,
        heard: Callable[[], None] | None = None,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Changes after `resource_version`, for about `timeout_s`, then it ends: watch again from the last version.

        Not retried and not counted by the rate limit. `trim` is called with each object as it comes, `heard` whenever
        the server has said anything. Raises `Gone` if the server does not know that version any more, and
        `Unavailable` if the stream breaks, ends within a line or hangs for longer than it was asked to last. Close the
        iterator (`aclosing`) to end the stream early.
        """
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, round(timeout_s))),
            **_selectors(labels, fields),
        }
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._limits.timeout_s, sock_read=timeout_s + _WATCH_GRACE_S
        )
        async with self._answer("GET", path, query, timeout=timeout, body=None, content_type=JSON) as response:
            if heard is not None:
                heard()
            async for line in _lines(response.content):
                if heard is not None:
                    heard()
                yield _event_from_line(line, trim)

    async def patch(self, path: str, body: Json) -> Json:
        """Merge `body` into the object (RFC 7396). Never retried.

        A `metadata.resourceVersion` in it makes it conditional: `Conflict` if the object is at another.
        """
        return await self._call("PATCH", path, {"fieldManager": FIELD_MANAGER}, body=body, content_type=MERGE_PATCH)

    async def create(self, path: str, body: Json) -> Json:
        """POST. Never retried. Raises `Conflict` if the name is taken."""
        return await self._call("POST", path, {"fieldManager": FIELD_MANAGER}, body=body)

    async def replace(self, path: str, body: Json) -> Json:
        """PUT. Never retried. Raises `Conflict` if the object is not at the `metadata.resourceVersion` of `body`."""
        return await self._call("PUT", path, {"fieldManager": FIELD_MANAGER}, body=body)

    async def close(self) -> None:
        await self._connection.close()

    async def _pages(self, path: str, labels: str, fields: str, trim: Trim | None) -> Listing:
        items: list[Json] = []
        query = {"limit": str(self._limits.page_items), **_selectors(labels, fields)}
        while True:
            page = await self._read(path, query, lambda body: _page_from_bytes(body, trim))
            items += page["items"]
            metadata = page["metadata"]
            token = metadata.get("continue")
            if not token:
                return Listing(items=tuple(items), resource_version=str(metadata.get("resourceVersion", "")))
            query = query | {"continue": token}

    async def _read(self, path: str, query: Mapping[str, str], decode: Callable[[bytes], Json] | None = None) -> Json:
        ends_at_s = self._clock() + self._limits.retry_s
        attempt = 1
        while True:
            try:
                timeout_s = max(0.1, ends_at_s - self._clock())
                return await self._call("GET", path, query, timeout_s=timeout_s, decode=decode)
            except Unavailable as error:
                wait_s = error.retry_after_s if error.retry_after_s is not None else 0.0
                # Clients that failed together shall not come back together.
                wait_s += self._limits.first_backoff_s * 2 ** (attempt - 1) * self._rng.uniform(0.5, 1.0)
                if attempt >= self._limits.attempts or self._clock() + wait_s >= ends_at_s:
                    raise
                attempt += 1
                await asyncio.sleep(wait_s)

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        body: Json | None = None,
        content_type: str = JSON,
        timeout_s: float = math.inf,
        decode: Callable[[bytes], Json] | None = None,
    ) -> Json:
        await self._wait_for_turn()
        timeout = aiohttp.ClientTimeout(total=min(timeout_s, self._limits.timeout_s))
        async with self._answer(method, path, query, timeout=timeout, body=body, content_type=content_type) as response:
            return (decode or _json_from_bytes)(await response.read())

    async def _wait_for_turn(self) -> None:
        wait_s = self._bucket.take(self._clock())
        if wait_s <= 0:
            return
        try:
            await asyncio.sleep(wait_s)
        except asyncio.CancelledError:
            self._bucket.give_back()
            raise

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        timeout: aiohttp.ClientTimeout,
        body: Json | None,
        content_type: str,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response of success, whose body is still to be read; errors of both are mapped."""
        try:
            async with await self._connection.send(
                method, path, query=query, body=body, content_type=content_type, timeout=timeout
            ) as response:
                if response.status >= 300:
                    raise await self._refusal(response)
                yield response
        except TimeoutError as error:
            raise Unavailable(f"no answer in time to {method} {path}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{method} {path}: {_plain(error)}") from error

    async def _refusal(self, response: aiohttp.ClientResponse) -> KubeError:
        if response.status == 401:
            self._connection.refused()
        body = await response.read()
        return error_from_status(
            response.status, _cause(response, body), retry_after_s=_seconds(response.headers.get("Retry-After"))
        )


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines of any length. Raises `Unavailable` if the stream ends within one."""
    parts: list[bytes] = []
    async for chunk in stream.iter_any():
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            parts.append(line)
            if joined := b"".join(parts).strip():
                yield joined
            parts.clear()
        if rest:
            parts.append(rest)
    if parts:
        raise Unavailable("the watch ended within a line")


def _event_from_line(line: bytes, trim: Trim | None) -> WatchEvent:
    try:
        kind, item = event_from_line(line, trim)
    except msgspec.DecodeError as error:
        raise Unavailable(f"the watch sent no event: {error}") from error
    if kind == "ERROR":
        seconds = (item.get("details") or {}).get("retryAfterSeconds")
        raise error_from_status(
            int(item.get("code") or 500), str(item.get("message") or "no message"), retry_after_s=_seconds(seconds)
        )
    known = _EVENT_KINDS.get(kind)
    if known is None:
        raise Unavailable(f"an unknown watch event: {kind[:40]}")
    return WatchEvent(kind=known, object=item)


def _page_from_bytes(body: bytes, trim: Trim | None) -> Json:
    try:
        items, metadata = page_from_bytes(body, trim)
    except msgspec.DecodeError as error:
        raise Unavailable(f"the answer is no list: {error}") from error
    return {"items": items, "metadata": metadata}


def _json_from_bytes(body: bytes) -> Json:
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise Unavailable(f"the answer is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Unavailable("the answer is not a JSON object")
    return value


def _cause(response: aiohttp.ClientResponse, body: bytes) -> str:
    """The message of a Status body, else the body, else the reason phrase."""
    text = body.decode("utf-8", "replace").strip()
    try:
        status = msgspec.json.decode(body)
    except msgspec.DecodeError:
        status = None
    if isinstance(status, dict) and status.get("message"):
        text = str(status["message"])
    return (text or response.reason or "no reason given")[:_CAUSE_CHARACTERS]


def _plain(error: Exception) -> str:
    return str(error) or type(error).__name__


def _seconds(value: object) -> float | None:
    """A Retry-After in seconds; None for a date, which API servers do not send."""
    try:
        return max(0.0, float(str(value)))
    except ValueError:
        return None


def _selectors(labels: str, fields: str) -> dict[str, str]:
    given = {"labelSelector": labels, "fieldSelector": fields}
    return {name: value for name, value in given.items() if value}
