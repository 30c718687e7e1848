"""The replica's side of the wire: one connection, one response at a time, handed on as it comes."""

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

import httptools

if TYPE_CHECKING:
    from gateway.replica import Replica


class ResponseReader(Protocol):
    """Who wants the response of a request that was sent to a replica."""

    def response_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None: ...
    def response_body(self, data: bytes) -> None: ...
    def response_read(self) -> None:
        """The bytes of one read are all handed on: time to write."""

    def response_end(self) -> None: ...
    def response_failed(self, cause: str) -> None:
        """The connection is gone before the end."""


class ReplicaConnection(asyncio.Protocol):
    """A keep-alive connection to a replica. `reader` is the request it is busy with."""

    __slots__ = (
        "_complete", "_headed", "_headers", "_interim", "_keep_alive", "_parser", "_replica", "_surplus", "paused",
        "reader", "transport", "used",
    )  # fmt: skip

    def __init__(self, replica: "Replica") -> None:
        self._replica = replica
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._interim = False
        self._complete = False
        self._keep_alive = False
        self._headed = False
        self._surplus = False
        """More has come than the response that was asked for: nothing on this connection can be trusted any more."""
        self.reader: ResponseReader | None = None
        self.transport: asyncio.Transport | None = None
        self.used = False
        """A response has come over it before: a reset may only mean that it was idle for too long."""
        self.paused = False
        """The client reads too slowly, so the replica is not read either."""

    def send(self, reader: ResponseReader, payload: bytes) -> None:
        """Write one whole request; its response goes to `reader`."""
        assert self.transport is not None
        self.reader = reader
        self._complete = self._headed = False
        self.transport.write(payload)

    def abort(self) -> None:
        """Close at once and say nothing to the reader: the model server sees the disconnect and stops generating."""
        self.reader = None
        if self.transport is not None:
            self.transport.abort()

    def pause(self) -> None:
        """Stop reading; TCP makes the replica wait."""
        if self.transport is not None and not self.paused:
            self.paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.transport is not None and self.paused:
            self.paused = False
            self.transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        reader = self.reader
        if reader is None:
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._complete:
                self._fail(f"bad response: {type(error).__name__}")
                return
            self._surplus = True
        if self.reader is not reader:
            return
        if not self._complete:
            reader.response_read()
            return
        # Written before the connection is given back: a client that reads slowly pauses it here for the last time.
        reader.response_read()
        self._release()
        reader.response_end()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._replica.forget(self)
        reader = self.reader
        framed = any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self._headers)
        if reader is not None and self._headed and not framed and exc is None:
            # Neither a length nor chunks: the close is the end of the body.
            self.reader = None
            reader.response_end()
            return
        self._fail(f"connection lost: {type(exc).__name__ if exc is not None else 'closed by the replica'}")

    def _release(self) -> None:
        self.reader = None
        self.used = True
        transport = self.transport
        if transport is None:
            return
        self.resume()
        # A response to a request that was not read to its end leaves the rest of it in the way of the next.
        whole = self._keep_alive and not self._surplus and transport.get_write_buffer_size() == 0
        if not (whole and self._replica.keeps(self)):
            transport.abort()

    def _fail(self, cause: str) -> None:
        reader, self.reader = self.reader, None
        if self.transport is not None:
            self.transport.abort()
        if reader is not None:
            reader.response_failed(cause)

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._headers = []
        self._surplus = self._complete

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._interim = status < 200
        if not (self._interim or self._surplus) and self.reader is not None:
            self._headed = True
            self.reader.response_head(status, self._headers)

    def on_body(self, data: bytes) -> None:
        if self.reader is not None and not self._surplus:
            self.reader.response_body(data)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif not self._surplus:
            # Asked here because the parser forgets it when the next message may begin.
            self._keep_alive = self._parser.should_keep_alive()
            self._complete = True
