"""Watch streams of the fake server, and the ways in which they break."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from aiohttp import web

from tests.kube.selector import Predicate
from tests.kube.status import Refusal
from tests.kube.store import Change, Store
from tests.kube.target import Target

Json = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Stream:
    """What one watch asks for, and how it is to end if not by its timeout."""

    target: Target
    fits: Predicate
    bookmarks: bool
    timeout_s: float
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    cut: Literal["", "abort", "mid-line"] = ""


class Streams:
    """All open watches."""

    def __init__(self, store: Store) -> None:
        self.bookmark_s = 60.0
        """Seconds between bookmarks of streams that ask for them; one comes before a stream ends, too."""
        self.gone_as: Literal["event", "status"] = "event"
        """How a watch from a forgotten version is refused: within the stream, or by its status."""
        self.repeat = 1
        """How often each event is sent."""
        self.stalled = False
        """Whether all streams stay open and silent. `wake` after changing it."""
        self._store = store
        self._open: list[Stream] = []
        store.listeners.append(self.wake)

    def __len__(self) -> int:
        return len(self._open)

    def wake(self) -> None:
        """Let every stream look at what has changed, these attributes included."""
        for stream in self._open:
            stream.woken.set()

    def cut(self, *, mid_line: bool = False, resource: str = "") -> int:
        """End open watches now, all or those on one resource; returns how many.

        The connection breaks, or it ends in good order after half a line.
        """
        hit = [stream for stream in self._open if resource in ("", stream.target.resource)]
        for stream in hit:
            stream.cut = "mid-line" if mid_line else "abort"
            stream.woken.set()
        return len(hit)

    async def serve(self, request: web.Request, stream: Stream, start: int) -> web.StreamResponse:
        """From after version `start`; from 0, what there is comes as ADDED first."""
        position = self._store.version
        try:
            opening: Iterable[tuple[str, Json]] = self._opening(stream, start)
        except Refusal as refusal:
            if self.gone_as == "status":
                raise
            opening = [("ERROR", refusal.body())]
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        self._open.append(stream)
        try:
            with suppress(ConnectionError):
                for kind, item in opening:
                    await response.write(_line(kind, item) * (1 if kind == "ERROR" else self.repeat))
                    if kind == "ERROR":
                        await response.write_eof()
                        return response
                await self._follow(request, response, stream, position)
        finally:
            self._open.remove(stream)
        return response

    def _opening(self, stream: Stream, start: int) -> list[tuple[str, Json]]:
        if start == 0:
            return [("ADDED", item) for item in self._store.matching(stream.target, stream.fits)]
        return list(_events(stream, self._store.since(start)))

    async def _follow(self, request: web.Request, response: web.StreamResponse, stream: Stream, position: int) -> None:
        """Everything after version `position`."""
        loop = asyncio.get_running_loop()
        ends_at_s = loop.time() + stream.timeout_s
        bookmark_at_s = loop.time() + self.bookmark_s
        while True:
            if stream.cut:
                await self._break(request, response, stream)
                return
            if not self.stalled:
                changes = self._store.history[len(self._store.history) - (self._store.version - position) :]
                position = self._store.version
                for kind, item in _events(stream, changes):
                    await response.write(_line(kind, item) * self.repeat)
                now_s = loop.time()
                if stream.bookmarks and now_s >= min(bookmark_at_s, ends_at_s):
                    bookmark_at_s = now_s + self.bookmark_s
                    await response.write(_line("BOOKMARK", self._bookmark(stream, position)))
                if now_s >= ends_at_s:
                    await response.write_eof()
                    return
            if self._store.version != position and not self.stalled:
                continue
            wait_s = None if self.stalled else max(0.0, min(bookmark_at_s, ends_at_s) - loop.time())
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await stream.woken.wait()
            stream.woken.clear()

    async def _break(self, request: web.Request, response: web.StreamResponse, stream: Stream) -> None:
        if stream.cut == "mid-line":
            items = self._store.matching(stream.target, stream.fits)
            line = _line("MODIFIED", items[-1] if items else {"kind": "Pod", "metadata": {"name": "x"}})
            await response.write(line[: len(line) // 2])
            await response.write_eof()
            return
        if request.transport is not None:
            request.transport.abort()

    def _bookmark(self, stream: Stream, version: int) -> Json:
        kind = self._store.kinds.get(stream.target.resource, stream.target.resource)
        metadata = {"resourceVersion": str(version), "creationTimestamp": None}
        return {"kind": kind, "apiVersion": stream.target.api_version, "metadata": metadata}


def _events(stream: Stream, changes: Iterable[Change]) -> Iterator[tuple[str, Json]]:
    """Changes as this watch sees them: an object that ceases to fit its selectors is DELETED, as it was."""
    target = stream.target
    for change in changes:
        if change.place != (target.group, target.resource) or target.namespace not in ("", change.namespace):
            continue
        before = change.old is not None and stream.fits(change.old)
        after = change.new is not None and stream.fits(change.new)
        if after:
            yield ("MODIFIED" if before else "ADDED"), change.last
        elif before:
            assert change.old is not None
            metadata = change.old["metadata"] | {"resourceVersion": str(change.version)}
            yield "DELETED", change.old | {"metadata": metadata}


def _line(kind: str, item: Json) -> bytes:
    return msgspec.json.encode({"type": kind, "object": item}) + b"\n"
