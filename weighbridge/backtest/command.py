"""`weighbridge autoscaler simulate TRACE...`: scaling rules compared. Options and their mistakes."""

import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from estimator.engine import Engine
from weighbridge.backtest.compare import Comparison, Row, RuleName
from weighbridge.backtest.day import DAY, FLAT
from weighbridge.backtest.report import footnote, headline, table_of, to_json
from weighbridge.backtest.scene import Scene, make_scene
from weighbridge.backtest.workload import Source
from weighbridge.replay.synthetic import synthetic_trace
from weighbridge.replay.trace import BadTrace, TracedRequest, load_trace
from weighbridge.terminal import width
from weighbridge.weigh_pool import BadRequest, accelerator_named, architecture_named, capacity_of, pool_of

BAD_INPUT = 2
SYNTHETIC = "synthetic"
SYNTHETIC_MINUTES = 30.0


class Asked(StrEnum):
    """`--rule`."""

    ALL = "all"
    WEIGHBRIDGE = "weighbridge"
    HPA = "hpa"
    KEDA = "keda"
    STATIC = "static"


class Shape(StrEnum):
    """`--shape`."""

    DAY = "day"
    FLAT = "flat"


def simulate_command(
    traces: Annotated[
        list[str], typer.Argument(metavar="TRACE...", help="Azure .csv, Mooncake .jsonl, or 'synthetic'; several mix.")
    ],
    hours: Annotated[float, typer.Option(min=0.01, help="Simulated time; a whole day is squeezed into it.")] = 6.0,
    rule: Annotated[Asked, typer.Option(help="Which rule to run.")] = Asked.ALL,
    tune: Annotated[
        bool, typer.Option("--tune", help="Also the best knob of hpa, keda and static, found here.")
    ] = False,
    hpa_target: Annotated[float | None, typer.Option(min=0.1, help="Requests per replica. Default: 70.")] = None,
    keda_target: Annotated[float | None, typer.Option(min=0.1, help="Waiting ones per replica. Default: 5.")] = None,
    static_replicas: Annotated[
        int | None, typer.Option(min=1, help="Default: for the busiest ten minutes at 90 %.")
    ] = None,
    cold_start_s: Annotated[float, typer.Option(min=0.1, help="From the decision to a ready replica.")] = 60.0,
    min_replicas: Annotated[int, typer.Option(min=0)] = 1,
    max_replicas: Annotated[int, typer.Option(min=1)] = 24,
    start_replicas: Annotated[
        int | None, typer.Option(min=0, help="Ready at the beginning. Default: for the first ten minutes.")
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(min=0.001, help="Times the traces' own rate. Default: work for a sixth of --max-replicas."),
    ] = None,
    shares: Annotated[str | None, typer.Option(help="Requests of each trace, as 7:3. Default: by their rates.")] = None,
    shape: Annotated[Shape, typer.Option(help="Of the load over time.")] = Shape.DAY,
    model: Annotated[str, typer.Option(help="A name from `weighbridge models`, or a config.json.")] = "llama-3.1-8b",
    gpu: Annotated[str, typer.Option(help="A name from `weighbridge gpus`.")] = "L40S",
    tensor_parallel: Annotated[int, typer.Option("--tp", min=1, max=64, help="GPUs of a replica.")] = 1,
    slo_ttft_s: Annotated[float, typer.Option(min=0.001, help="Long prompts get 1.5 times their prefill more.")] = 2.0,
    slo_tpot_s: Annotated[
        float | None, typer.Option(min=0.0001, help="Mean time between a request's tokens. Default: no objective.")
    ] = None,
    goal_percent: Annotated[float, typer.Option(min=1, max=100, help="Requests that shall meet the SLO.")] = 99.0,
    seed: Annotated[int, typer.Option(help="Where in the traces to begin; Mooncake ticks.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One object.")] = False,
) -> None:
    """Compare scaling rules on recorded requests: replica-hours and SLO attainment, on virtual time, without Redis."""
    names = [trace if trace == SYNTHETIC else Path(trace).name for trace in traces]
    try:
        recorded = [_requests(trace, seed) for trace in traces]
        accelerator, architecture = accelerator_named(gpu), architecture_named(model)
        pool = pool_of(
            architecture,
            accelerator,
            tensor_parallel=tensor_parallel,
            engine=Engine.VLLM,
            capacity=capacity_of(architecture, accelerator, tensor_parallel),
        )
        scene = make_scene(
            sources_of(recorded, shares),
            replace(pool, ttft_slo_s=slo_ttft_s, tpot_slo_s=slo_tpot_s),
            speed=speed,
            natural_rate_per_s=sum(map(rate_of, recorded)),
            length_s=hours * 3600,
            shape=DAY if shape is Shape.DAY else FLAT,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            cold_start_s=cold_start_s,
            start_replicas=start_replicas,
            judged_tpot_s=None,
            goal_ratio=goal_percent / 100,
            seed=seed,
        )
    except (BadTrace, BadRequest, OSError, ValueError) as error:
        _fail(str(error))
    values = {
        RuleName.HPA: hpa_target,
        RuleName.KEDA: keda_target,
        RuleName.STATIC: None if static_replicas is None else float(static_replicas),
    }
    wanted = list(RuleName) if rule is Asked.ALL else [RuleName(rule)]
    name = " + ".join(names)
    try:
        rows = list(_rows(scene, wanted, values, tune=tune))
    except ValueError as error:
        _fail(str(error))
    if as_json:
        sys.stdout.write(to_json(rows, scene, name))
        return
    console = Console(width=width(), highlight=False)
    console.print(headline(scene, name), markup=False, soft_wrap=True)
    if scene.workload.left_out:
        console.print(f"{scene.workload.left_out} requests left out: no replica holds them")
    console.print(table_of(rows, scene))
    console.print(footnote(scene))


def sources_of(recorded: Sequence[Sequence[TracedRequest]], shares: str | None = None) -> list[Source]:
    """Traces with their shares of all requests, which are by their own rates unless given. Raises ValueError."""
    if shares is None:
        parts = [rate_of(requests) for requests in recorded]
    else:
        try:
            parts = [float(part) for part in shares.split(":")]
        except ValueError:
            parts = []
        if len(parts) != len(recorded) or not all(0 < part < 1e9 for part in parts):
            raise ValueError(f"--shares {shares}: must be {len(recorded)} numbers above 0 with colons between them")
    total = sum(parts)
    return [Source(requests=requests, share=part / total) for requests, part in zip(recorded, parts, strict=True)]


def rate_of(requests: Sequence[TracedRequest]) -> float:
    """Requests per second of a trace; 1 for one that takes no time."""
    return len(requests) / requests[-1].at_s if requests[-1].at_s > 0 else 1.0


def _rows(
    scene: Scene, rules: Sequence[RuleName], values: dict[RuleName, float | None], *, tune: bool
) -> Iterator[Row]:
    comparison = Comparison(scene)
    for name in rules:
        for row in comparison.rows(name, value=values.get(name), tune=tune):
            print_progress(row)
            yield row


def print_progress(row: Row) -> None:
    """One line on a terminal's standard error: runs take half a minute each."""
    if sys.stderr.isatty():
        typer.echo(f"{row.rule}: {row.result.replica_hours:.1f} replica-hours", err=True)


def _requests(trace: str, seed: int) -> list[TracedRequest]:
    rng = random.Random(seed)
    if trace == SYNTHETIC:
        return synthetic_trace(minutes=SYNTHETIC_MINUTES, rng=rng)
    return load_trace(Path(trace), rng=rng)


def _fail(message: str) -> NoReturn:
    typer.echo(f"weighbridge autoscaler simulate: {message}", err=True)
    raise typer.Exit(BAD_INPUT)
