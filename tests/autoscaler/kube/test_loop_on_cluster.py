"""The whole loop of one pool on the fake server and a real Redis: how soon it acts, and what it does in an outage."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from autoscaler.calibrator import SloCalibrator
from autoscaler.loop import Autoscaler
from autoscaler.stats import PoolStats
from backlog.records import PoolName, WorkerId, WorkerReport
from backlog.store import Backlog
from tests.autoscaler.builders import settings
from tests.autoscaler.kube.pool import Pool, a_pool
from tests.kube.server import FakeServer

POOL = PoolName("chat")
TICK_S = 5.0


@dataclass(slots=True, kw_only=True)
class Ticking:
    """A loop on a clock of its own, a decision a tick, with a gateway worker that reports before each."""

    pool: Pool
    backlog: Backlog
    loop: Autoscaler
    now: Callable[[], float]
    skip: Callable[[float], None]
    report: WorkerReport = field(default_factory=lambda: WorkerReport(worker=WorkerId("w"), started_at_s=0.0))

    async def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.skip(TICK_S)
            await self.backlog.exchange(POOL, self.report)
            await self.loop.step()


@asynccontextmanager
async def ticking(server: FakeServer, backlog: Backlog, *, replicas: int = 1) -> AsyncIterator[Ticking]:
    ahead_s = [0.0]

    def now() -> float:
        return time.time() + ahead_s[0]

    def skip(seconds: float) -> None:
        ahead_s[0] += seconds

    async with a_pool(server, replicas=replicas) as pool:
        pool.cluster.clock = now
        values = settings(max_replicas=20)
        loop = Autoscaler(
            values,
            backlog,
            now,
            scaler=pool.scaler,
            calibrator=SloCalibrator(values),
            leads=lambda: True,
            stats=PoolStats(pool=POOL),
        )
        yield Ticking(pool=pool, backlog=backlog, loop=loop, now=now, skip=skip)


async def test_a_jump_of_the_backlog_is_patched_within_two_ticks(server: FakeServer, backlog: Backlog) -> None:
    async with ticking(server, backlog) as one:
        await one.tick(3)
        assert one.pool.writes() == 0

        one.report = WorkerReport(
            worker=WorkerId("w"), started_at_s=0.0, waiting=50, waiting_prefill_s=100.0, arrived=50
        )
        ticks = 0
        while not one.pool.writes():
            await one.tick()
            ticks += 1

        assert ticks <= 2
        assert one.pool.replicas() == 5


async def test_two_minutes_without_the_api_server_lose_nothing(server: FakeServer, backlog: Backlog) -> None:
    async with ticking(server, backlog, replicas=2) as one:
        await one.tick()
        listed = (await backlog.view(POOL)).replicas
        await server.go_down()
        one.report = WorkerReport(worker=WorkerId("w"), started_at_s=0.0, waiting=50, waiting_prefill_s=100.0)

        for _ in range(5):
            one.skip(24.0 - TICK_S)
            await one.tick()

        view = await backlog.view(POOL)
        assert view.replicas == listed, "gateways keep the pods that they know"
        assert view.decision is not None
        assert view.decision.desired == 5
        await server.come_up()
        await one.tick(2)
        assert one.pool.replicas() == 5
        assert one.pool.writes() == 1


async def test_a_clock_that_jumps_an_hour_back_stops_nothing(server: FakeServer, backlog: Backlog) -> None:
    async with ticking(server, backlog, replicas=3) as one:
        await one.tick(2)
        one.skip(-3600.0)

        one.report = WorkerReport(worker=WorkerId("w"), started_at_s=0.0, waiting=50, waiting_prefill_s=100.0)
        await one.tick(2)

        assert one.pool.replicas() == 5
        one.skip(+7200.0)
        await one.tick(2)
        assert one.pool.replicas() == 5
