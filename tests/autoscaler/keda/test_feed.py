"""One look for all streams, the newest value for each."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from autoscaler.keda import feed as feed_module
from autoscaler.keda.answer import Answer, Unanswered
from autoscaler.keda.feed import Feed
from backlog.records import PoolName

LIMIT_S = 10.0


class Pool:
    """A pool whose activity a test sets. `None` is unknown; `looks` counts."""

    def __init__(self, active: bool | None) -> None:
        self.active = active
        self.looks = 0
        self.broken = False

    async def look(self, pool: PoolName) -> Answer | Unanswered:
        self.looks += 1
        if self.broken:
            raise RuntimeError("a bug")
        if self.active is None:
            return Unanswered(cause="unknown")
        return Answer(replicas=int(self.active), active=self.active)


@asynccontextmanager
async def running(pool: Pool) -> AsyncIterator[Feed]:
    feed = Feed(PoolName("chat"), pool.look, poll_s=0.001)
    task = asyncio.create_task(feed.run(), name="feed")
    try:
        yield feed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def listening(feed: Feed) -> AsyncIterator[list[bool]]:
    heard: list[bool] = []

    async def write(active: bool) -> None:
        heard.append(active)

    task = asyncio.create_task(feed.tell(write), name="stream")
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not true():
            await asyncio.sleep(0.001)


async def test_a_stream_hears_the_state_and_then_each_change() -> None:
    pool = Pool(False)
    async with running(pool) as feed, listening(feed) as heard:
        await until(lambda: heard == [False])
        pool.active = True
        await until(lambda: heard == [False, True])
        looks = pool.looks
        await until(lambda: pool.looks > looks + 3)
        assert heard == [False, True]


async def test_unknown_is_silence() -> None:
    pool = Pool(True)
    async with running(pool) as feed, listening(feed) as heard:
        await until(lambda: heard == [True])
        pool.active = None
        looks = pool.looks
        await until(lambda: pool.looks > looks + 2)
        async with listening(feed) as late:
            looks = pool.looks
            await until(lambda: pool.looks > looks + 2)
            assert (heard, late) == ([True], [])
            pool.active = False
            await until(lambda: heard == [True, False] and late == [False])


async def test_nobody_listens_nobody_looks() -> None:
    pool = Pool(True)
    async with running(pool) as feed:
        for _ in range(20):
            await asyncio.sleep(0)
        assert pool.looks == 0
        async with listening(feed) as heard:
            await until(lambda: heard == [True])
        pool.active = False
        async with listening(feed) as heard:
            await until(lambda: bool(heard))
            assert heard == [False], "what was true for an earlier listener is not repeated"


async def test_a_hundred_streams_share_the_looks() -> None:
    pool = Pool(False)
    async with running(pool) as feed:
        heard: list[list[bool]] = [[] for _ in range(100)]

        async def stream(into: list[bool]) -> None:
            async def write(active: bool) -> None:
                into.append(active)

            await feed.tell(write)

        tasks = [asyncio.create_task(stream(into), name="stream") for into in heard]
        await until(lambda: all(into == [False] for into in heard))
        assert pool.looks < 100
        feed.close()
        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(*tasks)
        assert feed.listeners == 0


async def test_a_slow_stream_skips_to_the_newest_value() -> None:
    pool = Pool(False)
    gate, heard = asyncio.Event(), list[bool]()

    async def write(active: bool) -> None:
        heard.append(active)
        await gate.wait()

    async with running(pool) as feed:
        task = asyncio.create_task(feed.tell(write), name="slow stream")
        await until(lambda: heard == [False])
        for active in (True, False, True, False, True):
            pool.active = active
            looks = pool.looks
            await until(lambda looks=looks: pool.looks > looks + 1)  # type: ignore[misc]
        gate.set()
        await until(lambda: len(heard) > 1)
        assert heard == [False, True]
        feed.close()
        await task


async def test_a_failed_write_ends_its_stream_only() -> None:
    pool = Pool(True)

    async def write(active: bool) -> None:
        raise ConnectionError

    async with running(pool) as feed, listening(feed) as heard:
        with pytest.raises(ConnectionError):
            await feed.tell(write)
        await until(lambda: heard == [True])
        assert feed.listeners == 1


async def test_a_bug_in_a_look_does_not_end_the_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "FAILED_PAUSE_S", 0.001)
    pool = Pool(True)
    pool.broken = True
    async with running(pool) as feed, listening(feed) as heard:
        await until(lambda: pool.looks > 1)
        pool.broken = False
        await until(lambda: heard == [True])
