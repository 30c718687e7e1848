"""Server-sent events on their way through: whole events out, usage read and hidden."""

import re
from itertools import pairwise

from gateway.usage import Usage, find_usage

_USAGE_OBJECT = re.compile(rb'"usage"\s*:\s*\{')
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_DONE = re.compile(rb"(?:^|\n)data: ?\[DONE\]")
_BOUNDARY = re.compile(rb"\r\n\r\n|\n\n")
MAX_EVENT_BYTES = 1024 * 1024
"""A longer event is passed on in pieces."""


class EventFilter:
    """Feed it body bytes in any chunking; it gives back whole events.

    `events` counts the `data:` lines that were passed on, without `[DONE]`: model servers write one for each event.
    """

    __slots__ = ("_hide_usage", "_in_long", "_tail", "done", "events", "usage")

    def __init__(self, *, hide_usage: bool) -> None:
        self._hide_usage = hide_usage
        self._tail = b""
        self._in_long = False
        self.events = 0
        self.done = False
        """`[DONE]` has passed: the model server ended the stream itself."""
        self.usage: Usage | None = None

    def feed(self, data: bytes) -> bytes:
        """The whole events that `data` completes; `b""` when it completes none."""
        if self._tail:
            data = self._tail + data
            self._tail = b""
        if not data.endswith(b"\n\n"):
            end = _last_boundary(data)
            if end == 0 and len(data) > MAX_EVENT_BYTES:
                return self._pass_long(data)
            self._tail = data[end:]
            data = data[:end]
        return self._pass(data) if data else b""

    def end(self) -> bytes:
        """What is left when the body ends without a final blank line."""
        tail, self._tail = self._tail, b""
        return self._pass(tail) if tail else b""

    def cut(self) -> bytes:
        """Drop an unfinished event. What closes it, when its beginning was passed on already."""
        self._tail = b""
        return b"\n\n" if self._in_long else b""

    def _pass_long(self, data: bytes) -> bytes:
        """A piece of an event that is too long to hold. Only its beginning is counted; no part of it is read."""
        self.events += not self._in_long and data.startswith(b"data:")
        self._in_long = True
        return data

    def _pass(self, data: bytes) -> bytes:
        """Read and count whole events."""
        rest_of_long = b""
        if self._in_long:
            end = _first_boundary(data)
            rest_of_long, data = data[:end], data[end:]
            self._in_long = False
        # The cheap test first: most reads hold one small event with neither usage nor [DONE].
        if b'"usage"' in data and _USAGE_OBJECT.search(data):
            data = self._take_usage(data)
        self.events += data.count(b"\ndata:") + data.startswith(b"data:")
        # A line break inside JSON is escaped, so text that a model writes cannot look like this line.
        if b"[DONE]" in data and (ends := len(_DONE.findall(data))):
            self.events -= ends
            self.done = True
        return rest_of_long + data if rest_of_long else data

    def _take_usage(self, data: bytes) -> bytes:
        kept = []
        for event in _split(data):
            usage = find_usage(event)
            if usage is not None:
                self.usage = usage
                if self._hide_usage and _NO_CHOICES.search(event):
                    # Line breaks beyond a blank line belong to the event before.
                    event = event[: len(event) - len(event.lstrip(b"\r\n"))]
            kept.append(event)
        return b"".join(kept)


def _last_boundary(data: bytes) -> int:
    """The index after the last blank line, or 0."""
    lf = data.rfind(b"\n\n")
    crlf = data.rfind(b"\r\n\r\n")
    return max(lf + 2 if lf >= 0 else 0, crlf + 4 if crlf >= 0 else 0)


def _first_boundary(data: bytes) -> int:
    """The index after the first blank line; the length of `data` when it has none."""
    found = _BOUNDARY.search(data)
    return found.end() if found is not None else len(data)


def _split(data: bytes) -> list[bytes]:
    """The events with their blank lines; joined again they are `data`."""
    ends = [0, *(found.end() for found in _BOUNDARY.finditer(data)), len(data)]
    return [data[start:end] for start, end in pairwise(ends)]
