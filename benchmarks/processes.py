"""Start pinned processes, read the CPU time of their trees, and always stop them."""

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from backlog.child import spawn_blocking, stop_blocking

STOP_GRACE_S = 8.0


class BenchmarkFailed(Exception):
    """The run cannot give a trustworthy number; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """What `/proc/PID/stat` says about one process."""

    parent: int
    cpu_ticks: int
    """User and system ticks of the process and of the children that it has waited for."""


def stat_from_text(text: str) -> Stat:
    """The command name in parentheses may contain anything, so fields are counted from its last `)`."""
    fields = text[text.rindex(")") + 2 :].split()
    return Stat(parent=int(fields[1]), cpu_ticks=sum(int(field) for field in fields[11:15]))


def tree_of(root: int, stats: Mapping[int, Stat]) -> set[int]:
    """`root` and its living descendants; empty when `root` itself is gone."""
    if root not in stats:
        return set()
    tree, grew = {root}, True
    while grew:
        children = {pid for pid, stat in stats.items() if stat.parent in tree} - tree
        tree |= children
        grew = bool(children)
    return tree


def all_stats() -> dict[int, Stat]:
    """Every process, by its id."""
    stats = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended while the folder was read
                stats[int(entry.name)] = stat_from_text((entry / "stat").read_text())
    return stats


def cpu_s(pid: int) -> float:
    """CPU seconds used so far by a process and its descendants."""
    stats = all_stats()
    return sum(stats[member].cpu_ticks for member in tree_of(pid, stats)) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pinned(core: int, argv: Sequence[str]) -> list[str]:
    return ["taskset", "-c", str(core), *argv]


def run_pinned(core: int, argv: Sequence[str], *, limit_s: float) -> str:
    """Standard output of a command that must succeed on `core` within `limit_s`."""
    try:
        done = subprocess.run(pinned(core, argv), capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        raise BenchmarkFailed(f"{argv[0]} did not end within {limit_s:.0f} s") from error
    if done.returncode:
        raise BenchmarkFailed(
            f"{argv[0]} exited with {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}"
        )
    return done.stdout


class Processes:
    """A group of processes that ends with the `with` block, last started first."""

    def __init__(self, log_directory: Path) -> None:
        self._logs = log_directory
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._running):
            stop_blocking(process, grace_s=STOP_GRACE_S)

    def start(self, name: str, core: int, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start `argv` on `core`; both its streams go to `NAME.log`."""
        with (self._logs / f"{name}.log").open("ab") as log:
            process = spawn_blocking(pinned(core, argv), stdout=log, stderr=log)
        self._running.append(process)
        return process

    def wait_until_answering(
        self, name: str, process: subprocess.Popen[bytes], port: int, body: bytes, key: str, *, limit_s: float
    ) -> None:
        """Until a chat completion on `port` is answered with 200."""
        until_s = time.monotonic() + limit_s
        while answer_status(port, body, key) != 200:
            log = self._logs / f"{name}.log"
            if process.poll() is not None:
                raise BenchmarkFailed(
                    f"{name} exited with {process.returncode}: {log.read_text(errors='replace')[-2000:]}"
                )
            if time.monotonic() > until_s:
                raise BenchmarkFailed(f"{name} gave no 200 within {limit_s:.0f} s; its log is {log}")
            time.sleep(0.1)


def answer_status(port: int, body: bytes, key: str) -> int | None:
    """Status of one chat completion on a fresh connection; None when there is no answer."""
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2.0) as connection:
            connection.sendall(head.encode() + body)
            first = connection.recv(64)
    except OSError:
        return None
    words = first.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else None


def json_object(text: str) -> dict[str, Any]:
    """The JSON object that a tool printed; BenchmarkFailed if it printed something else."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BenchmarkFailed(f"expected one JSON object, got {text[:200]!r}") from error
    if not isinstance(value, dict):
        raise BenchmarkFailed(f"expected one JSON object, got {text[:200]!r}")
    return value
