"""`weighbridge plot`: weights by input length for models and GPUs, as a PNG. Options, and what is wrong with them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from estimator.engine import Engine
from gateway.settings import PoolSettings
from weighbridge.config_fields import MOST_GPUS
from weighbridge.plot_series import (
    GPUS_AT_ONCE,
    LEAST_TOKENS,
    LINES_AT_ONCE,
    MODELS_AT_ONCE,
    PANELS_AT_ONCE,
    Series,
    longest_input,
    series_of,
)
from weighbridge.weigh_pool import (
    MOST_TOKENS,
    BadRequest,
    accelerator_named,
    architecture_named,
    capacity_of,
    pool_of,
    shown,
    sizes_too_large,
    within,
)

BAD_INPUT, FAILED = 2, 1
SHORTEST_LINE_TOKENS = 2 * LEAST_TOKENS


def register(app: typer.Typer) -> None:
    """Add the `plot` command to `app`."""
    app.command("plot")(plot_command)


def plot_command(
    model: Annotated[
        list[str], typer.Option(help="A name from `weighbridge models`, or the path of a config.json. Repeatable.")
    ],
    gpu: Annotated[list[str], typer.Option(help="A name from `weighbridge gpus`. Repeatable.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The picture, .png; replaced.")],
    tensor_parallel: Annotated[int, typer.Option("--tp", help="GPUs of each replica: tensor parallelism.")] = 1,
    engine: Annotated[Engine, typer.Option(help="The model server.")] = Engine.VLLM,
    output_tokens: Annotated[int, typer.Option(help="Tokens of each answer.")] = 256,
    max_context: Annotated[
        int | None,
        typer.Option(help="Most input tokens. Default: what context and KV cache leave beside the answer."),
    ] = None,
    kv_tokens: Annotated[
        int | None,
        typer.Option(help="KV cache of each replica in tokens, as its model server logs it; else estimated."),
    ] = None,
    parts: Annotated[
        bool, typer.Option("--parts", help="Below: all four parts of each line, in place of attention alone.")
    ] = False,
) -> None:
    """Plot what requests weigh against their input length: one line per model and GPU. Needs the [train] extra."""
    try:
        if output.suffix.lower() != ".png":
            raise BadRequest(f"--output {shown(str(output))}: must end in .png")
        lines = _lines(
            model,
            gpu,
            tensor_parallel=tensor_parallel,
            engine=engine,
            output_tokens=output_tokens,
            max_context=max_context,
            kv_tokens=kv_tokens,
            most_lines=PANELS_AT_ONCE if parts else LINES_AT_ONCE,
        )
    except BadRequest as error:
        _fail(str(error))
    if not output.parent.is_dir():
        _fail(f"--output {shown(str(output))}: its folder does not exist")
    try:
        from weighbridge.plot_figure import draw
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("matplotlib", "numpy"):
            raise
        _fail(f"plot needs {error.name}: pip install 'weighbridge[train]'", status=FAILED)
    try:
        draw(lines, output, output_tokens=output_tokens, parts=parts)
    except OSError as error:
        _fail(f"--output {shown(str(output))}: cannot be written: {error.strerror or error}", status=FAILED)
    typer.echo(f"written: {output}")


def _lines(
    models: Sequence[str],
    gpus: Sequence[str],
    *,
    tensor_parallel: int,
    engine: Engine,
    output_tokens: int,
    max_context: int | None,
    kv_tokens: int | None,
    most_lines: int,
) -> list[Series]:
    """One line per model and GPU, in the order given. What is named twice is drawn once. Raises BadRequest."""
    within("--tp", tensor_parallel, 1, MOST_GPUS)
    within("--output-tokens", output_tokens, 0, MOST_TOKENS)
    if max_context is not None:
        within("--max-context", max_context, SHORTEST_LINE_TOKENS, MOST_TOKENS)
    if kv_tokens is not None:
        within("--kv-tokens", kv_tokens, 1, MOST_TOKENS)
    accelerators = {accelerator.name: accelerator for accelerator in map(accelerator_named, gpus)}
    architectures = {architecture_named(model): model for model in models}
    for option, count, most in (
        ("--model", len(architectures), MODELS_AT_ONCE),
        ("--gpu", len(accelerators), GPUS_AT_ONCE),
    ):
        if count > most:
            raise BadRequest(f"{option}: {count} are given, and one picture shows at most {most}")
    if (count := len(architectures) * len(accelerators)) > most_lines:
        raise BadRequest(f"--model and --gpu: {count} lines, and one picture shows at most {most_lines}")
    lines = []
    for architecture, model in architectures.items():
        for accelerator in accelerators.values():
            try:
                capacity = capacity_of(architecture, accelerator, tensor_parallel, kv_tokens)
                pool = pool_of(
                    architecture, accelerator, tensor_parallel=tensor_parallel, engine=engine, capacity=capacity
                )
                lines.append(_line(pool, output_tokens, max_context))
            except (OverflowError, ValueError):
                raise sizes_too_large(model) from None
    return lines


def _line(pool: PoolSettings, output_tokens: int, max_context: int | None) -> Series:
    longest = longest_input(pool.architecture, kv_capacity_tokens=pool.kv_capacity_tokens, output_tokens=output_tokens)
    if longest < SHORTEST_LINE_TOKENS:
        raise BadRequest(
            f"--output-tokens {output_tokens}: leaves no room for {SHORTEST_LINE_TOKENS} input tokens in the context "
            f"of {pool.architecture.name} or the KV cache of {pool.tensor_parallel} x {pool.accelerator.name}"
        )
    return series_of(
        pool.price(),
        model=pool.architecture.name,
        gpu=pool.accelerator.name,
        output_tokens=output_tokens,
        most_input_tokens=longest if max_context is None else min(max_context, longest),
    )


def _fail(message: str, *, status: int = BAD_INPUT) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(status)
