"""What the engine is asked for and what it answers, as values. Times are engine seconds on the caller's clock."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, NewType, Protocol

RequestId = NewType("RequestId", str)


class StepClock(Protocol):
    """How long one step of a batch takes. `estimator.step.StepModel` is one; a test may bring its own."""

    def time_s(
        self, *, prefill_tokens: int, prefill_pairs: float, decode_sequences: int, decode_kv_tokens: int
    ) -> float:
        """Seconds of a step that prefills and decodes.

        `prefill_tokens` tokens attend to `prefill_pairs` (query, key) pairs; one token is decoded for each of
        `decode_sequences`, which read `decode_kv_tokens` tokens of KV cache between them.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Limits of one engine; the defaults are vLLM's.

    `max_context_tokens` bounds input plus output of one request and cannot exceed the KV cache: a request within it
    always runs to its end, alone if need be.
    """

    kv_tokens: int
    block_tokens: int = 16
    max_batched_tokens: int = 2048
    """Tokens of one step: one for each decoding sequence, the rest prefill."""
    max_sequences: int = 256
    max_waiting: int = 1024
    """Requests that may wait for a place in the batch; the next one is refused."""
    max_context_tokens: int
    prefix_cache: bool = True

    def __post_init__(self) -> None:
        for name in ("block_tokens", "max_sequences", "max_waiting", "max_context_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.max_batched_tokens < self.max_sequences:
            raise ValueError(
                f"max_batched_tokens is {self.max_batched_tokens}: it must be at least max_sequences "
                f"({self.max_sequences}), or decoding sequences would not all get a token in each step"
            )
        if self.max_context_tokens > self.kv_blocks * self.block_tokens:
            raise ValueError(
                f"max_context_tokens is {self.max_context_tokens}: the KV cache holds only "
                f"{self.kv_blocks * self.block_tokens} tokens"
            )

    @property
    def kv_blocks(self) -> int:
        return self.kv_tokens // self.block_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """One request: so many input tokens, exactly so many output tokens (0: an embedding, prefill alone)."""

    request_id: RequestId
    input_tokens: int
    output_tokens: int
    prefix: tuple[int, ...] = ()
    """Hashes of the leading full prompt blocks, chained; empty when nothing may be used again."""


class RejectionReason(StrEnum):
    QUEUE_FULL = "queue-full"
    CONTEXT_EXCEEDED = "context-exceeded"
    NO_INPUT = "no-input"
    DUPLICATE_ID = "duplicate-id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why a request was not taken. Only `queue-full` may be different later."""

    reason: RejectionReason
    detail: str


class EventKind(StrEnum):
    FIRST_TOKEN = "first-token"
    TOKEN = "token"
    FINISHED = "finished"
    PREEMPTED = "preempted"


class Event(NamedTuple):
    """Something that a step did to a request. The last token is followed by `finished` in the same step."""

    kind: EventKind
    request_id: RequestId


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A request that has finished: its tokens and when it passed each station."""

    request_id: RequestId
    input_tokens: int
    cached_tokens: int
    """Input tokens that the prefix cache had when the request was first scheduled."""
    output_tokens: int
    preemptions: int
    arrived_at_s: float
    scheduled_at_s: float
    first_token_at_s: float
    """For an embedding, when its prefill ended."""
    finished_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """One step. Its tokens exist from `started_at_s + duration_s` on, except that `preempted` happens at the start."""

    started_at_s: float
    duration_s: float
    events: tuple[Event, ...]
    completions: tuple[Completion, ...]
    prefill_tokens: int
    decode_sequences: int

    @property
    def ended_at_s(self) -> float:
        return self.started_at_s + self.duration_s
