"""`weighbridge autoscaler simulate`: a recording decided again, or scaling rules compared on request traces.

Which one is by the file. Options only: this is loaded wherever the autoscaler runs, so the work is imported inside.
"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    pass

BAD_INPUT = 2
SYNTHETIC = "synthetic"
RECORDINGS, TRACES = "Of a recording", "Of traces"
OF_A_RECORDING = frozenset({"config", "pool"})
OF_BOTH = frozenset({"files", "changes", "as_json"})


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


Hours = Annotated[
    float, typer.Option(min=0.01, help="Simulated time; a day is squeezed into it.", rich_help_panel=TRACES)
]
Rule = Annotated[Asked, typer.Option(help="Which rule to run.", rich_help_panel=TRACES)]
Tune = Annotated[
    bool, typer.Option("--tune", help="Also the cheapest knob of hpa, keda and static here.", rich_help_panel=TRACES)
]
HpaTarget = Annotated[
    float | None, typer.Option(min=0.1, help="Requests per replica. Default: 70.", rich_help_panel=TRACES)
]
KedaTarget = Annotated[
    float | None, typer.Option(min=0.1, help="Waiting requests per replica. Default: 5.", rich_help_panel=TRACES)
]
StaticReplicas = Annotated[
    int | None, typer.Option(min=1, help="Default: for the busiest ten minutes at 90 %.", rich_help_panel=TRACES)
]
ColdStart = Annotated[float, typer.Option(min=0.1, help="From a decision to a ready replica.", rich_help_panel=TRACES)]
Least = Annotated[int, typer.Option(min=0, rich_help_panel=TRACES)]
Most = Annotated[int, typer.Option(min=1, rich_help_panel=TRACES)]
Start = Annotated[int | None, typer.Option(min=0, help="Default: for the first ten minutes.", rich_help_panel=TRACES)]
Speed = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        help="Times the traces' own rate. Default: work for a sixth of --max-replicas.",
        rich_help_panel=TRACES,
    ),
]
Shares = Annotated[
    str | None, typer.Option(help="Requests of each trace, as 7:3. Default: by their rates.", rich_help_panel=TRACES)
]
ShapeOption = Annotated[Shape, typer.Option(help="Of the load over time.", rich_help_panel=TRACES)]
Model = Annotated[str, typer.Option(help="From `weighbridge models`, or a config.json.", rich_help_panel=TRACES)]
Gpu = Annotated[str, typer.Option(help="From `weighbridge gpus`.", rich_help_panel=TRACES)]
TensorParallel = Annotated[int, typer.Option("--tp", min=1, max=64, help="GPUs of a replica.", rich_help_panel=TRACES)]
Ttft = Annotated[
    float, typer.Option(min=0.001, help="Long prompts get 1.5 times their prefill more.", rich_help_panel=TRACES)
]
Tpot = Annotated[
    float | None,
    typer.Option(min=0.0001, help="Mean time between tokens. Default: no objective.", rich_help_panel=TRACES),
]
Goal = Annotated[float, typer.Option(min=1, max=100, help="Requests that shall meet the SLO.", rich_help_panel=TRACES)]
Seed = Annotated[int, typer.Option(help="Where in the traces to begin.", rich_help_panel=TRACES)]


def simulate(
    context: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="What `weighbridge autoscaler --record` wrote; or traces, which mix: Azure .csv, Mooncake .jsonl, "
            "'synthetic'.",
        ),
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another value of a setting. May be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="Decide with the settings of this file, not the recorded.",
            rich_help_panel=RECORDINGS,
        ),
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --config. Default: the recorded pool.", rich_help_panel=RECORDINGS),
    ] = None,
    hours: Hours = 6.0,
    rule: Rule = Asked.ALL,
    tune: Tune = False,
    hpa_target: HpaTarget = None,
    keda_target: KedaTarget = None,
    static_replicas: StaticReplicas = None,
    cold_start_s: ColdStart = 60.0,
    min_replicas: Least = 1,
    max_replicas: Most = 24,
    start_replicas: Start = None,
    speed: Speed = None,
    shares: Shares = None,
    shape: ShapeOption = Shape.DAY,
    model: Model = "llama-3.1-8b",
    gpu: Gpu = "L40S",
    tensor_parallel: TensorParallel = 1,
    slo_ttft_s: Ttft = 2.0,
    slo_tpot_s: Tpot = None,
    goal_percent: Goal = 99.0,
    seed: Seed = 0,
) -> None:
    """Decide again on a recording, with the same or other settings; or compare scaling rules on request traces."""
    from weighbridge.autoscaler_rerun import BadInput

    given = {name for name in context.params if _is_given(context, name)}
    try:
        if _is_recording(files[0]):
            if len(files) > 1 or given - OF_A_RECORDING - OF_BOTH:
                raise BadInput(f"{files[0]} is a recording: {_named(given - OF_A_RECORDING - OF_BOTH)} is for traces")
            _rerun(Path(files[0]), config=config, pool=pool, changes=changes or [], as_json=as_json)
            return
        if given & OF_A_RECORDING:
            named = _named(given & OF_A_RECORDING)
            raise BadInput(f"{files[0]}: is no recording of `weighbridge autoscaler --record`; {named} needs one")
        from weighbridge.backtest.command import Options, backtest

        options: Options = Options(
            hours=hours,
            rule=None if rule is Asked.ALL else rule.value,
            tune=tune,
            hpa_target=hpa_target,
            keda_target=keda_target,
            static_replicas=static_replicas,
            cold_start_s=cold_start_s,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            start_replicas=start_replicas,
            speed=speed,
            shares=shares,
            daily=shape is Shape.DAY,
            model=model,
            gpu=gpu,
            tensor_parallel=tensor_parallel,
            slo_ttft_s=slo_ttft_s,
            slo_tpot_s=slo_tpot_s,
            goal_ratio=goal_percent / 100,
            seed=seed,
            changes=tuple(changes or ()),
        )
        backtest(files, options, as_json=as_json)
    except BadInput as error:
        _fail(str(error))


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _rerun(file: Path, *, config: Path | None, pool: str | None, changes: list[str], as_json: bool) -> None:
    from weighbridge.autoscaler_rerun import rerun_file
    from weighbridge.autoscaler_rerun_report import print_rerun, rerun_json

    reran = rerun_file(file, config=config, pool=pool, changes=changes)
    if as_json:
        typer.echo(rerun_json(reran))
    else:
        print_rerun(reran)


def _is_recording(file: str) -> bool:
    from weighbridge.autoscaler_rerun import begins_like_a_recording

    return file != SYNTHETIC and begins_like_a_recording(Path(file))


def _named(options: set[str]) -> str:
    words = sorted(OPTION_NAMES.get(name, name) for name in options)
    return ", ".join(f"--{word.replace('_', '-')}" for word in words) or "a second file"


OPTION_NAMES = {"tensor_parallel": "tp", "as_json": "json", "changes": "set"}


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(BAD_INPUT)
