"""What one client is written: the replica's response, an error in its place, and comments while a stream waits."""

from http import HTTPStatus
from typing import Any, Protocol

import msgspec

from gateway.outcome import HTTP, Outcome, Refusal, error_event, error_response
from gateway.relay import DONE, Relay

_WAITING = b"x-request-id: %b\r\nx-weighbridge-gpu-seconds: %.6f\r\n"
_EXTRA = _WAITING + b"x-weighbridge-replica: %b\r\nx-weighbridge-queue-ms: %.1f\r\nx-weighbridge-outcome: %b\r\n"
_LABELS = {outcome: outcome.value.encode() for outcome in Outcome}
_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
MAX_QUOTED = 1000
"""Characters of a replica's error text that is not an OpenAI error object."""


class Client(Protocol):
    """The connection that asked."""

    def write(self, data: bytes) -> None: ...
    def response_done(self, *, keep_alive: bool) -> None: ...
    def close(self) -> None: ...


class Reply:
    """Writes to one client. Whether an error is a response or an event is decided here, and nowhere else."""

    __slots__ = (
        "_client",
        "_gpu_s",
        "_keep_alive",
        "_out",
        "_relay",
        "_request_id",
        "_status",
        "_written_at_s",
        "spill_reason",
        "wait_estimate_s",
    )

    def __init__(
        self, client: Client, relay: Relay, *, request_id: bytes, gpu_s: float, keep_alive: bool, now_s: float
    ) -> None:
        self._client = client
        self._relay = relay
        self._request_id = request_id
        self._gpu_s = gpu_s
        self._keep_alive = keep_alive
        self._out: list[bytes] = []
        self._status = 0
        self.wait_estimate_s: float | None = None
        """What a request that had to wait was told, once that is known."""
        self.spill_reason = ""
        """Why a hosted model answers; empty when a replica does."""
        self._written_at_s = now_s
        """When the client heard something last; its request's arrival before that."""

    def ping(self, now_s: float, *, silence_s: float, waiting: bool, draining: bool) -> None:
        """A comment for a stream that has been silent for `silence_s`.

        The first one commits the status to 200, so it goes only to a request that is `waiting` for a replica. The
        others follow until the first event.
        """
        relay = self._relay
        if now_s - self._written_at_s < silence_s or not (relay.uneventful if relay.opened else waiting):
            return
        self._written_at_s = now_s
        head = b""
        if not relay.opened:
            extra = _WAITING % (self._request_id, self._gpu_s) + self._estimate()
            head = relay.open(extra, close=not self._keep_alive or draining)
        self._client.write(head + relay.ping())

    def head(
        self,
        status: int,
        headers: list[tuple[bytes, bytes]],
        *,
        replica: bytes,
        queue_wait_s: float,
        outcome: Outcome,
        draining: bool,
    ) -> None:
        """The head of the replica's response."""
        self._status = status
        extra = _EXTRA % (self._request_id, self._gpu_s, replica, queue_wait_s * 1e3, _LABELS[outcome])
        if self.wait_estimate_s is not None:
            extra += self._estimate()
        if self.spill_reason:
            extra += b"x-weighbridge-spill-reason: %b\r\n" % self.spill_reason.encode("latin-1", "replace")
        phrase = _PHRASES.get(status, b"Unknown")
        close = not self._keep_alive or draining
        written = self._relay.head(status, headers, extra, phrase=phrase, close=close)
        if written:
            self._out.append(written)

    def _estimate(self) -> bytes:
        told_s = self.wait_estimate_s
        return b"" if told_s is None else b"x-weighbridge-wait-estimate-ms: %.1f\r\n" % (told_s * 1e3)

    def body(self, data: bytes) -> None:
        framed = self._relay.body(data)
        if framed:
            self._out.append(framed)

    @property
    def pending(self) -> bool:
        """Whether there is something to flush."""
        return bool(self._out)

    def flush(self, now_s: float) -> None:
        """Write what one read of the replica has brought."""
        self._written_at_s = now_s
        self._client.write(b"".join(self._out))
        self._out.clear()

    def end(self) -> None:
        """The replica's response is whole: write what is left of it."""
        held = self._relay.held
        self._client.write(self._relay.end(b"" if held is None else refused_event(self._status, held)))

    def refuse(self, refusal: Refusal, *, draining: bool) -> None:
        """End with an error: a response, an event, or a cut, by what the client has seen."""
        relay = self._relay
        if not (relay.opened or relay.started):
            keep_alive = self._keep_alive and HTTP[refusal.outcome].status != 500 and not draining
            self._client.write(error_response(refusal, request_id=self._request_id, keep_alive=keep_alive))
            self._client.response_done(keep_alive=keep_alive)
            return
        # A read that ends in nonsense may have brought the head as well.
        self._client.write(b"".join(self._out))
        self._out.clear()
        if relay.opened or relay.streams:
            self._client.write(relay.cut(error_event(refusal)))
            self.done()
        else:
            # A body that is cut short by a close cannot be mistaken for a whole one.
            self._client.close()

    def done(self) -> None:
        """All is written: the client's next request may run."""
        self._client.response_done(keep_alive=self._keep_alive and self._relay.keeps_connection)


def refused_event(status: int, body: bytes) -> bytes:
    """A replica's error response as an event: its own OpenAI error object, else one of ours that quotes it."""
    try:
        said: Any = msgspec.json.decode(body)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        said = None
    if not (isinstance(said, dict) and said.get("error")):
        text = body.decode("utf-8", errors="replace")[:MAX_QUOTED]
        said = {
            "error": {
                "message": f"the replica answered with status {status}: {text}",
                "type": HTTP[Outcome.REPLICA_REFUSED].error_type,
                "param": None,
                "code": Outcome.REPLICA_REFUSED.value.replace("-", "_"),
            }
        }
    # Encoded again, it is one line, as an event needs.
    return b"data: " + msgspec.json.encode(said) + b"\n\n" + DONE
