"""A pool as the options of a command describe it: a model, a GPU, how many of them; or what is wrong with an option."""

from pathlib import Path

from backlog.records import PoolName
from estimator.accelerator import ACCELERATORS, GIGA, Accelerator, accelerator_names, find_accelerator
from estimator.architecture import Architecture
from estimator.engine import Engine
from estimator.huggingface import architecture_from_config
from estimator.models import find_model, model_names
from estimator.work import kv_capacity_tokens
from gateway.settings import PoolSettings
from weighbridge.config_errors import did_you_mean, suggestion
from weighbridge.model_file import is_path, read_model_file

MOST_TOKENS = 100_000_000
"""Counts above this are mistakes, whatever the model."""
SHOWN_CHARACTERS = 120
ERROR_CHARACTERS = 300


class BadRequest(Exception):
    """A request that cannot be weighed. The message names the option and what is wrong with it, in one line."""


def accelerator_named(gpu: str) -> Accelerator:
    """The GPU of that name in any usual spelling. Raises BadRequest."""
    accelerator = find_accelerator(gpu)
    if accelerator is None:
        raise BadRequest(f"--gpu {shown(gpu)}: unknown GPU; {did_you_mean(gpu, ACCELERATORS, accelerator_names())}")
    return accelerator


def architecture_named(model: str) -> Architecture:
    """The architecture of a built-in name or of the `config.json` at a path, named as it is here. Raises BadRequest."""
    found = None if is_path(model) else find_model(model)
    if found is not None:
        return found
    if not is_path(model) and not _is_there(model):
        close = suggestion(model, model_names())
        advice = f"did you mean {close!r}?" if close else "`weighbridge models` lists them"
        raise BadRequest(f"--model {shown(model)}: no built-in model has this name, nor is it a file; {advice}")
    name = shown(model)
    try:
        return architecture_from_config(read_model_file(Path(model).expanduser()), name)
    except ValueError as error:
        raise BadRequest(f"--model {name}: {shown(str(error).removeprefix(f'{name}: '), ERROR_CHARACTERS)}") from None


def capacity_of(
    architecture: Architecture, accelerator: Accelerator, gpus: int, known_tokens: int | None = None
) -> int:
    """KV cache tokens of the replica, at least 1. Raises BadRequest when the model does not fit.

    May raise `OverflowError` or `ValueError` for sizes that are not finite as floats.
    """
    if architecture.heads % gpus:
        raise BadRequest(f"--tp {gpus}: does not divide the {architecture.heads} heads of {architecture.name}")
    capacity = kv_capacity_tokens(architecture, accelerator, gpus) if known_tokens is None else known_tokens
    if capacity < 1:
        raise BadRequest(
            f"--tp {gpus}: the weights of {architecture.name} ({architecture.weight_bytes / GIGA:.4g} GB) leave no "
            f"room for KV cache on {gpus} x {accelerator.name}; raise --tp, take a larger GPU or give --kv-tokens"
        )
    return capacity


def pool_of(
    architecture: Architecture,
    accelerator: Accelerator,
    *,
    tensor_parallel: int,
    engine: Engine,
    capacity: int,
    planning_batch: int | None = None,
    prefill_chunk_tokens: int = 2048,
    price_per_gpu_hour: float | None = None,
) -> PoolSettings:
    """The settings of a pool with these replicas and the defaults of a configuration. `capacity`: KV cache tokens."""
    return PoolSettings(
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


def sizes_too_large(model: str) -> BadRequest:
    """For what computing with an architecture that was read from a file may raise: sizes not finite as floats."""
    return BadRequest(f"--model {shown(model)}: its sizes are too large to compute with")


def within(option: str, value: int, least: int, most: int) -> None:
    """Raises BadRequest when `value` is not between `least` and `most`."""
    if value < least:
        raise BadRequest(f"{option} {value}: must be at least {least}")
    if value > most:
        raise BadRequest(f"{option} {shown(str(value))}: must be at most {most:,}")


def shown(text: str, most: int = SHOWN_CHARACTERS) -> str:
    """What was given, on one line and not endless."""
    line = "".join(character if character.isprintable() else "?" for character in text) or "''"
    return line if len(line) <= most else line[: most - 1] + "…"


def _is_there(model: str) -> bool:
    """Whether `model` is a path that exists; what cannot be one, because it is empty or too long, does not."""
    try:
        return bool(model) and Path(model).exists()
    except OSError:
        return False
