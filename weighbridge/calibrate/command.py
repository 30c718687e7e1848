"""`weighbridge calibrate`: measure a live replica, fit it against its price, write the calibration file."""

import asyncio
import random
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import aiohttp
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from estimator.accelerator import ACCELERATORS, Accelerator, accelerator_names, find_accelerator
from estimator.architecture import Architecture
from estimator.engine import Engine
from estimator.work import kv_capacity_tokens
from weighbridge.calibrate.file import Errors, Result, judge, step_of, to_json
from weighbridge.calibrate.measure import Measured, measure
from weighbridge.calibrate.plan import LEAST_POINTS, BadPlan, DecodeProbe, PrefillProbe, Probe, make_plan
from weighbridge.calibrate.probe import Prober
from weighbridge.config_errors import did_you_mean
from weighbridge.config_fields import replica_url
from weighbridge.terminal import width
from weighbridge.weigh_pool import BadRequest, architecture_named

BAD_INPUT, FAILED = 2, 1


def register(app: typer.Typer) -> None:
    """Add the `calibrate` command to `app`."""
    app.command("calibrate")(calibrate_command)


def calibrate_command(
    url: Annotated[str, typer.Option(help="A replica's own address, http://host:port: not a gateway's.")],
    model: Annotated[str, typer.Option(help="The name that the replica serves.")],
    gpu: Annotated[str, typer.Option(help="A name from `weighbridge gpus`.")],
    architecture: Annotated[
        str | None,
        typer.Option(help="A name from `weighbridge models`, or the path of a config.json. Default: --model."),
    ] = None,
    tensor_parallel: Annotated[int, typer.Option(min=1, max=64, help="GPUs of the replica.")] = 1,
    engine: Annotated[
        Engine, typer.Option(help="The replica's model server, as in the pool's configuration.")
    ] = Engine.VLLM,
    points: Annotated[int, typer.Option(min=LEAST_POINTS, max=2000, help="Measurements.")] = LEAST_POINTS,
    max_context: Annotated[int, typer.Option(min=1, help="Longest prompt, in tokens.")] = 8192,
    max_concurrency: Annotated[int, typer.Option(min=1, max=64, help="Most requests at once.")] = 32,
    budget_tokens: Annotated[int, typer.Option(min=1, help="Stop before more tokens than this were sent.")] = 4_000_000,
    kv_tokens: Annotated[
        int | None, typer.Option(min=16, help="KV cache of the replica, as it logs it; else estimated.")
    ] = None,
    prefill_chunk_tokens: Annotated[int, typer.Option(min=16, help="As in the pool's configuration.")] = 2048,
    key: Annotated[str | None, typer.Option(help="API key.", envvar="WEIGHBRIDGE_KEY", show_envvar=True)] = None,
    patience_s: Annotated[float, typer.Option(min=0, help="How long to wait, in all, for others to leave.")] = 120.0,
    request_s: Annotated[float, typer.Option(min=1, help="A request that takes longer has failed.")] = 120.0,
    output: Annotated[Path, typer.Option(dir_okay=False, help="Where to write.")] = Path("calibration.json"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,
) -> None:
    """Measure prefill and decode of a replica that serves nobody else, and write what its price is off by."""
    console = Console(highlight=False, width=width())
    accelerator = find_accelerator(gpu)
    if accelerator is None:
        _fail(f"--gpu {gpu}: unknown GPU; {did_you_mean(gpu, ACCELERATORS, accelerator_names())}")
    try:
        address, shape = replica_url(url), architecture_named(architecture or model)
        step = step_of(shape, accelerator, tensor_parallel=tensor_parallel, engine=engine)
        capacity = _capacity(shape, accelerator, tensor_parallel, kv_tokens)
        plan = make_plan(
            points=points,
            max_context=min(max_context, shape.context_tokens or max_context),
            max_concurrency=max_concurrency,
            kv_tokens=capacity,
            chunk_tokens=prefill_chunk_tokens,
            budget_tokens=budget_tokens,
        )
    except BadRequest as error:
        text = str(error)
        _fail(text if architecture is None else text.replace("--model", "--architecture"))
    except BadPlan as error:
        _fail(str(error))
    except ValueError as error:
        _fail(f"--url {url}: {error}" if "http" in str(error) else str(error))
    if dry_run:
        console.print(_plan_table(plan))
        return
    if not output.parent.is_dir():
        _fail(f"--output {output}: its folder does not exist")
    measured = Measured()
    try:
        asyncio.run(_run(plan, measured, console, address, model, key, budget_tokens, patience_s, request_s))
    except KeyboardInterrupt:
        measured.stopped = "interrupted"
    _report_run(measured, len(plan), console)
    try:
        result = judge(step, measured.points, chunk_tokens=prefill_chunk_tokens)
    except ValueError as error:
        _fail(f"nothing is written: {error}", status=FAILED)
    text = to_json(
        result,
        measured.points,
        step,
        model=model,
        gpu=accelerator.name,
        tensor_parallel=tensor_parallel,
        chunk_tokens=prefill_chunk_tokens,
        measured_at=datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),  # noqa: TID251 (composition root)
    )
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        _fail(f"--output {output}: cannot be written: {error.strerror}", status=FAILED)
    console.print(_result_table(result))
    console.print(f"a request takes {1000 * result.fitted.request_s:.1f} ms besides its prefill; that is in no price")
    console.print(f"written: {output}. In the configuration: pools.NAME.calibration: {output}", soft_wrap=True)


async def _run(
    plan: list[Probe],
    measured: Measured,
    console: Console,
    url: str,
    model: str,
    key: str | None,
    budget_tokens: int,
    patience_s: float,
    request_s: float,
) -> None:
    headers = {"content-type": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    columns = (
        TextColumn("measuring"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("probes", total=len(plan))
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=request_s, sock_connect=10.0),
        ) as http:
            await measure(
                plan,
                Prober(http, url=url, model=model, rng=random.Random(), clock=time.perf_counter),
                http,
                url=url,
                budget_tokens=budget_tokens,
                patience_s=patience_s,
                into=measured,
                done=lambda: progress.advance(task),
            )


def _capacity(shape: Architecture, accelerator: Accelerator, gpus: int, known_tokens: int | None) -> int:
    capacity = kv_capacity_tokens(shape, accelerator, gpus) if known_tokens is None else known_tokens
    if capacity < 1:
        _fail(f"--tensor-parallel {gpus}: {shape.name} leaves no room for KV cache on {gpus} x {accelerator.name}")
    return capacity


def _report_run(measured: Measured, planned: int, console: Console) -> None:
    if measured.stopped is not None:
        console.print(f"stopped: {measured.stopped}", markup=False, soft_wrap=True)
    if measured.skipped:
        console.print(
            f"{measured.skipped} probes showed nothing: no prefix hits reported, or answers that ended early",
            markup=False,
        )
    console.print(f"{len(measured.points)} of {planned} points, {len(measured.failures)} failures")


def _plan_table(plan: list[Probe]) -> Table:
    tokens = sum(probe.tokens for probe in plan)
    most = max(probe.concurrency for probe in plan)
    table = Table(
        title=f"{len(plan)} probes, {tokens:,} tokens, at most {most} requests at once", title_justify="left", box=None
    )
    for name in ("probe", "requests", "input tokens", "cached", "output tokens"):
        table.add_column(name, justify="left" if name == "probe" else "right")
    for probe in plan:
        match probe:
            case PrefillProbe():
                cells = ("prefill", 2 if probe.cached_tokens else 1, probe.input_tokens, probe.cached_tokens, 1)
            case DecodeProbe():
                cells = ("decode", probe.sequences, probe.input_tokens, 0, probe.output_tokens)
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else cell for cell in cells))
    return table


def _result_table(result: Result) -> Table:
    scalars = result.fitted.scalars
    table = Table(box=None)
    for name in ("part", "scalar", "median error as priced", "calibrated, on points not fitted"):
        table.add_column(name, justify="left" if name == "part" else "right")
    rows: tuple[tuple[str, float, Errors | None], ...] = (
        ("prefill linear", scalars.prefill_linear, result.prefill),
        ("prefill attention", scalars.prefill_attention, None),
        ("decode shared", scalars.decode_shared, result.decode),
        ("decode KV", scalars.decode_kv, None),
    )
    for name, scalar, errors in rows:
        before, after = (errors.before, errors.after) if errors is not None else (None, None)
        table.add_row(name, f"{scalar:.3f}", _percent(before), _percent(after))
    return table


def _percent(ratio: float | None) -> str:
    return "" if ratio is None else f"{100 * ratio:.1f} %"


def _fail(message: str, *, status: int = BAD_INPUT) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(status)
