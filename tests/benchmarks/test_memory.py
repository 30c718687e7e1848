"""Which processes are a gateway's, what `/proc` says of them, and what is printed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.memory import Memory, Process, memory_of, report, rss_from_status, without_weights
from benchmarks.processes import BenchmarkFailed

PYTHON = "/usr/bin/python3 -P -m weighbridge.cli"
WORKER = "/usr/bin/python3 -P -c from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5) "
TRACKER = "/usr/bin/python3 -P -c from multiprocessing.resource_tracker import main;main(4) "


def process(pid: int, parent: int, command: str, megabytes: int) -> Process:
    return Process(pid=pid, parent=parent, command=command, rss_bytes=megabytes * 10**6)


UP = [
    process(1, 0, "python -m benchmarks.memory ", 30),
    process(2, 1, f"{PYTHON} up --config c.yaml ", 60),
    process(3, 2, f"{PYTHON} autoscaler --config r.json ", 55),
    process(4, 2, f"{PYTHON} gateway --config r.json ", 65),
    process(5, 4, TRACKER, 12),
    process(7, 4, WORKER, 51),
    process(6, 4, WORKER, 50),
    process(8, 3, WORKER, 99),
]


def test_the_resident_set_is_in_kibibytes() -> None:
    assert rss_from_status("Name:\tpython\nVmHWM:\t   60000 kB\nVmRSS:\t   50000 kB\nThreads:\t1\n") == 51_200_000


def test_a_process_that_has_ended_holds_nothing() -> None:
    assert rss_from_status("Name:\tpython\nState:\tZ (zombie)\n") == 0


def test_a_gateways_processes_are_told_from_all_others() -> None:
    assert memory_of(UP, 2) == Memory(supervisor_bytes=65_000_000, workers_bytes=(50_000_000, 51_000_000))


@pytest.mark.parametrize(
    ("processes", "workers", "message"),
    [
        pytest.param(UP[:3], 2, "0 gateways run", id="no gateway"),
        pytest.param([*UP, UP[3]], 2, "2 gateways run", id="two gateways"),
        pytest.param(UP, 3, "2 gateway workers run; they have to be 3", id="a worker is missing"),
    ],
)
def test_anything_but_one_whole_gateway_fails_the_run(processes: list[Process], workers: int, message: str) -> None:
    with pytest.raises(BenchmarkFailed, match=message):
        memory_of(processes, workers)


@pytest.mark.parametrize(
    ("largest", "verdict"),
    [
        pytest.param(79_000_000, "79.0 MB (goal: under 80 MB, kept)", id="kept"),
        pytest.param(80_000_000, "80.0 MB (goal: under 80 MB, missed)", id="missed"),
    ],
)
def test_the_report_has_ratios_and_judges_the_largest_worker(largest: int, verdict: str) -> None:
    learned = Memory(supervisor_bytes=66_000_000, workers_bytes=(50_000_000, largest))
    analytic = Memory(supervisor_bytes=60_000_000, workers_bytes=(50_000_000, 40_000_000))
    lines = [" ".join(line.split()) for line in report(learned, analytic).splitlines()]
    assert lines[1:3] == ["supervisor 66.0 60.0 1.10", "worker 0 50.0 50.0 1.00"]
    assert lines[-1].endswith(verdict)


def test_a_copy_without_weights_prices_analytically(tmp_path: Path) -> None:
    env = without_weights(tmp_path)
    code = (
        "from estimator.accelerator import ACCELERATORS; from estimator.choice import choose_step; "
        "from estimator.models import MODELS; print(choose_step(MODELS['llama-3.1-8b'], ACCELERATORS['H100']).source)"
    )
    run = [sys.executable, "-P", "-c", code]
    there = subprocess.run(run, env=env, capture_output=True, text=True, timeout=30, check=True)
    here = {**os.environ, "PYTHONPATH": env["PYTHONPATH"].partition(os.pathsep)[2]}
    shipped = subprocess.run(run, env=here, capture_output=True, text=True, timeout=30, check=True)
    assert (there.stdout.strip(), shipped.stdout.strip()) == ("analytic", "learned")
