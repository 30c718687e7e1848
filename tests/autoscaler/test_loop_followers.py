"""Several autoscalers on one pool: one leads, the others watch; and what a scaler that is refused leads to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from structlog.testing import capture_logs

from autoscaler.loop import run_autoscaler
from autoscaler.observation import Fleet
from autoscaler.scaler import ScalingFailed
from autoscaler.settings import AutoscalerSettings
from autoscaler.stats import PoolStats
from backlog.records import PoolView, ReplicaRecord
from backlog.store import Backlog
from tests.autoscaler.builders import POOL, record, report, settings
from tests.autoscaler.replicas import Clock, until


class World:
    """What several scalers share, as processes share a cluster."""

    def __init__(self, desired: int = 1) -> None:
        self.desired = desired
        self.changes: list[tuple[str, int]] = []


class WorldScaler:
    """Replicas that outlive it. `fails` is raised by `apply` until it is taken away; `meanwhile` is called by it."""

    advisory = False
    withdraws = False
    known = True
    cold_start_s: float | None = 7.0

    def __init__(self, world: World, name: str = "a") -> None:
        self.fails: Exception | None = None
        self.meanwhile: Callable[[], None] = lambda: None
        self.advanced = 0
        self.stopped = False
        self._world = world
        self._name = name

    def fleet(self) -> Fleet:
        return Fleet(desired=self._world.desired, ready=self._world.desired, pending=0, draining=0)

    def records(self) -> tuple[ReplicaRecord, ...]:
        return tuple(record(f"r{number}") for number in range(self._world.desired))

    async def advance(self, view: PoolView | None) -> None:
        self.advanced += 1

    def plan(self, desired: int) -> str | None:
        return f"all {desired} on one target"

    async def apply(self, desired: int, view: PoolView | None) -> None:
        self.meanwhile()
        if self.fails is not None:
            raise self.fails
        if desired != self._world.desired:
            self._world.desired = desired
            self._world.changes.append((self._name, desired))

    async def stop(self) -> None:
        self.stopped = True


def quick(**changes: Any) -> AutoscalerSettings:
    values: dict[str, Any] = {"polling_s": 0.1, "wake_s": 0.02, "average_s": 1.0, "kv_capacity_tokens": 1000}
    return settings(**(values | changes))


@asynccontextmanager
async def loop_of(
    scaler: WorldScaler, backlog: Backlog, leads: Callable[[], bool], scaling: AutoscalerSettings | None = None
) -> AsyncIterator[PoolStats]:
    """Runs one loop; yields its statistics."""
    stop_event, stats = asyncio.Event(), PoolStats(pool=POOL)
    run = run_autoscaler(scaling or quick(), backlog, Clock(), stop_event, scaler=scaler, leads=leads, stats=stats)
    task = asyncio.create_task(run, name="loop")
    try:
        yield stats
    finally:
        stop_event.set()
        await task


async def test_a_follower_decides_as_the_leader_would_and_writes_nothing(backlog: Backlog) -> None:
    world = World(desired=2)
    scaler = WorldScaler(world)
    await backlog.exchange(POOL, report(waiting=9, waiting_prefill_s=100.0))
    async with loop_of(scaler, backlog, lambda: False) as stats:
        await until(lambda: stats.decisions.total() >= 3)
    assert stats.record is not None
    assert stats.record.desired > 2
    view = await backlog.view(POOL)
    assert (world.changes, scaler.advanced) == ([], 0)
    assert (view.decision, view.replicas, stats.changed) == (None, None, None)
    assert scaler.stopped


async def test_a_follower_that_takes_over_decides_at_once(backlog: Backlog) -> None:
    world, leading = World(desired=1), False
    await backlog.exchange(POOL, report(waiting=9, waiting_prefill_s=100.0))
    async with loop_of(WorldScaler(world), backlog, lambda: leading, quick(polling_s=300.0, average_s=600.0)) as stats:
        await until(lambda: stats.decisions.total() == 1)
        leading = True
        await until(lambda: world.desired > 1)
    assert stats.changed is not None
    assert stats.changed.desired == world.desired


async def test_leaders_that_alternate_take_no_replica_away_and_publish_one_list(backlog: Backlog) -> None:
    """As of a rolling update of the autoscaler: the pool is idle, but nobody has watched it long enough."""
    world, leader = World(desired=3), "a"
    a, b = WorldScaler(world, "a"), WorldScaler(world, "b")
    async with (
        loop_of(a, backlog, lambda: leader == "a") as stats_a,
        loop_of(b, backlog, lambda: leader == "b") as stats_b,
    ):
        for turn in range(4):
            leader = "ab"[turn % 2]
            counts = (stats_a.decisions.total(), stats_b.decisions.total())
            await backlog.exchange(POOL, report())
            await until(lambda counts=counts: stats_a.decisions.total() > counts[0] + 1)  # type: ignore[misc]
            await until(lambda counts=counts: stats_b.decisions.total() > counts[1] + 1)  # type: ignore[misc]
    assert world.changes == []
    view = await backlog.view(POOL)
    assert view.replicas is not None
    assert len(view.replicas) == 3


async def test_the_lead_that_is_lost_while_applying_ends_the_writing(backlog: Backlog) -> None:
    world, leading = World(desired=1), True
    scaler = WorldScaler(world)

    def lose() -> None:
        nonlocal leading
        leading = False

    scaler.meanwhile = lose
    async with loop_of(scaler, backlog, lambda: leading) as stats:
        await until(lambda: stats.decisions.total() >= 2)
    view = await backlog.view(POOL)
    assert (view.decision, view.replicas) == (None, None)


async def test_replicas_that_outlive_the_loop_stay_on_the_list(backlog: Backlog) -> None:
    async with loop_of(WorldScaler(World(desired=2)), backlog, lambda: True) as stats:
        await until(lambda: stats.decisions.total() >= 1)
    view = await backlog.view(POOL)
    assert view.replicas is not None
    assert len(view.replicas) == 2


async def test_how_replicas_are_placed_is_a_step_that_is_never_the_headline(backlog: Backlog) -> None:
    async with loop_of(WorldScaler(World(desired=2)), backlog, lambda: True) as stats:
        await until(lambda: stats.decisions.total() >= 1)
    decision = (await backlog.decisions(POOL))[0]
    last = decision.steps[-1]
    assert (last.name, last.before, last.after, last.reason) == ("placement", 2, 2, "all 2 on one target")
    assert decision.headline != last.reason


async def test_a_refusal_is_reported_once_counted_each_time_and_tried_again(backlog: Backlog) -> None:
    world = World(desired=1)
    scaler = WorldScaler(world)
    scaler.fails = ScalingFailed("denied", "the role may not patch deployments/scale")
    await backlog.exchange(POOL, report(waiting=9, waiting_prefill_s=100.0))
    with capture_logs() as logs:
        async with loop_of(scaler, backlog, lambda: True) as stats:
            await until(lambda: stats.failures["denied"] >= 3)
            refused = [entry for entry in logs if entry["event"] == "scaling failed"]
            assert (await backlog.view(POOL)).decision is not None, "what was wanted is shown all the same"
            scaler.fails = None
            await until(lambda: world.desired > 1)
    assert [(entry["reason"], entry["what"]) for entry in refused] == [("denied", "apply")]
    assert sum(entry["event"] == "scaling works again" for entry in logs) == 1
    assert sum(entry["event"] == "autoscaler step failed" for entry in logs) == 0


async def test_refused_additions_do_not_use_up_the_rate_of_additions(backlog: Backlog) -> None:
    world = World(desired=1)
    scaler = WorldScaler(world)
    scaler.fails = ScalingFailed("unavailable", "no answer")
    await backlog.exchange(POOL, report(waiting=9, waiting_prefill_s=100.0))
    async with loop_of(scaler, backlog, lambda: True, quick(up_max=2, up_period_s=600.0)) as stats:
        await until(lambda: stats.failures["unavailable"] >= 3)
        scaler.fails = None
        await until(lambda: world.desired == 3)


async def test_while_the_replicas_are_not_seen_nothing_is_decided_or_shown_as_zero(backlog: Backlog) -> None:
    world = World(desired=0)
    scaler = WorldScaler(world)
    scaler.known = False
    with capture_logs() as logs:
        async with loop_of(scaler, backlog, lambda: True) as stats:
            await until(lambda: any(entry["event"].startswith("replicas are not seen") for entry in logs))
            assert (await backlog.view(POOL)).decision is None
            world.desired, scaler.known = 4, True
            await until(lambda: stats.decisions.total() >= 2)
    assert [decision.desired for decision in await backlog.decisions(POOL)][-1] == 4
    assert [entry["event"] for entry in logs if "seen" in entry["event"]] == [
        "replicas are not seen, nothing is decided",
        "replicas are seen again",
    ]
