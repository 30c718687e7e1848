"""The schedule of real-time steps, on a clock that oversleeps."""

import asyncio
from dataclasses import dataclass, field

import pytest

from simulator.realtime import MAX_LAG_S, FinishReason, Generation, RealTimeEngine
from simulator.request import RequestId
from tests.simulator.engines import engine, request


@dataclass
class Clock:
    """Time passes only in `sleep`, which takes `over_s` longer than asked, and the first one `first_over_s` more."""

    over_s: float = 0.0
    first_over_s: float = 0.0
    now_s: float = 100.0
    slept_until_s: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(0)
        self.now_s += delay_s + self.over_s + self.first_over_s
        self.first_over_s = 0.0
        self.slept_until_s.append(self.now_s)


async def play(clock: Clock, *, tokens: int, speed: float = 1.0) -> Generation:
    realtime = RealTimeEngine(engine(), speed=speed, clock=clock, sleep=clock.sleep)
    loop = asyncio.create_task(realtime.run())
    generation = realtime.submit(request("a", 4, tokens), finish=FinishReason.LENGTH)
    assert isinstance(generation, Generation)
    await generation.end()
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    return generation


@pytest.mark.parametrize("speed", [1.0, 20.0])
async def test_what_each_step_oversleeps_does_not_add_up(speed: float) -> None:
    clock = Clock(over_s=0.01)
    generation = await play(clock, tokens=50, speed=speed)
    assert generation.produced == 50
    assert clock.slept_until_s[:50] == pytest.approx([100.0 + (n + 1) / speed + 0.01 for n in range(50)])


async def test_a_loop_that_is_far_behind_moves_its_schedule_and_does_not_race_through_the_steps() -> None:
    clock = Clock(first_over_s=30.0)
    await play(clock, tokens=10)
    # The first step should have ended at 101 and was seen at 131. The next begins at most MAX_LAG_S before that.
    assert clock.slept_until_s[:4] == pytest.approx([131.0, 132.0 - MAX_LAG_S, 133.0 - MAX_LAG_S, 134.0 - MAX_LAG_S])


async def test_a_consumer_sees_every_token_and_the_completion_with_the_last() -> None:
    clock = Clock()
    realtime = RealTimeEngine(engine(), speed=1.0, clock=clock, sleep=clock.sleep)
    loop = asyncio.create_task(realtime.run())
    generation = realtime.submit(request("a", 4, 5), finish=FinishReason.STOP)
    assert isinstance(generation, Generation)
    seen = [0]
    while seen[-1] < 5:
        assert generation.completion is None
        seen.append(await generation.more(seen[-1]))
    assert generation.completion is not None
    assert seen == [0, 1, 2, 3, 4, 5]
    assert (realtime.finished[FinishReason.STOP], realtime.latencies.inter_token.total) == (1, 4.0)
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)


async def test_an_aborted_generation_wakes_its_consumer_and_is_counted_once() -> None:
    clock = Clock()
    realtime = RealTimeEngine(engine(), speed=1.0, clock=clock, sleep=clock.sleep)
    generation = realtime.submit(request("a", 4, 5), finish=FinishReason.STOP)
    assert isinstance(generation, Generation)
    waiting = asyncio.create_task(generation.more(0))
    await asyncio.sleep(0)
    realtime.abort(generation)
    realtime.abort(generation)
    assert await waiting == 0
    assert generation.aborted
    assert realtime.finished[FinishReason.ABORT] == 1
    assert not realtime.engine.abort(RequestId("a"))
