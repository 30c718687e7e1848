"""`weighbridge demo`: minutes of real chat traffic on a simulated fleet that grows from one replica to four and back.

Replays a trace into `weighbridge up`, waits until the fleet is back at one replica, then prints one table and every
scaling decision that changed the fleet. Exit status 1 if a request was lost or the fleet did not shrink back.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from weighbridge.demo.fleet import running_fleet, wait_for
from weighbridge.demo.plan import (
    MODEL,
    TTFT_SLO_S,
    DemoSettings,
    Workload,
    back_at_one,
    decision_lines,
    demo_price,
    introduction,
    plan,
)
from weighbridge.replay.command import SYNTHETIC, fail_lost, run_replay
from weighbridge.replay.record import Ending
from weighbridge.replay.report import Replayed, Slo
from weighbridge.replay.run import ReplayJob
from weighbridge.replay.status import StatusSample
from weighbridge.replay.summary import summarize
from weighbridge.replay.synthetic import synthetic_trace
from weighbridge.replay.table import table_of
from weighbridge.replay.trace import TracedRequest, load_trace

TRACE = Path(__file__).resolve().parents[3] / "shared/data/traces/azure2023_conv.csv"
"""Beside the repository; without it the demo runs on the synthetic workload."""

_SYNTHETIC_MINUTES = 10.0


class DemoFailed(Exception):
    """The demo cannot go on; the message is for the person who started it."""


def run(settings: DemoSettings | None = None, console: Console | None = None, trace: Path = TRACE) -> int:
    """Run the whole demo; the exit status."""
    settings, console = settings or DemoSettings(), console or Console()
    workload = plan(*_requests(trace), demo_price(), settings)
    console.print(introduction(workload, settings), markup=False, highlight=False, soft_wrap=True)
    try:
        replayed, quiet, shrunk = _replay(workload, settings, console)
    except DemoFailed as failure:
        console.print(f"weighbridge demo: {failure}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("weighbridge demo: stopped")
        return 130
    whole = replace(replayed, samples=[*replayed.samples, *quiet])
    return _conclude(whole, console, None if shrunk else settings.quiet_limit_s)


def _replay(
    workload: Workload, settings: DemoSettings, console: Console
) -> tuple[Replayed, Sequence[StatusSample], bool]:
    """The replay, the samples of the quiet after it, and whether the fleet shrank back."""
    with running_fleet(settings) as fleet:
        with console.status("starting gateway, autoscaler, Redis and one replica"):
            _, ready = asyncio.run(
                wait_for(fleet, back_at_one, limit_s=settings.up_limit_s, clock=_clock, start_s=0.0, every_s=0.25)
            )
        if not ready:
            raise DemoFailed(f"no replica was ready in time; `weighbridge up` said:\n{fleet.log_tail()}")
        job = ReplayJob(
            url=fleet.url,
            key=fleet.key,
            admin_url=fleet.admin_url,
            model=MODEL,
            trace=workload.trace,
            requests=workload.requests,
            speed=workload.speed,
        )
        replayed = run_replay(job, console)
        if any(record.ending is not Ending.COMPLETE for record in replayed.records):
            console.print(f"`weighbridge up` said:\n{fleet.log_tail()}", markup=False, soft_wrap=True)
        start_s = _clock() - replayed.wall_s
        with console.status("quiet: waiting until the fleet is back at one replica"):
            quiet, shrunk = asyncio.run(
                wait_for(fleet, back_at_one, limit_s=settings.quiet_limit_s, clock=_clock, start_s=start_s)
            )
    return replayed, quiet, shrunk


def _conclude(whole: Replayed, console: Console, quiet_limit_s: float | None) -> int:
    """Print the table and the decisions; `quiet_limit_s` is given when the fleet did not shrink back within it."""
    report = summarize(whole, Slo(ttft_s=TTFT_SLO_S))
    console.print(table_of(report))
    console.print("\nScaling decisions that changed the fleet, in seconds since the first request:", highlight=False)
    for line in decision_lines(report) or ["none"]:
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    status = fail_lost(report, console) if report.lost else 0
    if quiet_limit_s is not None:
        console.print(f"the fleet was not back at one replica after {quiet_limit_s:g} s of quiet", style="red")
        status = 1
    return status


def _requests(path: Path) -> tuple[str, list[TracedRequest]]:
    rng = random.Random(0)
    if path.is_file():
        return path.name, load_trace(path, rng=rng)
    return f"the {SYNTHETIC} workload", synthetic_trace(minutes=_SYNTHETIC_MINUTES, rng=rng)


def _clock() -> float:
    return time.monotonic()  # noqa: TID251 (composition root)
