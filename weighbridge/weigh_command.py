"""`weighbridge weigh`: what one request would weigh, without a gateway. Options, and what is wrong with them."""

import math
import sys
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from estimator.engine import Engine
from weighbridge.config_fields import LEAST_CHUNK_TOKENS, MOST_GPUS, MOST_PLANNING_BATCH
from weighbridge.terminal import width
from weighbridge.weigh_pool import (
    MOST_TOKENS,
    BadRequest,
    accelerator_named,
    architecture_named,
    capacity_of,
    pool_of,
    sizes_too_large,
    within,
)
from weighbridge.weigh_report import Weighed, summary_of, table_of, to_json, weighed

BAD_INPUT = 2


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
    within("--input-tokens", input_tokens, 1, MOST_TOKENS)
    within("--cached-tokens", cached_tokens, 0, MOST_TOKENS)
    within("--output-tokens", output_tokens, 0, MOST_TOKENS)
    if cached_tokens > input_tokens:
        raise BadRequest(f"--cached-tokens {cached_tokens}: must be at most --input-tokens ({input_tokens})")
    within("--tp", tensor_parallel, 1, MOST_GPUS)
    if planning_batch is not None:
        within("--planning-batch", planning_batch, 1, MOST_PLANNING_BATCH)
    within("--prefill-chunk-tokens", prefill_chunk_tokens, LEAST_CHUNK_TOKENS, MOST_TOKENS)
    if kv_tokens is not None:
        within("--kv-tokens", kv_tokens, 1, MOST_TOKENS)
    if price_per_gpu_hour is not None and not (math.isfinite(price_per_gpu_hour) and price_per_gpu_hour > 0):
        raise BadRequest(f"--price-per-gpu-hour {price_per_gpu_hour:g}: must be a number greater than 0")
    accelerator = accelerator_named(gpu)
    architecture = architecture_named(model)
    tokens = input_tokens + output_tokens
    if architecture.context_tokens and tokens > architecture.context_tokens:
        raise BadRequest(
            f"--input-tokens {input_tokens} and --output-tokens {output_tokens}: together {tokens:,} tokens, "
            f"more than the context of {architecture.name} ({architecture.context_tokens:,})"
        )
    try:
        capacity = capacity_of(architecture, accelerator, tensor_parallel, kv_tokens)
        if tokens > capacity:
            raise BadRequest(
                f"--input-tokens and --output-tokens: {tokens:,} tokens of KV cache, more than the {capacity:,} that "
                f"{tensor_parallel} x {accelerator.name} holds beside {architecture.name}; raise --tp or take a larger "
                "GPU"
            )
        pool = pool_of(
            architecture,
            accelerator,
            tensor_parallel=tensor_parallel,
            engine=engine,
            capacity=capacity,
            planning_batch=planning_batch,
            prefill_chunk_tokens=prefill_chunk_tokens,
            price_per_gpu_hour=price_per_gpu_hour,
        )
        return weighed(pool, input_tokens=input_tokens, cached_tokens=cached_tokens, output_tokens=output_tokens)
    except (OverflowError, ValueError):
        # What else can be wrong is checked above.
        raise sizes_too_large(model) from None


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(BAD_INPUT)
