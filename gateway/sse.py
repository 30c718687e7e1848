"""Server-sent events on their way through: whole events out, usage read and hidden."""

import re

from gateway.usage import Usage, find_usage

_USAGE_OBJECT = re.compile(rb'"usage"\s*:\s*\{')
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_DONE = b"data: [DONE]"
_LATER_DONE = b"\n" + _DONE
MAX_EVENT_BYTES = 1024 * 1024
"""A longer event is passed on in pieces."""


class EventFilter:
    """Feed it body bytes in any chunking; it gives back whole events.

    `events` counts the data events that were passed on, without `[DONE]`.
    """

    __slots__ = ("_hide_usage", "_tail", "done", "events", "usage")

    def __init__(self, *, hide_usage: bool) -> None:
        self._hide_usage = hide_usage
        self._tail = b""
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
                return data
            self._tail = data[end:]
            data = data[:end]
            if not data:
                return b""
        # The cheap test first: most reads hold one small event with neither usage nor [DONE].
        if b'"usage"' in data and _USAGE_OBJECT.search(data):
            data = self._take_usage(data)
        self.events += data.count(b"\n\ndata: ") + data.startswith(b"data: ")
        # A line break inside JSON is escaped, so text that a model writes cannot look like this line.
        if data.startswith(_DONE) or _LATER_DONE in data:
            self.events -= 1
            self.done = True
        return data

    def end(self) -> bytes:
        """What is left when the body ends without a final blank line."""
        tail, self._tail = self._tail, b""
        return tail

    def _take_usage(self, data: bytes) -> bytes:
        kept = []
        for event in _split(data):
            usage = find_usage(event)
            if usage is not None:
                self.usage = usage
                if self._hide_usage and _NO_CHOICES.search(event):
                    continue
            kept.append(event)
        return b"".join(kept)


def _last_boundary(data: bytes) -> int:
    """The index after the last blank line, or 0."""
    lf = data.rfind(b"\n\n")
    crlf = data.rfind(b"\r\n\r\n")
    return max(lf + 2 if lf >= 0 else 0, crlf + 4 if crlf >= 0 else 0)


def _split(data: bytes) -> list[bytes]:
    boundary = b"\r\n\r\n" if b"\r\n\r\n" in data else b"\n\n"
    return [part + boundary for part in data.split(boundary) if part]
