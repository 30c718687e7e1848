"""`weighbridge replay`: send a trace to an endpoint, print one table, exit 1 if any request was lost."""

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from weighbridge.replay.report import Replayed, Report, Slo
from weighbridge.replay.run import NoModel, Onlooker, ReplayJob, find_only_model, replay
from weighbridge.replay.sender import SenderCounts
from weighbridge.replay.status import StatusSample
from weighbridge.replay.summary import summarize
from weighbridge.replay.synthetic import synthetic_trace
from weighbridge.replay.table import table_of, write_json
from weighbridge.replay.trace import BadTrace, TracedRequest, first_minutes, load_trace

SYNTHETIC = "synthetic"
_SYNTHETIC_MINUTES = 3.0


def register(app: typer.Typer) -> None:
    """Add the `replay` command to `app`."""
    app.command("replay")(replay_command)


def replay_command(
    url: Annotated[str, typer.Option(help="Endpoint, without /v1.")] = "http://127.0.0.1:4000",
    key: Annotated[str | None, typer.Option(help="API key.", envvar="WEIGHBRIDGE_KEY", show_envvar=True)] = None,
    trace: Annotated[str, typer.Option(help="Azure .csv, Mooncake .jsonl, or 'synthetic'.")] = SYNTHETIC,
    minutes: Annotated[
        float | None, typer.Option(help="Minutes of trace time to replay; default: all.", min=0.01)
    ] = None,
    speed: Annotated[float, typer.Option(help="Trace seconds per second.", min=0.01)] = 1.0,
    model: Annotated[str | None, typer.Option(help="Default: the only one that the endpoint serves.")] = None,
    admin_url: Annotated[
        str | None, typer.Option(help="Gateway's admin URL; adds replicas, prices, decisions.")
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Also write the report here.", dir_okay=False)
    ] = None,
    slo_ttft_s: Annotated[float | None, typer.Option(help="TTFT that counts as met, in seconds.", min=0)] = None,
    slo_tpot_s: Annotated[float | None, typer.Option(help="TPOT that counts as met, in seconds.", min=0)] = None,
    seed: Annotated[int, typer.Option(help="Of prompts, synthetic arrivals and Mooncake ticks.")] = 0,
    max_open: Annotated[int, typer.Option(help="Connections that the client may hold.", min=1)] = 1024,
) -> None:
    """Replay a request trace at its own pace, whatever the endpoint answers, and report what the client saw."""
    console = Console()
    try:
        requests = _requests(trace, minutes, seed)
        chosen = model or asyncio.run(find_only_model(url, key=key))
    except (BadTrace, NoModel, OSError) as error:
        console.print(f"weighbridge replay: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(2) from error
    job = ReplayJob(
        url=url,
        key=key,
        model=chosen,
        admin_url=admin_url,
        trace=trace if trace == SYNTHETIC else Path(trace).name,
        requests=requests,
        speed=speed,
        seed=seed,
        max_open=max_open,
    )
    report = summarize(run_replay(job, console), Slo(ttft_s=slo_ttft_s, tpot_s=slo_tpot_s))
    if json_path is not None:
        write_json(report, json_path)
    console.print(table_of(report))
    if report.lost:
        raise typer.Exit(fail_lost(report, console))


def run_replay(job: ReplayJob, console: Console) -> Replayed:
    """Replay `job` behind a progress bar."""
    with progress_of(job, console) as onlooker:
        clock, wall_clock = time.monotonic, time.time  # noqa: TID251 (composition root)
        return asyncio.run(replay(job, clock=clock, wall_clock=wall_clock, onlooker=onlooker))


def fail_lost(report: Report, console: Console) -> int:
    """Say that requests were lost; the exit status."""
    endings = ", ".join(f"{count} {name}" for name, count in report.endings.items() if name != "complete")
    text = f"{report.lost} of {report.requests} requests had no complete response ({endings})"
    console.print(text, style="red", markup=False, soft_wrap=True)
    return 1


@contextmanager
def progress_of(job: ReplayJob, console: Console) -> Iterator[Onlooker]:
    """A progress bar; yields the onlooker that moves it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
    )
    # Two frames a second: the terminal shares its cores with what is measured.
    with Progress(*columns, console=console, refresh_per_second=2) as progress:
        bar = progress.add_task("replaying", total=len(job.requests), state="")

        def look(counts: SenderCounts, sample: StatusSample | None) -> None:
            pool = None if sample is None else sample.pool_of(job.model)
            state = f"{counts.in_flight} in flight, {counts.lost} lost"
            if pool is not None:
                state += f", {_known(pool.waiting)} waiting, replicas {_known(pool.ready)}+{_known(pool.starting)}"
            progress.update(bar, completed=counts.ended, state=state)

        yield look


def _known(value: int | None) -> str:
    return "?" if value is None else str(value)


def _requests(trace: str, minutes: float | None, seed: int) -> list[TracedRequest]:
    rng = random.Random(seed)
    if trace == SYNTHETIC:
        return synthetic_trace(minutes=minutes or _SYNTHETIC_MINUTES, rng=rng)
    requests = load_trace(Path(trace), rng=rng)
    return requests if minutes is None else first_minutes(requests, minutes)
