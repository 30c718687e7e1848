"""`weighbridge gpus` and `weighbridge models`: what can be weighed by name, as a table or JSON."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from estimator.accelerator import ACCELERATORS, GIB, GIGA, TERA, Accelerator, accelerator_aliases
from estimator.architecture import Architecture
from estimator.models import MODELS, model_aliases
from weighbridge.terminal import width

AsJson = Annotated[bool, typer.Option("--json", help="A list of objects.")]
NONE = "-"
TABLE_CHARACTERS = 130
"""Width that the widest table here needs."""


def register(app: typer.Typer) -> None:
    """Add the `gpus` and `models` commands to `app`."""
    app.command("gpus")(gpus_command)
    app.command("models")(models_command)


def gpus_command(as_json: AsJson = False) -> None:
    """List the GPUs that are known by name, with their peak rates."""
    gpus = list(ACCELERATORS.values())
    if as_json:
        _write([gpu_document(gpu) for gpu in gpus])
        return
    _show(
        gpus_table(gpus),
        "Case, dashes and words like NVIDIA or GeForce in a name do not matter. SXM, PCIe, NVL and the memory do.",
    )


def models_command(as_json: AsJson = False) -> None:
    """List the models that are known by name, with their shapes."""
    models = list(MODELS.values())
    if as_json:
        _write([model_document(model) for model in models])
        return
    _show(
        models_table(models),
        *(f"{model.name} is also: {', '.join(aliases)}" for model in models if (aliases := model_aliases(model.name))),
        "Owner, case, release date and words like Instruct in a name do not matter.",
        "Any other model: the path of its HuggingFace config.json.",
    )


def gpu_document(gpu: Accelerator) -> Mapping[str, Any]:
    """A GPU's data sheet. Rates are per second, dense; `fp8_flops_per_s` is null without fp8 units."""
    return {
        "name": gpu.name,
        "also": list(accelerator_aliases(gpu.name)),
        "memory_bytes": round(gpu.memory_bytes),
        "memory_bytes_per_s": round(gpu.memory_bytes_per_s),
        "bf16_flops_per_s": round(gpu.bf16_flops_per_s),
        "fp8_flops_per_s": round(gpu.fp8_flops_per_s) if _has_fp8(gpu) else None,
        "link_bytes_per_s": round(gpu.link_bytes_per_s),
    }


def gpus_table(gpus: Sequence[Accelerator]) -> Table:
    """One row per GPU."""
    table = _table(("GPU",), ("memory GiB", "memory TB/s", "bf16 TFLOP/s", "fp8 TFLOP/s", "link GB/s"), ("also",))
    for gpu in gpus:
        table.add_row(
            gpu.name,
            f"{gpu.memory_bytes / GIB:g}",
            f"{gpu.memory_bytes_per_s / TERA:.3f}",
            f"{gpu.bf16_flops_per_s / TERA:,.0f}",
            f"{gpu.fp8_flops_per_s / TERA:,.0f}" if _has_fp8(gpu) else NONE,
            f"{gpu.link_bytes_per_s / GIGA:g}",
            ", ".join(accelerator_aliases(gpu.name)),
        )
    return table


def model_document(model: Architecture) -> Mapping[str, Any]:
    """A model's shape. `sliding_window` and `experts` are null where there are none."""
    return {
        "name": model.name,
        "also": list(model_aliases(model.name)),
        "parameters": model.parameters,
        "active_parameters": model.active_parameters,
        "weight_bytes": round(model.weight_bytes),
        "layers": model.layers,
        "attention": attention_of(model),
        "heads": model.heads,
        "kv_heads": model.kv_heads,
        "kv_bytes_per_token": round(model.kv_bytes_per_token()),
        "sliding_window": model.sliding_window if model.windowed_layers else None,
        "windowed_layers": model.windowed_layers,
        "experts": model.experts or None,
        "experts_per_token": model.experts_per_token if model.experts else None,
        "context_tokens": model.context_tokens or None,
    }


def models_table(models: Sequence[Architecture]) -> Table:
    """One row per model."""
    numbers = ("params", "active", "layers", "heads", "KV heads", "KV bytes/token", "context")
    table = _table(("model",), numbers, ("attention", "window", "experts"))
    for model in models:
        table.add_row(
            model.name,
            _billions(model.parameters),
            _billions(model.active_parameters) if model.experts else NONE,
            str(model.layers),
            str(model.heads),
            # MLA caches one latent for all heads.
            NONE if model.kv_lora_rank else str(model.kv_heads),
            f"{model.kv_bytes_per_token():,.0f}",
            f"{model.context_tokens:,}" if model.context_tokens else NONE,
            attention_of(model),
            f"{model.sliding_window:,} in {model.windowed_layers} layers" if model.windowed_layers else NONE,
            f"{model.experts_per_token} of {model.experts}" if model.experts else NONE,
        )
    return table


def attention_of(model: Architecture) -> str:
    """`MLA`, `MHA`, `MQA` or `GQA`: how heads share keys and values."""
    if model.kv_lora_rank:
        return "MLA"
    if model.kv_heads == model.heads:
        return "MHA"
    return "MQA" if model.kv_heads == 1 else "GQA"


def _has_fp8(gpu: Accelerator) -> bool:
    return gpu.fp8_flops_per_s > gpu.bf16_flops_per_s


def _billions(parameters: int) -> str:
    return f"{parameters / GIGA:,.1f}B"


def _table(first: Sequence[str], numbers: Sequence[str], last: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in first:
        table.add_column(heading, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in last:
        table.add_column(heading, no_wrap=True)
    return table


def _show(table: Table, *notes: str) -> None:
    # A terminal that is too narrow wraps the lines; a console of its width would cut numbers.
    console = Console(width=width() or max(Console().width, TABLE_CHARACTERS), highlight=False)
    console.print(table)
    console.print()
    for note in notes:
        console.print(note, markup=False)


def _write(documents: Sequence[Mapping[str, Any]]) -> None:
    sys.stdout.write(json.dumps(documents, indent=2) + "\n")
