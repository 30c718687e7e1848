"""A request whose bytes the gateway relays itself, between a client's connection and a replica's."""

import asyncio
from typing import TYPE_CHECKING

from gateway import breaker
from gateway.openai import ParsedRequest
from gateway.outcome import Outcome, Refusal
from gateway.pool import Pool
from gateway.relay import Relay
from gateway.replica import Replica
from gateway.reply import Client, Reply
from gateway.scheduled import Scheduled
from gateway.settings import TenantSettings
from gateway.upstream import ReplicaConnection
from gateway.usage import Usage

if TYPE_CHECKING:
    from gateway.context import Context

TRY_ELSEWHERE = frozenset({429, 500, 502, 503, 504})
FULL = frozenset({429, 503})
NOT_PORTABLE = 422
"""The spill process says so of a request that its hosted model would answer in no other way on another try."""
STALE_S = 1.0
"""A reused connection that breaks this soon after sending was most likely closed for being idle."""


class Exchange(Scheduled):
    """The client's connection and the replica's connection call it; it never awaits."""

    __slots__ = ("_connection", "_dial", "_unread", "payload", "relay", "reply", "sent_at_s", "status", "touched_at_s")
    spills = True

    def __init__(
        self,
        context: "Context",
        client: Client,
        *,
        pool: Pool,
        parsed: ParsedRequest,
        payer: TenantSettings,
        priority: int,
        payload: bytes,
        request_id: bytes,
        arrived_at_s: float,
        http10: bool,
        keep_alive: bool,
        salt: int,
    ) -> None:
        super().__init__(
            context,
            pool=pool,
            parsed=parsed,
            payer=payer,
            priority=priority,
            request_id=request_id,
            arrived_at_s=arrived_at_s,
            salt=salt,
        )
        self.payload = payload
        """Forwarded headers, a blank line and the body: all of the request after the replica's own head. Let go when
        the response begins: nobody sends it again.
        """
        self.relay = Relay(http10=http10, hide_usage=parsed.streams and not parsed.usage_asked)
        self.reply = Reply(
            client,
            self.relay,
            request_id=request_id,
            gpu_s=self.weight.gpu_s,
            keep_alive=keep_alive,
            now_s=arrived_at_s,
        )
        self.status = 0
        self.sent_at_s = 0.0
        self.touched_at_s = arrived_at_s
        self._connection: ReplicaConnection | None = None
        self._dial: asyncio.Task[None] | None = None
        self._unread = False
        """The client has not read enough of what it was written."""

    # What carries it

    def carry(self, replica: Replica, now_s: float) -> None:
        """Send the request to `replica`, over an idle connection or a new one."""
        self.touched_at_s = now_s
        connection = replica.take_idle()
        if connection is not None:
            self._send(connection)
        else:
            self._dial = replica.dial(
                connect_s=self.context.limits.connect_s, connected=self._send, failed=self._unreachable
            )

    def let_go(self) -> None:
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        connection, self._connection = self._connection, None
        if connection is not None and connection.reader is self:
            connection.abort()

    def refused(self, refusal: Refusal) -> None:
        self.reply.refuse(refusal, draining=self.context.draining)

    def waits(self) -> None:
        if self.seat is not None and self.seat.told is not None:
            self.reply.wait_estimate_s = self.seat.told.wait_s

    @property
    def reported(self) -> Usage | None:
        return self.relay.usage if self.relay.started else None

    @property
    def output_tokens(self) -> int:
        return self.relay.events

    @property
    def ran(self) -> bool:
        placed = self.flight is not None or self.spill is not None
        return self.relay.started or (placed and self._connection is not None)

    def _send(self, connection: ReplicaConnection) -> None:
        self._dial = None
        assert self.replica is not None
        self._connection = connection
        self.sent_at_s = self.touched_at_s = self.context.clock()
        connection.send(self, self.replica.heads[self.parsed.endpoint] + self.payload)
        if self._unread:
            connection.pause()

    def _unreachable(self, cause: str) -> None:
        self._dial = None
        self.try_again(cause, unreachable=True)

    # The replica's response

    def response_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Relay the head, or give up on this replica while the client has seen nothing."""
        replica = self.replica
        assert replica is not None
        self.status = status
        if self.spill is not None and status >= 400:
            self.spill_failed(f"status {status}", of_the_request=status == NOT_PORTABLE)
            return
        if status in TRY_ELSEWHERE:
            self.found_full = status in FULL
            self.try_again(f"status {status}", unreachable=self.found_full)
            return
        replica.breaker = breaker.CLOSED
        self.payload = b""
        if self.spill is not None:
            self.reply.spill_reason = self.spill.reason
        self.touched_at_s = self.context.clock()
        self.reply.head(
            status,
            headers,
            replica=replica.label,
            queue_wait_s=self.queue_wait_s,
            outcome=self._answered,
            draining=self.context.draining,
        )
        if self.relay.held is not None and status < 400:
            detail = f"the client was promised a stream of events; the replica answered {status} with something else"
            self.refuse(Refusal(Outcome.REPLICA_BROKE, detail))

    @property
    def _answered(self) -> Outcome:
        if self.spill is not None:
            return Outcome.SPILLED
        return Outcome.SERVED if self.status < 400 else Outcome.REPLICA_REFUSED

    def response_body(self, data: bytes) -> None:
        self.reply.body(data)

    def response_read(self) -> None:
        """One read is parsed: note the first token, write once."""
        if self.settled or not self.reply.pending:
            return
        now_s = self.touched_at_s = self.context.clock()
        if self.first_token_at_s is None and self.relay.first_event:
            self.first_token(now_s)
        self.reply.flush(now_s)

    def response_end(self) -> None:
        now_s = self.context.clock()
        self._connection = None
        self.reply.end()
        self.finish(self._answered, now_s)
        self.reply.done()

    def response_failed(self, cause: str) -> None:
        """The replica's connection broke. Before the first byte another replica answers; after it the stream ends."""
        connection, self._connection = self._connection, None
        if not self.relay.started:
            quick = self.context.clock() - self.sent_at_s < STALE_S
            self.try_again(cause, stale=quick and connection is not None and connection.used)
            return
        if self.relay.done_marker:
            # The model server had said all: only the end of the framing is missing.
            self.response_read()
            self.response_end()
            return
        self._break_off(
            Refusal(Outcome.REPLICA_BROKE, f"the replica stopped before the response was complete: {cause}")
        )

    def _break_off(self, refusal: Refusal) -> None:
        if self.replica is not None:
            self.replica.breaker = breaker.failed(self.replica.breaker, self.context.clock(), unreachable=False)
        self.refuse(refusal)

    # The client

    def pause(self) -> None:
        """The client reads too slowly: stop reading the replica."""
        self._unread = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """The client has caught up."""
        self._unread = False
        if self._connection is not None:
            self._connection.resume()
            self.touched_at_s = self.context.clock()

    def keep_alive(self, now_s: float) -> None:
        """Break the silence of a stream whose client reads what it is written. That is no sign of life of a replica."""
        limits = self.context.limits
        if limits.keepalive_s and self.parsed.streams:
            waiting, draining = self.flight is None and self.spill is None, self.context.draining
            self.reply.ping(now_s, silence_s=limits.keepalive_s, waiting=waiting, draining=draining)

    def check_time(self, now_s: float) -> None:
        """Give up on a replica that has not answered, or has stopped in the middle of an answer."""
        if self._connection is None or self.settled:
            return
        limits = self.context.limits
        silent_s = now_s - self.touched_at_s
        if self.spill is not None and not self.relay.started and silent_s > limits.first_byte_s:
            self.spill_failed(f"no response within {limits.first_byte_s:g} s")
        elif not self.relay.started and silent_s > limits.first_byte_s:
            if self.replica is not None:
                self.replica.breaker = breaker.failed(self.replica.breaker, now_s, unreachable=False)
            self.refuse(Refusal(Outcome.REPLICA_TIMEOUT, f"no response within {limits.first_byte_s:g} s"))
        elif self.relay.started and silent_s > limits.stalled_s and not self._connection.paused:
            self._break_off(Refusal(Outcome.REPLICA_BROKE, f"no data from the replica for {limits.stalled_s:g} s"))
        elif not self.relay.started and silent_s > breaker.TRIAL_S and self.replica is not None:
            # Answers that do not stream take minutes: nobody else would be sent there meanwhile.
            self.replica.breaker = breaker.withdrawn(self.replica.breaker)
