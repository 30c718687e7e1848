"""What the client saw of one replayed request, as a value."""

from dataclasses import dataclass
from enum import StrEnum


class Ending(StrEnum):
    """How a request ended. Everything but `COMPLETE` is a lost request."""

    COMPLETE = "complete"
    HTTP_ERROR = "http-error"
    """A status other than 200."""
    STREAM_ERROR = "stream-error"
    """An error event, or an unreadable one, inside the stream."""
    CUT_OFF = "cut-off"
    """The stream ended without a finish reason and `[DONE]`."""
    CONNECT_FAILED = "connect-failed"
    TIMED_OUT = "timed-out"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request. Instants are seconds since the replay started; `None` means that it was not seen or not said.

    TTFT and end-to-end latency count from `sent_at_s`, so a late sender does not charge its own delay to the gateway;
    `lateness_s` has that delay.
    """

    index: int
    input_tokens: int
    """Of the trace; the prompt is made to have exactly these."""
    output_tokens: int
    """Of the trace; the request asks for exactly these."""
    scheduled_at_s: float
    sent_at_s: float
    ended_at_s: float
    ending: Ending
    first_token_at_s: float | None = None
    last_token_at_s: float | None = None
    status: int | None = None
    outcome: str | None = None
    """`x-weighbridge-outcome`."""
    replica: str | None = None
    """`x-weighbridge-replica`."""
    queue_ms: float | None = None
    """`x-weighbridge-queue-ms`; not in the head of a stream that was opened while it waited."""
    predicted_gpu_s: float | None = None
    """`x-weighbridge-gpu-seconds`: the weight before the run."""
    used_input_tokens: int | None = None
    used_cached_tokens: int | None = None
    used_output_tokens: int | None = None
    token_events: int = 0
    detail: str | None = None
    """What went wrong, for people."""

    @property
    def lateness_s(self) -> float:
        """How long after its scheduled instant the client sent the request."""
        return max(0.0, self.sent_at_s - self.scheduled_at_s)

    @property
    def opened_early(self) -> bool:
        """Whether the gateway opened the stream while the request waited: it went on before the wait was known."""
        return self.status == 200 and self.predicted_gpu_s is not None and self.queue_ms is None

    @property
    def ttft_s(self) -> float | None:
        """Sent to first output token."""
        return None if self.first_token_at_s is None else self.first_token_at_s - self.sent_at_s

    @property
    def tpot_s(self) -> float | None:
        """Mean time per output token after the first; `None` under two tokens. Counts events where usage is missing."""
        tokens = self.used_output_tokens if self.used_output_tokens is not None else self.token_events
        if self.first_token_at_s is None or self.last_token_at_s is None or tokens < 2:
            return None
        return (self.last_token_at_s - self.first_token_at_s) / (tokens - 1)

    @property
    def e2e_s(self) -> float | None:
        """Sent to last byte, of complete responses only."""
        return self.ended_at_s - self.sent_at_s if self.ending is Ending.COMPLETE else None
