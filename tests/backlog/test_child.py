import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

import pytest
import uvloop

from backlog import child
from tests.backlog.waiting import ended, until, until_async

SLEEP = ["sleep", "600"]
STUBBORN = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]
"""Ignores SIGTERM once it has said `ready`."""
WITH_GRANDCHILD = ["sh", "-c", "sleep 600 & echo $!; wait"]
POLITE = ["sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"]

PARENT = """
import asyncio, subprocess, sys, time
from backlog import child

def blocking():
    print(child.spawn_blocking(["sleep", "600"], stdout=subprocess.DEVNULL).pid, flush=True)
    time.sleep(600)

async def spawned():
    print((await child.spawn(["sleep", "600"], stdout=subprocess.DEVNULL)).pid, flush=True)
    await asyncio.sleep(600)

if sys.argv[1] == "blocking":
    blocking()
elif sys.argv[1] == "asyncio":
    asyncio.run(spawned())
else:
    import uvloop
    uvloop.run(spawned())
"""

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")


@linux_only
@pytest.mark.parametrize("way", ["blocking", "asyncio", "uvloop"])
def test_a_child_dies_with_a_parent_that_is_killed(way: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, way], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as parent:
        pid = int(parent.stdout.readline())
        assert not ended(pid)
        parent.kill()
        parent.wait()
        until(lambda: ended(pid))


@linux_only
def test_a_child_whose_parent_is_gone_before_it_starts_never_runs(tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    orphan = partial(child.die_with_parent, os.getpid() + 1)
    with subprocess.Popen(["touch", str(witness)], preexec_fn=orphan) as process:
        assert process.wait() == -signal.SIGKILL
    assert not witness.exists()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_stop_ends_a_child_with_sigterm_on_either_loop(run: Callable[[Coroutine[None, None, int]], int]) -> None:
    async def start_and_stop() -> int:
        return await child.stop(await child.spawn(SLEEP), grace_s=20.0)

    assert run(start_and_stop()) == -signal.SIGTERM


async def test_stop_returns_the_exit_code_that_the_child_chose() -> None:
    process = await child.spawn(POLITE, stdout=subprocess.PIPE)
    assert await process.stdout.readline() == b"ready\n"
    assert await child.stop(process, grace_s=20.0) == 7


async def test_stop_kills_a_child_that_ignores_sigterm() -> None:
    process = await child.spawn(STUBBORN, stdout=subprocess.PIPE)
    assert await process.stdout.readline() == b"ready\n"
    assert await child.stop(process, grace_s=0.05) == -signal.SIGKILL


async def test_stop_kills_what_the_child_has_started() -> None:
    process = await child.spawn(WITH_GRANDCHILD, stdout=subprocess.PIPE)
    grandchild = int(await process.stdout.readline())
    await child.stop(process, grace_s=20.0)
    await until_async(lambda: ended(grandchild))


async def test_stop_of_a_child_that_has_ended_returns_its_exit_code_each_time() -> None:
    process = await child.spawn(["sh", "-c", "exit 3"])
    await process.wait()
    assert [await child.stop(process, grace_s=1.0) for _ in range(2)] == [3, 3]


async def test_a_cancelled_stop_kills_at_once() -> None:
    process = await child.spawn(STUBBORN, stdout=subprocess.PIPE)
    assert await process.stdout.readline() == b"ready\n"
    stopping = asyncio.create_task(child.stop(process, grace_s=600.0))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert await process.wait() == -signal.SIGKILL


async def test_a_program_that_does_not_exist_is_an_error_of_the_caller() -> None:
    with pytest.raises(FileNotFoundError):
        await child.spawn(["/nonexistent/program"])


def test_environment_and_directory_are_what_the_caller_says(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("wb") as stdout:
        process = child.spawn_blocking(
            ["/bin/sh", "-c", 'echo "$ONLY:$HOME"; pwd'], env={"ONLY": "this"}, cwd=tmp_path, stdout=stdout
        )
        assert process.wait() == 0
    assert out.read_text().splitlines() == ["this:", str(tmp_path)]


@pytest.mark.parametrize(
    ("argv", "grace_s", "code"), [(SLEEP, 20.0, -signal.SIGTERM), (POLITE, 20.0, 7), (STUBBORN, 0.05, -signal.SIGKILL)]
)
def test_the_blocking_stop_does_the_same(argv: list[str], grace_s: float, code: int) -> None:
    process = child.spawn_blocking(argv, stdout=subprocess.PIPE)
    with process.stdout:
        if argv is not SLEEP:
            assert process.stdout.readline() == b"ready\n"
        assert child.stop_blocking(process, grace_s=grace_s) == code
        assert child.stop_blocking(process, grace_s=grace_s) == code


def test_a_child_leads_its_own_process_group() -> None:
    process = child.spawn_blocking(SLEEP)
    assert os.getpgid(process.pid) == process.pid
    child.stop_blocking(process, grace_s=20.0)
