"""Real child processes on real sockets: starts, crashes, choices, stops."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from autoscaler.process import KEPT_LOGS, ProcessScaler
from backlog.records import ReplicaState
from tests.autoscaler.builders import POOL, report, running, share, view
from tests.autoscaler.replicas import Clock, alive, exits, server, until

Make = Callable[..., ProcessScaler]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def make(clock: Clock) -> AsyncIterator[Make]:
    """Makes scalers that are stopped, with all their children, after the test."""
    made: list[ProcessScaler] = []

    def build(command: str | list[str], **changes: Any) -> ProcessScaler:
        options: dict[str, Any] = {"pool": POOL, "clock": clock, "stop_grace_s": 5.0}
        scaler = ProcessScaler(command, **(options | changes))
        made.append(scaler)
        return scaler

    yield build
    for scaler in made:
        await scaler.stop()


async def grown(scaler: ProcessScaler, replicas: int) -> None:
    await scaler.apply(replicas, view(report()))
    await until(lambda: scaler.fleet().ready == replicas, also=lambda: scaler.advance(None))
    await scaler.advance(None)


async def test_replicas_start_on_their_own_ports_and_are_ready_once_healthy(make: Make) -> None:
    scaler = make(server())
    await scaler.apply(2, None)
    assert scaler.fleet().pending == 2
    await grown(scaler, 2)
    first, second = scaler.records()
    assert first.url != second.url
    assert first.name != second.name
    assert first.ready_at_s is not None
    async with aiohttp.ClientSession() as http, http.get(first.url + "/health") as response:
        assert response.status == 200


async def test_the_cold_start_is_measured(make: Make) -> None:
    scaler = make(server())
    assert scaler.cold_start_s is None
    await grown(scaler, 1)
    (record,) = scaler.records()
    assert record.ready_at_s is not None
    assert scaler.cold_start_s == pytest.approx(record.ready_at_s - record.created_at_s)


async def test_a_replica_that_answers_with_an_error_is_not_ready_and_is_given_up(make: Make, clock: Clock) -> None:
    scaler = make(server(status=503), start_deadline_s=60.0)
    await scaler.apply(1, None)
    (pid,) = scaler.pids
    await scaler.advance(None)
    assert scaler.fleet().ready == 0
    clock.ahead_s = 61.0
    await scaler.advance(None)
    assert scaler.records() == ()
    await until(lambda: not alive(pid))


async def test_a_killed_replica_is_forgotten_and_replaced_by_the_next_decision(make: Make, clock: Clock) -> None:
    scaler = make(server())
    await grown(scaler, 2)
    victim, survivor = scaler.pids
    clock.ahead_s = 3600.0
    os.kill(victim, signal.SIGKILL)
    await until(lambda: len(scaler.records()) == 1, also=lambda: scaler.advance(None))
    assert scaler.pids == (survivor,)
    assert scaler.fleet().desired == 2
    await grown(scaler, 2)


async def test_a_replica_that_keeps_crashing_is_started_ever_more_rarely(make: Make, clock: Clock) -> None:
    scaler = make(exits())
    await scaler.apply(1, None)
    await until(lambda: scaler.records() == (), also=lambda: scaler.advance(None))
    await scaler.apply(1, None)
    assert scaler.records() == ()
    clock.ahead_s = 2.0
    await scaler.apply(1, None)
    assert len(scaler.records()) == 1


async def test_a_command_that_does_not_exist_is_a_crash(make: Make) -> None:
    scaler = make("/nonexistent/vllm serve --port {port}")
    await scaler.apply(1, None)
    assert scaler.fleet().pending == 0
    assert scaler.fleet().desired == 1


def test_a_command_without_a_port_is_refused(clock: Clock) -> None:
    with pytest.raises(ValueError, match="must contain"):
        ProcessScaler("vllm serve", pool=POOL, clock=clock)


async def test_the_replica_with_the_least_remaining_work_is_drained(make: Make) -> None:
    scaler = make(server())
    await grown(scaler, 3)
    first, second, third = (record.name for record in scaler.records())
    busy = report(
        running={
            first: share(remaining_gpu_s=5.0),
            second: share(remaining_gpu_s=1.0),
            third: share(remaining_gpu_s=4.0),
        }
    )
    other = report("w2", running={second: share(remaining_gpu_s=2.0)})
    await scaler.apply(2, view(busy, other))
    states = {record.name: record.state for record in scaler.records()}
    assert states == {first: ReplicaState.READY, second: ReplicaState.DRAINING, third: ReplicaState.READY}


async def test_among_equals_one_without_requests_is_drained_and_then_the_newest(make: Make) -> None:
    scaler = make(server())
    await grown(scaler, 3)
    first, second, third = (record.name for record in scaler.records())
    await scaler.apply(2, view(report(running={third: share(remaining_gpu_s=0.0)})))
    states = {record.name: record.state for record in scaler.records()}
    assert states == {first: ReplicaState.READY, second: ReplicaState.DRAINING, third: ReplicaState.READY}


async def test_a_draining_replica_is_stopped_once_workers_show_it_idle(make: Make) -> None:
    scaler = make(server())
    await grown(scaler, 1)
    (record,), (pid,) = scaler.records(), scaler.pids
    busy, idle = report(running={record.name: share()}), report()
    await scaler.apply(0, view(busy, at_s=0))
    for at_s in range(1, 6):
        await scaler.advance(view(busy, at_s=at_s, replicas=scaler.records()))
    assert alive(pid)
    for at_s in range(6, 9):
        await scaler.advance(view(idle, at_s=at_s, replicas=scaler.records()))
    assert scaler.records() == ()
    await until(lambda: not alive(pid))


async def test_a_draining_replica_is_revived_before_a_new_one_starts(make: Make) -> None:
    scaler = make(server())
    await grown(scaler, 2)
    before = scaler.pids
    await scaler.apply(1, view(report()))
    assert scaler.fleet().draining == 1
    await scaler.apply(2, view(report()))
    assert (scaler.pids, scaler.fleet().ready, scaler.fleet().draining) == (before, 2, 0)


async def test_a_starting_replica_is_cancelled_before_a_ready_one_is_drained(make: Make) -> None:
    scaler = make(server())
    await grown(scaler, 1)
    (ready,) = scaler.pids
    await scaler.apply(2, view(report()))
    _, starting = scaler.pids
    await scaler.apply(1, view(report()))
    assert (scaler.pids, scaler.fleet().ready) == ((ready,), 1)
    await until(lambda: not alive(starting))


async def test_a_drain_ends_at_its_deadline(make: Make, clock: Clock) -> None:
    scaler = make(server(), drain_deadline_s=30.0)
    await grown(scaler, 1)
    (record,) = scaler.records()
    busy = view(report(running={record.name: share()}))
    await scaler.apply(0, busy)
    await scaler.advance(busy)
    assert scaler.fleet().draining == 1
    clock.ahead_s = 31.0
    await scaler.advance(busy)
    assert scaler.records() == ()


async def test_nothing_is_drained_or_stopped_for_load_while_the_backlog_is_away(make: Make, clock: Clock) -> None:
    scaler = make(server(), drain_deadline_s=30.0)
    await grown(scaler, 2)
    await scaler.apply(1, view(report(running=running())))
    clock.ahead_s = 3600.0
    await scaler.advance(None)
    await scaler.apply(0, None)
    assert (scaler.fleet().ready, scaler.fleet().draining) == (1, 1)
    assert all(alive(pid) for pid in scaler.pids)


async def test_stop_ends_every_child_even_one_that_ignores_sigterm(make: Make) -> None:
    scaler = make(server(term="ignores-sigterm"), stop_grace_s=0.2)
    await grown(scaler, 2)
    pids = scaler.pids
    await scaler.stop()
    assert not any(alive(pid) for pid in pids)
    assert scaler.records() == ()
    await scaler.stop()


async def test_output_goes_to_one_file_per_replica_and_only_the_newest_are_kept(
    make: Make, clock: Clock, tmp_path: Path
) -> None:
    scaler = make(exits(), run_directory=tmp_path / "run")
    for _ in range(KEPT_LOGS + 2):
        clock.ahead_s += 100.0
        await scaler.apply(1, None)
        await until(lambda: scaler.records() == (), also=lambda: scaler.advance(None))
    logs = sorted((tmp_path / "run").iterdir())
    assert len(logs) == KEPT_LOGS
    assert all(log.read_text() == "no GPU\n" for log in logs)


async def test_the_name_can_be_part_of_the_command(make: Make, tmp_path: Path) -> None:
    command = [*exits()[:3], "import sys; print(sys.argv[1:])", "{name}", "{port}"]
    scaler = make(command, run_directory=tmp_path)
    await scaler.apply(1, None)
    (record,) = scaler.records()
    await until(lambda: scaler.records() == (), also=lambda: scaler.advance(None))
    (log,) = tmp_path.iterdir()
    assert log.read_text() == f"['{record.name}', '{record.url.rsplit(':', 1)[1]}']\n"
