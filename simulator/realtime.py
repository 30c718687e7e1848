"""The engine in real time: one task steps it on an absolute schedule and wakes whoever waits for tokens."""

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum

from simulator.engine import Engine
from simulator.histogram import LatencyHistograms
from simulator.request import Completion, EngineRequest, EventKind, Rejection, RequestId, StepResult

MAX_LAG_S = 0.25
"""Real seconds that the loop may be behind its schedule and still catch up; beyond it the schedule moves."""


class FinishReason(StrEnum):
    """Why a generation ended; the first two are OpenAI's `finish_reason`."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"


class Generation:
    """The tokens of one request as they come. One consumer awaits `more`; the engine's loop calls the rest."""

    __slots__ = ("_waiter", "_wanted", "arrived_at_s", "completion", "finish", "last_at_s", "produced", "request")

    def __init__(self, request: EngineRequest, *, finish: FinishReason, arrived_at_s: float) -> None:
        self.request = request
        self.finish = finish
        """How it will end, or has ended; `abort` as soon as nothing more will come."""
        self.arrived_at_s = arrived_at_s
        self.last_at_s = arrived_at_s
        self.produced = 0
        self.completion: Completion | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._wanted = 0

    @property
    def aborted(self) -> bool:
        return self.finish is FinishReason.ABORT

    @property
    def ended(self) -> bool:
        return self.completion is not None or self.aborted

    async def more(self, seen: int) -> int:
        """Wait until more than `seen` tokens exist or the generation has ended; returns how many exist."""
        if self.produced <= seen and not self.ended:
            self._wanted = seen
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.produced

    async def end(self) -> None:
        """Wait for the end without waking for each token."""
        await self.more(self.request.output_tokens)

    def wake(self) -> None:
        """Let the consumer run if what it waits for has come."""
        waiter = self._waiter
        if waiter is not None and (self.produced > self._wanted or self.ended):
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)


class RealTimeEngine:
    """Submits, aborts and steps one `Engine`, whose seconds are `speed` times as short as real ones.

    `clock` returns real seconds from any origin, `sleep` waits for some of them. All methods run on one event loop.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        speed: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.engine = engine
        self.latencies = LatencyHistograms()
        self.finished = dict.fromkeys(FinishReason, 0)
        self.lag_s = 0.0
        """Real seconds by which the latest step was delivered late."""
        self.stopped = False
        self._speed = speed
        self._clock = clock
        self._sleep = sleep
        self._origin_s = clock()
        self._generations: dict[RequestId, Generation] = {}
        self._submitted = asyncio.Event()

    def submit(self, request: EngineRequest, *, finish: FinishReason) -> Generation | Rejection:
        now_s = self._now_s()
        rejection = self.engine.submit(request, now_s)
        if rejection is not None:
            return rejection
        generation = Generation(request, finish=finish, arrived_at_s=now_s)
        self._generations[request.request_id] = generation
        self._submitted.set()
        return generation

    def abort(self, generation: Generation) -> None:
        """Free what the generation holds, at once. Nothing happens when it has ended."""
        if generation.ended:
            return
        generation.finish = FinishReason.ABORT
        self.finished[FinishReason.ABORT] += 1
        del self._generations[generation.request.request_id]
        self.engine.abort(generation.request.request_id)
        generation.wake()

    def stop(self) -> None:
        """End every generation now. Whoever submits must look at `stopped` first."""
        self.stopped = True
        for generation in list(self._generations.values()):
            self.abort(generation)

    async def run(self) -> None:
        """Step for ever. A step's tokens are delivered when it ends, not when it begins."""
        at_s = 0.0
        while True:
            if self.engine.idle:
                self._submitted.clear()
                await self._submitted.wait()
                at_s = self._now_s()
            result = self.engine.step(at_s)
            at_s = result.ended_at_s
            # Sleeping to an instant of the schedule, not for a duration: what one step overslept does not add up.
            await self._sleep(max(0.0, (at_s - self._now_s()) / self._speed))
            self.lag_s = max(0.0, (self._now_s() - at_s) / self._speed)
            if self.lag_s > MAX_LAG_S:
                at_s = self._now_s() - MAX_LAG_S * self._speed
            self._deliver(result)

    def _deliver(self, result: StepResult) -> None:
        """Hand out a finished step. Requests aborted while it ran are gone already."""
        at_s, completed = result.ended_at_s, iter(result.completions)
        for kind, request_id in result.events:
            completion = next(completed) if kind is EventKind.FINISHED else None
            generation = self._generations.get(request_id)
            if generation is None or kind is EventKind.PREEMPTED:
                continue
            if completion is not None:
                del self._generations[request_id]
                generation.completion = completion
                self.finished[generation.finish] += 1
                self.latencies.end_to_end.observe((at_s - generation.arrived_at_s) / self._speed)
            else:
                # `last_at_s` is the arrival until there is a token.
                interval_s = (at_s - generation.last_at_s) / self._speed
                first = kind is EventKind.FIRST_TOKEN
                (self.latencies.first_token if first else self.latencies.inter_token).observe(interval_s)
                generation.last_at_s = at_s
                generation.produced += 1
            generation.wake()

    def _now_s(self) -> float:
        """Engine seconds since the start."""
        return (self._clock() - self._origin_s) * self._speed
