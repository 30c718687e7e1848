"""The client's side of the wire: one connection, requests read by httptools, answered in order."""

import asyncio
from collections import deque
from typing import cast

import httptools
import structlog

from gateway.context import Context
from gateway.exchange import Exchange
from gateway.outcome import Outcome, Refusal, error_response
from gateway.request import Head, too_large
from gateway.routes import Direct, authorize, begin

_log = structlog.get_logger()
LINGER_S = 2.0
"""How long the rest of a refused request is read and thrown away, so that the client sees the answer, not a reset."""


class ClientConnection(asyncio.Protocol):
    """Reads whole requests, runs them one after the other, and closes what misbehaves."""

    __slots__ = (
        "_authorization", "_body", "_body_bytes", "_closing_at_s", "_context", "_head", "_limits", "_parser",
        "_paused", "_queue", "_refused", "_tenant", "_unread", "_unsent_at_s", "_unsent_bytes", "exchange",
        "idle_since_s", "transport",
    )  # fmt: skip

    def __init__(self, context: Context) -> None:
        self._context = context
        self._limits = context.limits
        self._parser = httptools.HttpRequestParser(self)
        self._head: Head | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._queue: deque[tuple[Head, bytes, bool] | Refusal] = deque()
        self._paused = False
        """Enough requests wait here: the client is not read."""
        self._unread = False
        """The client has not read enough of what was written: no further request is run."""
        self._unsent_bytes = 0
        self._unsent_at_s = 0.0
        self._authorization: bytes | None = None
        self._tenant = ""
        self._refused = False
        """A request was refused before it was read whole: what follows on the connection is thrown away."""
        self._closing_at_s: float | None = None
        self.exchange: Exchange | None = None
        self.idle_since_s = context.clock()
        self.transport: asyncio.Transport | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self._limits.write_high_water_bytes)
        self._context.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        head, body_bytes = self._head, self._body_bytes
        try:
            self._parser.feed_data(data)
        except Refusal as refusal:
            self._refuse_reading(refusal)
        except httptools.HttpParserCallbackError as error:
            # httptools wraps what a callback raises.
            if not isinstance(error.__context__, Refusal):
                raise
            self._refuse_reading(error.__context__)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._refuse_reading(Refusal(Outcome.BAD_FRAMING, f"not a valid HTTP/1.1 request: {error}"))
        else:
            if head is not None and head is self._head:
                self._count_unfinished(head, 0 if self._body_bytes > body_bytes else len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._context.connections.discard(self)
        self._queue.clear()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_gone()

    def pause_writing(self) -> None:
        self._unread = True
        if self.exchange is not None:
            self.exchange.pause()

    def resume_writing(self) -> None:
        self._unread = False
        self._unsent_bytes = 0
        if self.exchange is not None:
            self.exchange.resume()
        elif self._queue:
            asyncio.get_running_loop().call_soon(self._next)

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._head = Head(arrived_at_s=self._context.clock())
        self._body.clear()
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        head = self._reading()
        head.target += url
        if len(head.target) > self._limits.max_header_bytes:
            raise Refusal(Outcome.HEADERS_TOO_LARGE, "request target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        head = self._head
        assert head is not None
        head.add(name, value, self._limits)

    def on_headers_complete(self) -> None:
        head = self._reading()
        head.method = self._parser.get_method()
        head.http10 = self._parser.get_http_version() == "1.0"
        head.complete = True
        if head.upgrades or head.method == b"CONNECT":
            raise Refusal(
                Outcome.BAD_FRAMING, "protocol upgrades are not supported: have the client speak plain HTTP/1.1"
            )
        # Clients repeat their key on every request of a connection.
        if not self._tenant or head.authorization != self._authorization:
            self._tenant = authorize(self._context, head)
            self._authorization = head.authorization
        head.tenant = self._tenant
        if head.expects_continue and self.exchange is None and self.transport is not None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes > self._limits.max_body_bytes:
            raise too_large(self._limits)
        self._body.append(data)

    def on_message_complete(self) -> None:
        head = self._reading()
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._head = None
        # An HTTP/1.0 client would have to be told that the connection stays open: it is closed instead.
        keep_alive = self._parser.should_keep_alive() and not head.http10
        if self.exchange is None and not self._queue and not self._unread:
            self._run(head, body, keep_alive=keep_alive)
            return
        if len(self._queue) >= self._limits.max_pipelined:
            raise Refusal(Outcome.BAD_REQUEST, f"more than {self._limits.max_pipelined} pipelined requests")
        self._queue.append((head, body, keep_alive))
        if self.transport is not None and not self._paused and len(self._queue) >= 2:
            self._paused = True
            self.transport.pause_reading()

    # Running requests

    def _reading(self) -> Head:
        assert self._head is not None
        return self._head

    def _count_unfinished(self, head: Head, more_bytes: int) -> None:
        """Bound what the parser holds of a line that does not end. A line that ends is counted by `Head.add`."""
        head.unfinished_bytes = head.unfinished_bytes + more_bytes if more_bytes else 0
        limit_bytes = self._limits.max_header_bytes
        if head.unfinished_bytes > limit_bytes:
            detail = f"request headers are larger than {limit_bytes} bytes"
            self._refuse_reading(Refusal(Outcome.HEADERS_TOO_LARGE, detail))

    def _run(self, head: Head, body: bytes, *, keep_alive: bool) -> None:
        context = self._context
        number = context.next_number()
        # The wait for a replica begins now, not when a slow or pipelining client began to send.
        head.arrived_at_s = context.clock()
        if not head.request_id:
            head.request_id = context.request_id(number)
        try:
            begun = begin(context, self, head, body, keep_alive=keep_alive, number=number)
            if isinstance(begun, Direct):
                self.write(begun.response(head, keep_alive=keep_alive and not context.draining))
                self.response_done(keep_alive=keep_alive)
                return
            self.exchange = begun
            begun.admit()
        except Exception as error:
            refusal = error if isinstance(error, Refusal) else self._fault(head, error)
            pool = self.exchange.pool if self.exchange is not None else None
            if pool is not None and self.exchange is not None:
                self.exchange.settled = True
                if not isinstance(error, Refusal):
                    self.exchange.uncharge()
                pool.stats.count(self.exchange.parsed.model, refusal.outcome.value)
            else:
                context.refused(refusal.outcome)
            keep = keep_alive and not context.draining
            response = error_response(refusal, request_id=head.request_id, keep_alive=keep)
            if head.method == b"HEAD":
                response = response[: response.index(b"\r\n\r\n") + 4]
            self.write(response)
            self.response_done(keep_alive=keep_alive)

    def _fault(self, head: Head, error: Exception) -> Refusal:
        """A bug of ours ends one request, not the connection and not the worker."""
        _log.error("request failed in the gateway", request_id=head.request_id.decode("latin-1"), exc_info=error)
        return Refusal(Outcome.GATEWAY_FAULT, "the gateway failed on this request")

    def _refuse_reading(self, refusal: Refusal) -> None:
        """A request that cannot be read to its end: answer after the ones before it, then close."""
        self._refused = True
        self._body.clear()
        if self.exchange is None and not self._queue:
            self._answer_and_close(refusal)
        else:
            self._queue.append(refusal)

    def _answer_and_close(self, refusal: Refusal) -> None:
        self._context.refused(refusal.outcome)
        request_id = self._head.request_id if self._head is not None else b""
        self.write(error_response(refusal, request_id=request_id, keep_alive=False))
        self._linger()

    def _linger(self) -> None:
        self._refused = True
        self._closing_at_s = self._context.clock() + LINGER_S
        if self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()

    # What an exchange calls

    def write(self, data: bytes) -> None:
        if self.transport is not None and data:
            self.transport.write(data)

    def response_done(self, *, keep_alive: bool) -> None:
        """The response is written: run the next request, or close."""
        self.exchange = None
        self.idle_since_s = self._context.clock()
        if not keep_alive or (self._context.draining and not self._queue):
            self.close()
            return
        if self._queue:
            # Not from here: a connection that pipelines would recurse once per request.
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        if self.exchange is not None or not self._queue or self._unread or self.transport is None:
            return
        item = self._queue.popleft()
        if self._paused and len(self._queue) < 2:
            self._paused = False
            self.transport.resume_reading()
        if isinstance(item, Refusal):
            self._answer_and_close(item)
        else:
            head, body, keep_alive = item
            self._run(head, body, keep_alive=keep_alive)

    def close(self) -> None:
        """Close when what is written has been sent."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close now; what is not sent is lost."""
        if self.transport is not None:
            self.transport.abort()

    # Time

    def check_time(self, now_s: float) -> None:
        """Close a connection that is idle, sends or reads too slowly, or lingers after a refusal."""
        limits = self._limits
        if self._stuck_s(now_s) > limits.stalled_s:
            self.abort()
        elif self._closing_at_s is not None:
            if now_s >= self._closing_at_s:
                self.close()
        elif self.exchange is not None:
            if not self._unread:
                self.exchange.keep_alive(now_s)
            self.exchange.check_time(now_s)
        elif self._head is not None:
            if now_s - self._head.arrived_at_s > limits.request_read_s:
                self._refuse_reading(
                    Refusal(Outcome.READ_TIMEOUT, f"the request was not complete within {limits.request_read_s:g} s")
                )
        elif not self._queue and (self._context.draining or now_s - self.idle_since_s > limits.idle_s):
            self.close()

    def _stuck_s(self, now_s: float) -> float:
        """How long the client has read nothing of what is there for it, when nothing is added either."""
        unsent_bytes = self.transport.get_write_buffer_size() if self.transport is not None else 0
        flows = self.exchange is not None and not self._unread
        if flows or unsent_bytes < self._unsent_bytes or self._unsent_bytes == 0:
            self._unsent_at_s = now_s
        self._unsent_bytes = unsent_bytes
        return now_s - self._unsent_at_s
