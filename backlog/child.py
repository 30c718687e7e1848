"""Child processes that cannot outlive their parent, and stopping them.

Each child leads its own process group, so Ctrl-C in a terminal reaches only the parent, which stops its children in
order, and `stop` can end whatever a child has started itself.

On Linux a child is killed when the *thread* that spawned it ends, even by SIGKILL: spawn from a thread that lives as
long as the child (the main thread). Elsewhere a parent that is killed leaves its children behind.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import IO, Any

Stream = int | IO[Any] | None
"""As in `subprocess`: `DEVNULL`, a file, or None to inherit. A pipe must be read, or its child stalls."""

_POLL_S = 0.01
_PR_SET_PDEATHSIG = 1
# Bound before any fork: between fork and exec only async-signal-safe work is allowed.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def die_with_parent(parent_pid: int | None = None) -> None:
    """Call between fork and exec (`preexec_fn`). With `parent_pid`, a parent that is already gone ends the child."""
    if _prctl is None:
        return
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent_pid is not None and os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)


async def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    stdout: Stream = None,
    stderr: Stream = None,
) -> Process:
    """Start `argv` bound to this process. `env` replaces the environment; None inherits it. Raises OSError."""
    return await asyncio.create_subprocess_exec(
        *argv,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        preexec_fn=partial(die_with_parent, os.getpid()),
    )


async def stop(process: Process, *, grace_s: float) -> int:
    """SIGTERM, then after `grace_s` SIGKILL to the child and all it started. Returns its exit code; may be repeated.

    Cancelled while it waits, it kills at once.
    """
    try:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await _exited(process)
    finally:
        _kill_group(process.pid)
    return await _exited(process)


def spawn_blocking(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    stdout: Stream = None,
    stderr: Stream = None,
) -> "subprocess.Popen[bytes]":
    """`spawn` for code without an event loop."""
    return subprocess.Popen(
        argv,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        preexec_fn=partial(die_with_parent, os.getpid()),
    )


def stop_blocking(process: "subprocess.Popen[bytes]", *, grace_s: float) -> int:
    """`stop` for code without an event loop."""
    try:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(grace_s)
    finally:
        _kill_group(process.pid)
    return process.wait()


async def _exited(process: Process) -> int:
    """Not `process.wait()`, which also waits for every grandchild that holds the child's pipes."""
    while process.returncode is None:  # noqa: ASYNC110 (asyncio has no event for the exit alone)
        await asyncio.sleep(_POLL_S)
    return process.returncode


def _kill_group(pid: int) -> None:
    """Kill what is left of the group that `pid` leads or led; its number is not reused while a member lives."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
