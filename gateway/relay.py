"""One replica response on its way to the client, as bytes in and bytes out. No I/O.

Bodies pass through; what is decided here is framing (chunked or by length), which headers travel, and what the response
says about itself: usage, and whether it is whole.
"""

from gateway.sse import EventFilter
from gateway.usage import Usage, find_usage

HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te",
        b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
_DROPPED = HOP_BY_HOP | {b"content-length", b"x-request-id"}
TAIL_BYTES = 2048
"""Enough to hold the usage object at the end of a body that does not stream."""

OURS = b"x-weighbridge-"
"""Headers that the gateway speaks for alone, in both directions."""
LAST_CHUNK = b"0\r\n\r\n"
PING = b": ping\n\n"
"""A comment of the event stream format: clients read over it."""
DONE = b"data: [DONE]\n\n"
MAX_HELD_BYTES = 64 * 1024
"""Of an error body that is held back to become an event; the rest is dropped."""
BODILESS = frozenset({204, 304})
"""Statuses whose responses end with the head, whatever their headers say."""


def connection_options(value: bytes) -> frozenset[bytes]:
    """The header names that a `Connection` header makes hop-by-hop (RFC 9110, section 7.6.1)."""
    return frozenset(option.strip().lower() for option in value.split(b","))


class Relay:
    """Feed it the response head, body pieces and the end; it gives back what to write to the client."""

    __slots__ = (
        "_chunked", "_close_delimited", "_events", "_tail", "first_event", "held", "hide_usage", "http10", "opened",
        "started", "uneventful",
    )  # fmt: skip

    def __init__(self, *, http10: bool, hide_usage: bool) -> None:
        self.http10 = http10
        self.hide_usage = hide_usage
        self.opened = False
        """The client has a head of ours, from before any replica answered: whatever follows is an event."""
        self.started = False
        """A replica's response is being relayed: no other replica can answer any more."""
        self.uneventful = True
        """No part of a stream has been passed on: a comment of ours would not cut an event in two."""
        self.held: bytes | None = None
        """The body of a response that does not fit into the opened stream, as far as it has come."""
        self.first_event = False
        """Output has begun: the first data event of a stream (a comment is none), or the first body byte."""
        self._chunked = False
        self._close_delimited = False
        self._events: EventFilter | None = None
        self._tail = b""

    @property
    def keeps_connection(self) -> bool:
        """Whether the client can tell where the body ends without the connection closing."""
        return not self._close_delimited

    @property
    def streams(self) -> bool:
        """Whether the response is a stream of events."""
        return self._events is not None

    @property
    def usage(self) -> Usage | None:
        """What the model server reported, once the body has ended."""
        return self._events.usage if self._events is not None else find_usage(self._tail)

    @property
    def events(self) -> int:
        """Data events passed on; 0 for a body that does not stream."""
        return self._events.events if self._events is not None else 0

    @property
    def done_marker(self) -> bool:
        """Whether a stream has shown its `[DONE]`."""
        return self._events is not None and self._events.done

    def open(self, extra: bytes, *, close: bool) -> bytes:
        """The head of a stream whose replica is not known yet. `extra` are whole header lines of our own."""
        self.opened = True
        out = [b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"]
        self._delimit(out)
        return self._finish_head(out, extra, close=close)

    def ping(self) -> bytes:
        """A comment between two events."""
        return self._frame(PING)

    def head(
        self, status: int, headers: list[tuple[bytes, bytes]], extra: bytes, *, phrase: bytes, close: bool
    ) -> bytes:
        """The response head for the client; `b""` when it has one. `extra` are whole header lines of our own."""
        self.started = True
        dropped = _DROPPED
        out = [b"HTTP/1.1 %d %b\r\n" % (status, phrase)]
        length: bytes | None = None
        for name, value in headers:
            key = name.lower()
            if key == b"content-type" and value[:17].lower() == b"text/event-stream":
                self._events = EventFilter(hide_usage=self.hide_usage)
            elif key == b"content-length":
                length = value
            elif key == b"connection":
                dropped = _DROPPED | connection_options(value)
            if key not in dropped and not key.startswith(OURS):
                out += (name, b": ", value, b"\r\n")
        if self.opened:
            if status != 200 or self._events is None:
                self._events = None
                self.held = b""
            return b""
        if status in BODILESS:
            pass
        elif length is not None and self._events is None:
            out += (b"content-length: ", length, b"\r\n")
        else:
            self._delimit(out)
        return self._finish_head(out, extra, close=close)

    def _delimit(self, out: list[bytes]) -> None:
        """Have the body end by chunks, or for HTTP/1.0 by closing."""
        if self.http10:
            self._close_delimited = True
        else:
            self._chunked = True
            out.append(b"transfer-encoding: chunked\r\n")

    def _finish_head(self, out: list[bytes], extra: bytes, *, close: bool) -> bytes:
        if close or self._close_delimited:
            out.append(b"connection: close\r\n")
        out += (extra, b"\r\n")
        return b"".join(out)

    def body(self, data: bytes) -> bytes:
        """The client's bytes for one piece of body; `b""` when it completes no event."""
        if self._events is not None:
            data = self._events.feed(data)
            if not data:
                return b""
            self.uneventful = False
            self.first_event = self._events.events > 0
        elif self.held is not None:
            if len(self.held) < MAX_HELD_BYTES:
                self.held += data[:MAX_HELD_BYTES]
            return b""
        else:
            self.first_event = True
            self._tail = data[-TAIL_BYTES:] if len(data) >= TAIL_BYTES else (self._tail + data)[-TAIL_BYTES:]
        return self._frame(data)

    def end(self, last: bytes = b"") -> bytes:
        """The end of the body; `last` is written before it (an error event)."""
        rest = (self._events.end() if self._events is not None else b"") + last
        framed = self._frame(rest) if rest else b""
        return framed + LAST_CHUNK if self._chunked else framed

    def cut(self, last: bytes) -> bytes:
        """The end of a stream that broke: what is unfinished is dropped, `last` is written as an event of its own."""
        begun = self._events.cut() if self._events is not None else b""
        framed = self._frame(begun + last)
        return framed + LAST_CHUNK if self._chunked else framed

    def _frame(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data
