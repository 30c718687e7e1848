"""The two C programs on real sockets: what one sends, the other counts."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.prerequisites import compile_c
from benchmarks.processes import Processes, answer_status, cpu_s, free_port, json_object

CORE = min(os.sched_getaffinity(0)) if sys.platform == "linux" else 0
EVENTS = 30
PROBE = b'{"model": "bench"}'

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not all(map(shutil.which, ("gcc", "taskset"))), reason="needs Linux, gcc and taskset"
)


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bin")
    return {name: compile_c(name, folder) for name in ("fixed_backend", "drain")}


@pytest.fixture
def backend_port(binaries: dict[str, Path], tmp_path: Path) -> Iterator[int]:
    port = free_port()
    with Processes(tmp_path) as processes:
        process = processes.start("backend", CORE, [str(binaries["fixed_backend"]), str(port), str(EVENTS), "10", "4"])
        processes.wait_until_answering("backend", process, port, PROBE, "any", limit_s=10.0)
        assert cpu_s(process.pid) >= 0.0
        yield port
    assert process.poll() is not None


def drain(binaries: dict[str, Path], port: int, body: Path, streams: int) -> dict[str, object]:
    argv = [str(binaries["drain"]), str(port), str(streams), "sk-bench", str(body)]
    return json_object(subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30).stdout)


@pytest.mark.parametrize("options", ["", ', "stream_options": {"include_usage": true}'], ids=["plain", "with usage"])
def test_every_event_of_every_stream_is_counted_once(
    binaries: dict[str, Path], backend_port: int, tmp_path: Path, options: str
) -> None:
    body = tmp_path / "stream.json"
    body.write_text('{"model": "bench", "stream": true' + options + "}")
    counted = drain(binaries, backend_port, body, streams=50)
    assert (counted["complete"], counted["events"], counted["refused"], counted["broken"]) == (50, 50 * EVENTS, 0, 0)


def test_a_request_for_no_stream_is_answered_at_once(binaries: dict[str, Path], backend_port: int) -> None:
    assert answer_status(backend_port, PROBE, "any") == 200


def test_nobody_listening_is_no_answer_and_no_stream(binaries: dict[str, Path], tmp_path: Path) -> None:
    body = tmp_path / "stream.json"
    body.write_text('{"model": "bench", "stream": true}')
    port = free_port()
    assert answer_status(port, PROBE, "any") is None
    assert drain(binaries, port, body, streams=3)["broken"] == 3


def test_a_backend_given_nonsense_says_how_it_is_used(binaries: dict[str, Path]) -> None:
    done = subprocess.run([str(binaries["fixed_backend"]), "1"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.split(":")[0]) == (2, "usage")
