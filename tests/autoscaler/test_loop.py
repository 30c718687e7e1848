"""The whole loop against a real Redis, with real replicas and a gateway worker's reports."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from autoscaler.advisory import AdvisoryScaler
from autoscaler.loop import run_autoscaler
from autoscaler.observation import Fleet, Override
from autoscaler.process import ProcessScaler
from autoscaler.recorder import Recorder
from autoscaler.recording import decode_recording
from autoscaler.rerun import rerun
from autoscaler.scaler import Scaler
from autoscaler.settings import AutoscalerSettings
from backlog.embedded import EmbeddedRedis
from backlog.records import DecisionRecord, PoolView, ReplicaRecord, ReplicaState, WorkerReport
from backlog.store import Backlog, BacklogUnavailable, connect
from tests.autoscaler.builders import POOL, report, settings, share
from tests.autoscaler.replicas import LIMIT_S, Clock, alive, server, until


def eager(**changes: Any) -> AutoscalerSettings:
    """Settings under which minutes become fractions of a second."""
    values: dict[str, Any] = {
        "average_s": 1.0,
        "polling_s": 0.2,
        "wake_s": 0.05,
        "window_s": 0.5,
        "warmup_s": 0.5,
        "down_every_s": 0.1,
        "cooldown_to_zero_s": 0.5,
        "fallback_after_s": 60.0,
        "kv_capacity_tokens": 1000,
    }
    return settings(**(values | changes))


class Worker:
    """A gateway worker: publishes `report` and reads the pool many times a second, whatever Redis does."""

    def __init__(self, backlog: Backlog) -> None:
        self.report: WorkerReport = report()
        self.view: PoolView | None = None
        self._backlog = backlog

    @property
    def replicas(self) -> tuple[ReplicaRecord, ...]:
        return () if self.view is None or self.view.replicas is None else self.view.replicas

    @property
    def ready(self) -> tuple[ReplicaRecord, ...]:
        return tuple(replica for replica in self.replicas if replica.state is ReplicaState.READY)

    @property
    def decision(self) -> DecisionRecord | None:
        return None if self.view is None else self.view.decision

    async def sees(self, condition: Callable[["Worker"], object]) -> None:
        """Exchange until the condition holds."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                try:
                    self.view = await self._backlog.exchange(POOL, self.report)
                except BacklogUnavailable:
                    self.view = None
                if condition(self):
                    return
                await asyncio.sleep(0.03)


@asynccontextmanager
async def autoscaling(
    scaling: AutoscalerSettings, backlog: Backlog, scaler: Scaler, **options: Any
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Runs the loop; yields what stops it."""
    stop_event = asyncio.Event()
    task = asyncio.create_task(run_autoscaler(scaling, backlog, Clock(), stop_event, scaler=scaler, **options))

    async def stop() -> None:
        stop_event.set()
        await task

    try:
        yield stop
    finally:
        await stop()


def processes(**changes: Any) -> ProcessScaler:
    return ProcessScaler(server(), pool=POOL, clock=Clock(), stop_grace_s=5.0, **changes)


async def test_the_first_replica_is_started_published_and_ended(backlog: Backlog) -> None:
    worker, scaler = Worker(backlog), processes()
    async with autoscaling(eager(), backlog, scaler) as stop:
        await worker.sees(lambda seen: len(seen.ready) == 1)
        pids = scaler.pids
        await stop()
    await worker.sees(lambda seen: seen.view and seen.view.replicas == ())
    assert not any(alive(pid) for pid in pids)


async def test_waiting_work_at_zero_replicas_is_noticed_between_two_decisions(backlog: Backlog) -> None:
    worker = Worker(backlog)
    async with autoscaling(eager(min_replicas=0, average_s=600.0, polling_s=300.0), backlog, processes()):
        await worker.sees(lambda seen: seen.decision is not None and seen.decision.desired == 0)
        worker.report = report(waiting=1, waiting_gpu_s=0.5, arrived=1)
        await worker.sees(lambda seen: len(seen.ready) == 1)
    history = await backlog.decisions(POOL)
    assert [decision.desired for decision in history] == [1, 0]
    assert history[0].headline == "1 waiting and no replica"


async def test_a_fleet_grows_with_the_work_and_drains_back_to_zero(backlog: Backlog) -> None:
    worker, scaler = Worker(backlog), processes()
    async with autoscaling(eager(min_replicas=0, max_replicas=3), backlog, scaler):
        worker.report = report(waiting=9, waiting_prefill_s=50.0, arrived=9)
        await worker.sees(lambda seen: len(seen.ready) == 3)
        pids = scaler.pids
        busy = {replica.name: share(kv_tokens=1) for replica in worker.ready[:1]}
        worker.report = report(arrived=9, running=busy)
        await worker.sees(lambda seen: len(seen.replicas) == 1)
        assert worker.replicas[0].name in busy
        worker.report = report(arrived=9)
        await worker.sees(lambda seen: seen.view and seen.view.replicas == ())
        await until(lambda: not any(alive(pid) for pid in pids))


async def test_a_replica_that_dies_is_taken_off_the_list_and_replaced(backlog: Backlog) -> None:
    worker, scaler = Worker(backlog), processes()
    async with autoscaling(eager(), backlog, scaler):
        await worker.sees(lambda seen: len(seen.ready) == 1)
        lost = worker.ready[0].name
        os.kill(scaler.pids[0], signal.SIGKILL)
        await worker.sees(lambda seen: len(seen.ready) == 1 and seen.ready[0].name != lost)


async def test_redis_killed_and_restarted_costs_no_replica_and_scaling_resumes(tmp_path: Path) -> None:
    redis = EmbeddedRedis.start(tmp_path)
    backlog = connect(redis.url, timeout_s=0.5)
    worker, scaler = Worker(backlog), processes()
    try:
        with capture_logs() as logs:
            async with autoscaling(eager(max_replicas=2), backlog, scaler):
                await worker.sees(lambda seen: len(seen.ready) == 1)
                before, pids = worker.ready, scaler.pids
                redis.stop()
                await worker.sees(lambda seen: _count(logs, "backlog unavailable, replicas are held") == 1)
                redis = EmbeddedRedis.start(tmp_path)
                await worker.sees(lambda seen: seen.ready == before)
                assert scaler.pids == pids
                worker.report = report(waiting=9, waiting_prefill_s=50.0)
                await worker.sees(lambda seen: len(seen.ready) == 2)
        assert _count(logs, "backlog unavailable, replicas are held") == 1
        assert _count(logs, "backlog available again") == 1
        assert _count(logs, "autoscaler step failed") == 0
    finally:
        await backlog.close()
        redis.stop()


async def test_a_hung_redis_does_not_stop_the_watch_over_replicas(tmp_path: Path) -> None:
    redis = EmbeddedRedis.start(tmp_path)
    backlog = connect(redis.url, timeout_s=0.2)
    worker, scaler = Worker(backlog), processes()
    try:
        with capture_logs() as logs:
            async with autoscaling(eager(), backlog, scaler):
                await worker.sees(lambda seen: len(seen.ready) == 1)
                lost = worker.ready[0].name
                os.kill(redis.pid, signal.SIGSTOP)
                os.kill(scaler.pids[0], signal.SIGKILL)
                await until(lambda: any(replica.name != lost for replica in scaler.records()))
                os.kill(redis.pid, signal.SIGCONT)
                await worker.sees(lambda seen: len(seen.ready) == 1 and seen.ready[0].name != lost)
        assert _count(logs, "backlog unavailable, replicas are held") == 1
    finally:
        os.kill(redis.pid, signal.SIGCONT)
        await backlog.close()
        redis.stop()


async def test_without_gateways_the_pool_is_held_and_says_so(backlog: Backlog) -> None:
    async with autoscaling(eager(advisory=True), backlog, AdvisoryScaler(replicas=4)):
        async with asyncio.timeout(LIMIT_S):
            while (decision := (await backlog.view(POOL)).decision) is None:
                await asyncio.sleep(0.03)
    assert decision.desired == 4
    assert decision.headline.startswith("hold: no gateway worker reports")


async def test_advisory_publishes_decisions_and_no_replicas(backlog: Backlog) -> None:
    worker = Worker(backlog)
    worker.report = report(waiting=9, waiting_prefill_s=60.6)
    async with autoscaling(eager(advisory=True), backlog, AdvisoryScaler(replicas=2)):
        await worker.sees(lambda seen: seen.decision is not None and seen.decision.desired == 3)
    assert worker.decision is not None
    assert (worker.decision.mode, worker.decision.ready) == ("advisory", 2)
    assert worker.view is not None
    assert worker.view.replicas is None


class Stopped(AdvisoryScaler):
    """At zero, and somebody said that it stays there."""

    def __init__(self, **said: Any) -> None:
        super().__init__(replicas=0)
        self._said = said

    def fleet(self) -> Fleet:
        return replace(super().fleet(), **self._said)


@pytest.mark.parametrize(
    ("said", "headline"),
    [
        ({"paused": "upgrade"}, "paused: upgrade"),
        ({"override": ("ana", 0)}, "ana set 0 at "),
    ],
    ids=["paused", "override"],
)
async def test_work_that_waits_in_a_pool_that_stays_at_zero_does_not_make_the_loop_decide_all_the_time(
    backlog: Backlog, said: dict[str, Any], headline: str
) -> None:
    if "override" in said:
        # Made now: it is respected for a while only.
        by, replicas = said["override"]
        said = {"override": Override(by=by, replicas=replicas, at_s=Clock()())}
    worker = Worker(backlog)
    scaling = eager(advisory=True, min_replicas=0, average_s=600.0, polling_s=300.0)
    async with autoscaling(scaling, backlog, Stopped(**said)):
        await worker.sees(lambda seen: seen.decision is not None)
        worker.report = report(waiting=1, waiting_gpu_s=0.5, arrived=1)
        looks = 0

        def looked(seen: Worker) -> bool:
            nonlocal looks
            looks += 1
            return looks > 10

        await worker.sees(looked)
    headlines = [decision.headline for decision in await backlog.decisions(POOL)]
    assert len(headlines) <= 2, "one at first, one for what waits"
    assert all(text.startswith(headline) for text in headlines)


async def test_what_the_loop_decides_is_recorded_and_decides_the_same_again(backlog: Backlog, tmp_path: Path) -> None:
    worker, scaling = Worker(backlog), eager(advisory=True)
    recorder = Recorder(tmp_path, scaling)
    async with autoscaling(scaling, backlog, AdvisoryScaler(replicas=2), recorder=recorder):
        await worker.sees(lambda seen: seen.decision is not None)
        worker.report = report(waiting=9, waiting_prefill_s=60.6)
        await worker.sees(lambda seen: seen.decision is not None and seen.decision.desired == 3)
    (part,) = decode_recording((tmp_path / "chat.jsonl").read_bytes()).parts
    published = await backlog.decisions(POOL)
    assert [tick.headline for tick in part.ticks] == [decision.headline for decision in reversed(published)]
    assert all(again.same for again in rerun(part, scaling))


async def test_a_failing_step_is_logged_and_the_loop_goes_on(backlog: Backlog) -> None:
    class Fragile(AdvisoryScaler):
        failed = False

        async def advance(self, view: PoolView | None) -> None:
            if not self.failed:
                self.failed = True
                raise RuntimeError("unexpected")

    worker = Worker(backlog)
    with capture_logs() as logs:
        async with autoscaling(eager(advisory=True), backlog, Fragile(replicas=1)):
            await worker.sees(lambda seen: seen.decision is not None)
    assert _count(logs, "autoscaler step failed") == 1


async def test_a_scaler_of_the_wrong_mode_is_refused(backlog: Backlog) -> None:
    with pytest.raises(ValueError, match="same mode"):
        await run_autoscaler(eager(), backlog, Clock(), asyncio.Event(), scaler=AdvisoryScaler(replicas=1))


def _count(logs: list[Any], event: str) -> int:
    return sum(1 for entry in logs if entry["event"] == event)
