"""Scaling rules compared on request traces: from the options of `weighbridge autoscaler simulate` to what it prints."""

import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import typer
from rich.console import Console

from autoscaler.settings import AutoscalerSettings
from estimator.engine import Engine
from gateway.settings import PoolSettings
from weighbridge.autoscaler_rerun import BadInput, changed
from weighbridge.backtest.compare import Comparison, Row, RuleName
from weighbridge.backtest.day import DAY, FLAT
from weighbridge.backtest.pool import POOL
from weighbridge.backtest.report import footnote, headline, table_of, to_json
from weighbridge.backtest.scene import Scene, make_scene
from weighbridge.backtest.workload import rate_of, sources_of
from weighbridge.replay.synthetic import synthetic_trace
from weighbridge.replay.trace import BadTrace, TracedRequest, load_trace
from weighbridge.terminal import width
from weighbridge.weigh_pool import BadRequest, accelerator_named, architecture_named, capacity_of, pool_of

SYNTHETIC = "synthetic"
SYNTHETIC_MINUTES = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the operator asked for; help texts are with the command's options."""

    hours: float = 6.0
    rule: str | None = None
    """`None`: all."""
    tune: bool = False
    hpa_target: float | None = None
    keda_target: float | None = None
    static_replicas: int | None = None
    cold_start_s: float = 60.0
    min_replicas: int = 1
    max_replicas: int = 24
    start_replicas: int | None = None
    speed: float | None = None
    shares: str | None = None
    daily: bool = True
    model: str = "llama-3.1-8b"
    gpu: str = "L40S"
    tensor_parallel: int = 1
    slo_ttft_s: float = 2.0
    slo_tpot_s: float | None = None
    goal_ratio: float = 0.99
    seed: int = 0
    changes: tuple[str, ...] = ()
    """`key=value` of settings of the law."""


def backtest(traces: Sequence[str], options: Options, *, as_json: bool) -> None:
    """Run the rules and print what came of it. Raises BadInput."""
    name = " + ".join(trace if trace == SYNTHETIC else Path(trace).name for trace in traces)
    try:
        scene = scene_of(traces, options)
        rows = list(_rows(scene, options))
    except BadTrace as error:
        raise BadInput(f"{error}; nor is it a recording of `weighbridge autoscaler --record`") from None
    except (BadRequest, OSError, ValueError) as error:
        raise BadInput(str(error)) from None
    if as_json:
        sys.stdout.write(to_json(rows, scene, name))
        return
    console = Console(width=width(), highlight=False)
    console.print(headline(scene, name), markup=False, soft_wrap=True)
    if scene.workload.left_out:
        console.print(f"{scene.workload.left_out} requests left out: no replica holds them")
    console.print(table_of(rows, scene))
    console.print(footnote(scene))


def scene_of(traces: Sequence[str], options: Options) -> Scene:
    """Raises BadTrace, BadRequest, OSError, ValueError."""
    bounds = AutoscalerSettings(
        pool=POOL, min_replicas=options.min_replicas, max_replicas=options.max_replicas, kv_capacity_tokens=1
    )
    changed(bounds, options.changes)  # A wrong one is said before all requests are weighed.
    recorded = [_requests(trace, options.seed) for trace in traces]
    scene = make_scene(
        sources_of(recorded, options.shares),
        pool_settings(options),
        speed=options.speed,
        natural_rate_per_s=sum(map(rate_of, recorded)),
        length_s=options.hours * 3600,
        shape=DAY if options.daily else FLAT,
        min_replicas=options.min_replicas,
        max_replicas=options.max_replicas,
        cold_start_s=options.cold_start_s,
        start_replicas=options.start_replicas,
        judged_tpot_s=None,
        goal_ratio=options.goal_ratio,
        seed=options.seed,
    )
    return replace(scene, scaling=changed(scene.scaling, options.changes), changed=bool(options.changes))


def pool_settings(options: Options) -> PoolSettings:
    """The pool that the options describe. Raises BadRequest."""
    accelerator, architecture = accelerator_named(options.gpu), architecture_named(options.model)
    pool = pool_of(
        architecture,
        accelerator,
        tensor_parallel=options.tensor_parallel,
        engine=Engine.VLLM,
        capacity=capacity_of(architecture, accelerator, options.tensor_parallel),
    )
    return replace(pool, ttft_slo_s=options.slo_ttft_s, tpot_slo_s=options.slo_tpot_s)


def _rows(scene: Scene, options: Options) -> Iterator[Row]:
    comparison = Comparison(scene)
    static = options.static_replicas
    values = {
        RuleName.HPA: options.hpa_target,
        RuleName.KEDA: options.keda_target,
        RuleName.STATIC: None if static is None else float(static),
    }
    for name in RuleName if options.rule is None else [RuleName(options.rule)]:
        for row in comparison.rows(name, value=values.get(name), tune=options.tune):
            _note(row)
            yield row


def _note(row: Row) -> None:
    """One line on a terminal's standard error: a run may take half a minute."""
    if sys.stderr.isatty():
        typer.echo(f"{row.rule}: {row.result.replica_hours:.1f} replica-hours", err=True)


def _requests(trace: str, seed: int) -> list[TracedRequest]:
    rng = random.Random(seed)
    if trace == SYNTHETIC:
        return synthetic_trace(minutes=SYNTHETIC_MINUTES, rng=rng)
    return load_trace(Path(trace), rng=rng)
