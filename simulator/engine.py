"""A model server's scheduler on virtual time: continuous batching in the order of vLLM V1.

Each step first gives every running sequence its next token (a decode) or, for the youngest, its next piece of
prompt (chunked prefill), then starts waiting requests first come first served while tokens, places and KV blocks
last. KV blocks are taken as tokens are produced; when they run out, the youngest running sequence is preempted: it
loses its KV, goes to the head of the queue and later computes it again. A request is started only when its whole
prompt would fit, so prompts do not thrash.

Nothing here knows real time: the caller passes `now_s` and waits for `duration_s`, or does not.
"""

from collections import deque
from dataclasses import dataclass, field

from estimator.work import prefill_pairs
from simulator.kv import Holding, KvCache
from simulator.request import (
    Completion,
    EngineRequest,
    EngineSettings,
    Event,
    EventKind,
    Rejection,
    RejectionReason,
    RequestId,
    StepClock,
    StepResult,
)


@dataclass(slots=True, eq=False)
class _Sequence:
    """A request inside the engine. `tokens` = input + produced; of these, `computed` have their KV in the cache."""

    request: EngineRequest
    arrived_at_s: float
    tokens: int
    computed: int = 0
    produced: int = 0
    holding: Holding = field(default_factory=Holding)
    scheduled_at_s: float | None = None
    first_token_at_s: float = 0.0
    cached_tokens: int = 0
    preemptions: int = 0


@dataclass(slots=True)
class EngineTotals:
    """Counts since the start."""

    input_tokens: int = 0
    """Input tokens of requests whose prefill has ended; recomputation after a preemption is not counted again."""
    output_tokens: int = 0
    preemptions: int = 0
    prefix_queried_tokens: int = 0
    prefix_hit_tokens: int = 0


@dataclass(slots=True)
class _Batch:
    """What one step computes."""

    sequences: list[_Sequence] = field(default_factory=list)
    chunks: list[int] = field(default_factory=list)
    prefill_tokens: int = 0
    prefill_pairs: float = 0.0
    decode_sequences: int = 0
    decode_kv_tokens: int = 0

    def add(self, sequence: _Sequence, chunk: int) -> None:
        self.sequences.append(sequence)
        self.chunks.append(chunk)
        if chunk == 1 and sequence.produced:
            self.decode_sequences += 1
            self.decode_kv_tokens += sequence.tokens
        else:
            self.prefill_tokens += chunk
            self.prefill_pairs += prefill_pairs(chunk, sequence.computed)


class Engine:
    """Requests in, steps out. Every accepted request ends once: `finished`, or by `abort`."""

    def __init__(self, settings: EngineSettings, steps: StepClock) -> None:
        self.settings = settings
        self.totals = EngineTotals()
        self.kv = KvCache(blocks=settings.kv_blocks, block_tokens=settings.block_tokens)
        self._steps = steps
        self._sequences: dict[RequestId, _Sequence] = {}
        self._running: list[_Sequence] = []
        self._waiting: deque[_Sequence] = deque()

    @property
    def running(self) -> int:
        """Sequences in the batch."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests that have arrived but are not in the batch, preempted ones included."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        return not self._sequences

    @property
    def kv_used_ratio(self) -> float:
        return self.kv.used_blocks / self.kv.blocks

    def submit(self, request: EngineRequest, now_s: float) -> Rejection | None:
        """Take a request, to be started by a later step; or say why not. Nothing is kept of a rejected one."""
        limit = self.settings.max_context_tokens
        if request.request_id in self._sequences:
            return Rejection(reason=RejectionReason.DUPLICATE_ID, detail="a request with this id is in progress")
        if request.input_tokens < 1:
            return Rejection(reason=RejectionReason.NO_INPUT, detail="the prompt has no tokens")
        if request.input_tokens + request.output_tokens > limit:
            detail = (
                f"{request.input_tokens} input tokens and {request.output_tokens} output tokens exceed the "
                f"context of {limit} tokens"
            )
            return Rejection(reason=RejectionReason.CONTEXT_EXCEEDED, detail=detail)
        if len(self._waiting) >= self.settings.max_waiting:
            detail = f"{len(self._waiting)} requests are waiting, and no more may"
            return Rejection(reason=RejectionReason.QUEUE_FULL, detail=detail)
        sequence = _Sequence(request=request, arrived_at_s=now_s, tokens=request.input_tokens)
        self._sequences[request.request_id] = sequence
        self._waiting.append(sequence)
        return None

    def abort(self, request_id: RequestId) -> bool:
        """Forget a request and free its KV blocks at once; False when it is unknown or has ended."""
        sequence = self._sequences.pop(request_id, None)
        if sequence is None:
            return False
        self.kv.release(sequence.holding)
        self._running = [other for other in self._running if other is not sequence]
        self._waiting = deque(other for other in self._waiting if other is not sequence)
        return True

    def step(self, now_s: float) -> StepResult:
        """Compute one step that begins at `now_s`. With nothing to do it takes no time and has no events."""
        batch = _Batch()
        events: list[Event] = []
        budget = self._schedule_running(batch, events)
        if not events:
            self._schedule_waiting(batch, budget, now_s)
        duration_s = 0.0
        if batch.sequences:
            duration_s = self._steps.time_s(
                prefill_tokens=batch.prefill_tokens,
                prefill_pairs=batch.prefill_pairs,
                decode_sequences=batch.decode_sequences,
                decode_kv_tokens=batch.decode_kv_tokens,
            )
        completions = self._advance(batch, now_s + duration_s, events)
        return StepResult(
            started_at_s=now_s,
            duration_s=duration_s,
            events=tuple(events),
            completions=tuple(completions),
            prefill_tokens=batch.prefill_tokens,
            decode_sequences=batch.decode_sequences,
        )

    def _schedule_running(self, batch: _Batch, events: list[Event]) -> int:
        """Add the running sequences, oldest first, preempting from the young end; returns the tokens left."""
        budget = self.settings.max_batched_tokens
        running, kv = self._running, self.kv
        index = 0
        while index < len(running) and budget:
            sequence = running[index]
            chunk = min(sequence.tokens - sequence.computed, budget)
            while index < len(running) and not kv.grow(sequence.holding, sequence.computed + chunk):
                events.append(self._preempt(running.pop()))
            if index < len(running):
                self._publish(sequence, chunk)
                batch.add(sequence, chunk)
                budget -= chunk
                index += 1
        return budget

    def _schedule_waiting(self, batch: _Batch, budget: int, now_s: float) -> None:
        """Start waiting requests in order. The first that does not fit stops the rest: nothing overtakes."""
        waiting, kv = self._waiting, self.kv
        while waiting and budget and len(self._running) < self.settings.max_sequences:
            sequence = waiting[0]
            # The last token is always computed, for it yields the first output token.
            reusable = sequence.request.prefix[: (sequence.tokens - 1) // self.settings.block_tokens]
            hits = reusable[: kv.hits(reusable)] if self.settings.prefix_cache else ()
            if not kv.fits(sequence.tokens, hits):
                break
            waiting.popleft()
            kv.share(sequence.holding, hits)
            sequence.computed = len(hits) * self.settings.block_tokens
            if sequence.scheduled_at_s is None:
                sequence.scheduled_at_s = now_s
                sequence.cached_tokens = sequence.computed
                self.totals.prefix_queried_tokens += sequence.tokens
                self.totals.prefix_hit_tokens += sequence.computed
            chunk = min(sequence.tokens - sequence.computed, budget)
            kv.grow(sequence.holding, sequence.computed + chunk)
            self._publish(sequence, chunk)
            batch.add(sequence, chunk)
            budget -= chunk
            self._running.append(sequence)

    def _publish(self, sequence: _Sequence, chunk: int) -> None:
        # A later sequence of the same step may already use these blocks: each layer writes keys before it reads them.
        if self.settings.prefix_cache and sequence.holding.published < len(sequence.request.prefix):
            self.kv.publish(sequence.holding, sequence.request.prefix, sequence.computed + chunk)

    def _preempt(self, sequence: _Sequence) -> Event:
        self.kv.release(sequence.holding)
        sequence.computed = 0
        sequence.preemptions += 1
        self.totals.preemptions += 1
        self._waiting.appendleft(sequence)
        return Event(EventKind.PREEMPTED, sequence.request.request_id)

    def _advance(self, batch: _Batch, at_s: float, events: list[Event]) -> list[Completion]:
        """Give each sequence whose tokens are all computed its next one; end those that have produced all theirs."""
        completions: list[Completion] = []
        for sequence, chunk in zip(batch.sequences, batch.chunks, strict=True):
            sequence.computed += chunk
            if sequence.computed < sequence.tokens:
                continue
            request = sequence.request
            first = not sequence.produced
            if first:
                sequence.first_token_at_s = at_s
                self.totals.input_tokens += request.input_tokens
            if request.output_tokens:
                sequence.tokens += 1
                sequence.produced += 1
                self.totals.output_tokens += 1
                events.append(Event(EventKind.FIRST_TOKEN if first else EventKind.TOKEN, request.request_id))
            if sequence.produced == request.output_tokens:
                events.append(Event(EventKind.FINISHED, request.request_id))
                completions.append(self._finish(sequence, at_s))
        if completions:
            self._running = [s for s in self._running if s.request.request_id in self._sequences]
        return completions

    def _finish(self, sequence: _Sequence, at_s: float) -> Completion:
        self.kv.release(sequence.holding)
        del self._sequences[sequence.request.request_id]
        return Completion(
            request_id=sequence.request.request_id,
            input_tokens=sequence.request.input_tokens,
            cached_tokens=sequence.cached_tokens,
            output_tokens=sequence.produced,
            preemptions=sequence.preemptions,
            arrived_at_s=sequence.arrived_at_s,
            scheduled_at_s=sequence.arrived_at_s if sequence.scheduled_at_s is None else sequence.scheduled_at_s,
            first_token_at_s=sequence.first_token_at_s,
            finished_at_s=at_s,
        )
