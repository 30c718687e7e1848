"""`weighbridge weigh`: what one request would weigh, without a gateway. Options, and what is wrong with them."""

import math
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from backlog.records import PoolName
from estimator.accelerator import ACCELERATORS, GIGA, Accelerator, accelerator_names, find_accelerator
from estimator.architecture import Architecture
from estimator.engine import Engine
from estimator.huggingface import architecture_from_config
from estimator.models import find_model, model_names
from estimator.work import kv_capacity_tokens
from gateway.settings import PoolSettings
from weighbridge.config_errors import did_you_mean, suggestion
from weighbridge.config_fields import LEAST_CHUNK_TOKENS, MOST_GPUS, MOST_PLANNING_BATCH
from weighbridge.model_file import is_path, read_model_file
from weighbridge.terminal import width
from weighbridge.weigh_report import Weighed, summary_of, table_of, to_json, weighed

BAD_INPUT = 2
MOST_TOKENS = 100_000_000
"""Counts above this are mistakes, whatever the model."""
SHOWN_CHARACTERS = 120
ERROR_CHARACTERS = 300


class BadRequest(Exception):
    """A request that cannot be weighed. The message names the option and what is wrong with it, in one line."""


def register(app: typer.Typer) -> None:
    """Add the `weigh` command to `app`."""
    app.command("weigh")(weigh_command)


def weigh_command(
    model: Annotated[
        str, typer.Option(help="A name from `weighbridge models`, or the path of a config.json or its folder.")
    ],
    gpu: Annotated[str, typer.Option(help="A name from `weighbridge gpus`.")],
    input_tokens: Annotated[int, typer.Option(help="Tokens of the prompt.")],
    output_tokens: Annotated[int, typer.Option(help="Tokens of the answer.")],
    cached_tokens: Annotated[int, typer.Option(help="Input tokens that are in the replica's KV cache already.")] = 0,
    tensor_parallel: Annotated[int, typer.Option("--tp", help="GPUs of the replica: tensor parallelism.")] = 1,
    price_per_gpu_hour: Annotated[
        float | None, typer.Option(help="Money for an hour of one GPU, in any currency.")
    ] = None,
    engine: Annotated[Engine, typer.Option(help="The model server.")] = Engine.VLLM,
    planning_batch: Annotated[
        int | None, typer.Option(help="The batch size at which the pool is meant to run; else chosen.")
    ] = None,
    prefill_chunk_tokens: Annotated[
        int, typer.Option(help="Prefill tokens in one step, as in the pool's configuration.")
    ] = 2048,
    kv_tokens: Annotated[
        int | None, typer.Option(help="KV cache of the replica in tokens, as its model server logs it; else estimated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object.")] = False,
) -> None:
    """Weigh one request: its GPU-seconds (a share of a replica's time, not a latency), their parts, KV cache, money."""
    try:
        request = _weigh(
            model,
            gpu,
            input_tokens=input_tokens,
            cached_tokens=cached_tokens,
            output_tokens=output_tokens,
            tensor_parallel=tensor_parallel,
            price_per_gpu_hour=price_per_gpu_hour,
            engine=engine,
            planning_batch=planning_batch,
            prefill_chunk_tokens=prefill_chunk_tokens,
            kv_tokens=kv_tokens,
        )
    except BadRequest as error:
        _fail(str(error))
    if as_json:
        sys.stdout.write(to_json(request))
        return
    console = Console(width=width(), highlight=False)
    console.print(table_of(request))
    console.print()
    console.print(summary_of(request))


def _weigh(
    model: str,
    gpu: str,
    *,
    input_tokens: int,
    cached_tokens: int,
    output_tokens: int,
    tensor_parallel: int,
    price_per_gpu_hour: float | None,
    engine: Engine,
    planning_batch: int | None,
    prefill_chunk_tokens: int,
    kv_tokens: int | None,
) -> Weighed:
    """The request as a pool with these settings weighs it. Raises BadRequest."""
    _within("--input-tokens", input_tokens, 1, MOST_TOKENS)
    _within("--cached-tokens", cached_tokens, 0, MOST_TOKENS)
    _within("--output-tokens", output_tokens, 0, MOST_TOKENS)
    if cached_tokens > input_tokens:
        raise BadRequest(f"--cached-tokens {cached_tokens}: must be at most --input-tokens ({input_tokens})")
    _within("--tp", tensor_parallel, 1, MOST_GPUS)
    if planning_batch is not None:
        _within("--planning-batch", planning_batch, 1, MOST_PLANNING_BATCH)
    _within("--prefill-chunk-tokens", prefill_chunk_tokens, LEAST_CHUNK_TOKENS, MOST_TOKENS)
    if kv_tokens is not None:
        _within("--kv-tokens", kv_tokens, 1, MOST_TOKENS)
    if price_per_gpu_hour is not None and not (math.isfinite(price_per_gpu_hour) and price_per_gpu_hour > 0):
        raise BadRequest(f"--price-per-gpu-hour {price_per_gpu_hour:g}: must be a number greater than 0")
    accelerator = find_accelerator(gpu)
    if accelerator is None:
        raise BadRequest(f"--gpu {_shown(gpu)}: unknown GPU; {did_you_mean(gpu, ACCELERATORS, accelerator_names())}")
    architecture = architecture_named(model)
    tokens = input_tokens + output_tokens
    if architecture.context_tokens and tokens > architecture.context_tokens:
        raise BadRequest(
            f"--input-tokens {input_tokens} and --output-tokens {output_tokens}: together {tokens:,} tokens, "
            f"more than the context of {architecture.name} ({architecture.context_tokens:,})"
        )
    try:
        capacity = _capacity(architecture, accelerator, tensor_parallel, tokens, kv_tokens)
        pool = PoolSettings(
            name=PoolName("weigh"),
            models=(architecture.name,),
            served_model=architecture.name,
            architecture=architecture,
            accelerator=accelerator,
            tensor_parallel=tensor_parallel,
            engine=engine,
            planning_batch=planning_batch,
            prefill_chunk_tokens=prefill_chunk_tokens,
            kv_capacity_tokens=capacity,
            price_per_gpu_hour=price_per_gpu_hour,
        )
        return weighed(pool, input_tokens=input_tokens, cached_tokens=cached_tokens, output_tokens=output_tokens)
    except (OverflowError, ValueError):
        # What else can be wrong is checked above: sizes that are not finite as floats are left.
        raise BadRequest(f"--model {_shown(model)}: its sizes are too large to compute with") from None


def architecture_named(model: str) -> Architecture:
    """The architecture of a built-in name or of the `config.json` at a path, named as it is here. Raises BadRequest."""
    found = None if is_path(model) else find_model(model)
    if found is not None:
        return found
    if not is_path(model) and not _is_there(model):
        close = suggestion(model, model_names())
        advice = f"did you mean {close!r}?" if close else "`weighbridge models` lists them"
        raise BadRequest(f"--model {_shown(model)}: no built-in model has this name, nor is it a file; {advice}")
    name = _shown(model)
    try:
        return architecture_from_config(read_model_file(Path(model).expanduser()), name)
    except ValueError as error:
        raise BadRequest(f"--model {name}: {_shown(str(error).removeprefix(f'{name}: '), ERROR_CHARACTERS)}") from None


def _is_there(model: str) -> bool:
    """Whether `model` is a path that exists; what cannot be one, because it is empty or too long, does not."""
    try:
        return bool(model) and Path(model).exists()
    except OSError:
        return False


def _capacity(
    architecture: Architecture, accelerator: Accelerator, gpus: int, tokens: int, known_tokens: int | None
) -> int:
    """KV cache tokens of the replica. Raises BadRequest when the model or the request does not fit."""
    if architecture.heads % gpus:
        raise BadRequest(f"--tp {gpus}: does not divide the {architecture.heads} heads of {architecture.name}")
    where = f"{gpus} x {accelerator.name}"
    capacity = kv_capacity_tokens(architecture, accelerator, gpus) if known_tokens is None else known_tokens
    if capacity < 1:
        raise BadRequest(
            f"--tp {gpus}: the weights of {architecture.name} ({architecture.weight_bytes / GIGA:.4g} GB) leave no "
            f"room for KV cache on {where}; raise --tp, take a larger GPU or give --kv-tokens"
        )
    if tokens > capacity:
        raise BadRequest(
            f"--input-tokens and --output-tokens: {tokens:,} tokens of KV cache, more than the {capacity:,} that "
            f"{where} holds beside {architecture.name}; raise --tp or take a larger GPU"
        )
    return capacity


def _within(option: str, value: int, least: int, most: int) -> None:
    if value < least:
        raise BadRequest(f"{option} {value}: must be at least {least}")
    if value > most:
        raise BadRequest(f"{option} {_shown(str(value))}: must be at most {most:,}")


def _shown(text: str, most: int = SHOWN_CHARACTERS) -> str:
    """What was given, on one line and not endless."""
    line = "".join(character if character.isprintable() else "?" for character in text) or "''"
    return line if len(line) <= most else line[: most - 1] + "…"


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(BAD_INPUT)
