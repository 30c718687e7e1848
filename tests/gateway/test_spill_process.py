"""The spill process is started, replaced when it ends, and stopped with the gateway."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway import spill_process
from gateway.spill_process import SpillProcess
from tests.flows.conftest import until

NOTE = "import os, sys, pathlib; p = pathlib.Path(sys.argv[1]); p.write_text(p.read_text() + f'{os.getpid()} ');"
"""Writes down its process id."""


@asynccontextmanager
async def kept(folder: Path, program: str) -> AsyncIterator[SpillProcess]:
    notes = folder / "notes"
    notes.write_text("")
    process = SpillProcess((sys.executable, "-c", program, str(notes)), folder / "s", clock=lambda: 0.0)
    running = asyncio.create_task(process.run(), name="kept")
    try:
        yield process
    finally:
        process.stop()
        async with asyncio.timeout(5.0):
            await running


def pids(folder: Path) -> list[int]:
    return [int(word) for word in (folder / "notes").read_text().split()]


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_it_runs_until_it_is_stopped_and_is_told_its_socket(tmp_path: Path) -> None:
    program = f"{NOTE} import time; (p.parent / 'words').write_text(' '.join(sys.argv[2:])); time.sleep(60)"
    async with kept(tmp_path, program):
        await until((tmp_path / "words").exists)
        (pid,) = pids(tmp_path)
        assert lives(pid)
    assert (tmp_path / "words").read_text() == f"--socket {tmp_path / 's'}"
    assert not lives(pid)


async def test_it_is_replaced_when_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill_process, "FIRST_RESTART_S", 0.01)
    async with kept(tmp_path, NOTE):
        await until(lambda: len(pids(tmp_path)) >= 3)


async def test_one_that_cannot_be_started_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill_process, "FIRST_RESTART_S", 0.01)
    program = tmp_path / "program"
    process = SpillProcess((str(program),), tmp_path / "s", clock=lambda: 0.0)
    running = asyncio.create_task(process.run(), name="kept")
    await asyncio.sleep(0)
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\nsleep 60\n")
    program.chmod(0o700)
    await until((tmp_path / "started").exists)
    process.stop()
    async with asyncio.timeout(5.0):
        await running
