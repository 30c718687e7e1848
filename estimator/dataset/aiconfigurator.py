"""Kernel timings that the package `aiconfigurator-core` carries (NVIDIA, Apache-2.0): ten GPUs under three engines.

Files are `systems/data/<system>/<family>/<engine>/<version>/<op>_perf.parquet`; their latency is in milliseconds. A
`reuse.yaml` beside them names other versions whose rows stand in for what that version lacks.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

import numpy as np

from estimator.dataset.columns import Columns, Origin
from estimator.dataset.parquet import ParquetFile
from estimator.dataset.plain_yaml import read_yaml, text_at
from estimator.dataset.table import Attention, Experts, Latent, Matmul
from estimator.engine import Engine

SOURCE = "aiconfigurator"
# (hidden, intermediate, experts per token, experts) of Nemotron 3 Super and Ultra, with and without the projection of
# their hidden states to a smaller width, and of Nano. Their experts have squared ReLUs and no gate, under any kernel.
_UNGATED_SIZES = (
    (1024, 2688, 22, 512),
    (4096, 2688, 22, 512),
    (2048, 5120, 22, 512),
    (8192, 5120, 22, 512),
    (2688, 1856, 6, 128),
)
GPUS: Mapping[str, str] = MappingProxyType(
    {
        "a100_sxm": "A100-80",
        "b200_sxm": "B200",
        "b300_sxm": "B300",
        "b60": "B60",
        "gb200": "GB200",
        "gb300": "GB300",
        "h100_sxm": "H100",
        "h200_sxm": "H200",
        "l40s": "L40S",
        "rtx_pro_6000_server": "RTXPRO6000",
    }
)


def data_folder() -> Path | None:
    """Where the installed package keeps its tables; `None` without it. Does not import the package."""
    spec = find_spec("aiconfigurator_core")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "systems" / "data"


def load(folder: Path, ops: frozenset[str] | None = None) -> Iterator[tuple[Origin, Columns]]:
    """Every table of `ops`, all known ones by default, one at a time: by GPU, family, engine, version, op."""
    marks_of: dict[Path, list[_Mark]] = {}
    for path in sorted(folder.glob("*/*/*/*/*_perf.parquet")):
        system, _, engine, version, name = path.relative_to(folder).parts
        op = name.removesuffix("_perf.parquet")
        if op not in _READERS or engine not in tuple(Engine) or (ops is not None and op not in ops):
            continue
        file = ParquetFile(path)
        versions = path.parent.parent
        if versions not in marks_of:
            marks_of[versions] = _marks(versions)
        borrowed_from, lent_to = _reuse(path, marks_of[versions])
        origin = Origin(
            source=SOURCE,
            gpu=GPUS[system],
            engine=engine,
            version=version,
            op=op,
            versions_measured=tuple(sorted(file.labels("version").names)),
            borrowed_from=borrowed_from,
            lent_to=lent_to,
        )
        yield origin, _READERS[op](file)


@dataclass(frozen=True, slots=True)
class _Mark:
    """One table of one engine version that is another version's."""

    table: str
    version: str
    from_version: str


def _marks(versions: Path) -> list[_Mark]:
    """What the versions of an engine, one folder each in `versions`, borrow from each other."""
    found = []
    for path in sorted(versions.glob("*/reuse.yaml")):
        marks = read_yaml(path).get("reuse")
        if not isinstance(marks, list):
            raise ValueError(f"{path}: no list under reuse")
        for mark in marks:
            table, from_version = (text_at(path, mark, name) for name in ("table", "from_version"))
            found.append(_Mark(table=table, version=path.parent.name, from_version=from_version))
    return found


def _reuse(path: Path, marks: Sequence[_Mark]) -> tuple[str | None, tuple[str, ...]]:
    """The version that this table borrows from, and those that borrow from it."""
    own = path.parent.name
    borrowed_from = None
    lent_to = []
    for mark in marks:
        if mark.table != path.stem:
            continue
        if mark.version == own:
            borrowed_from = mark.from_version
        elif mark.from_version == own:
            lent_to.append(mark.version)
    return borrowed_from, tuple(lent_to)


def _attention(file: ParquetFile) -> Attention:
    heads = file.ints("num_heads")
    kv_heads = file.ints("num_key_value_heads")
    return Attention(
        latency_s=file.floats("latency") / 1e3,
        sequences=file.ints("batch_size"),
        new_tokens=file.ints("isl"),
        cached_tokens=file.ints("step"),
        heads=heads,
        # Some tables write 0 for as many KV heads as heads.
        kv_heads=np.where(kv_heads == 0, heads, kv_heads),
        head_size=file.ints("head_dim"),
        window_tokens=file.ints("window_size", missing=0),
        arithmetic=file.labels("attn_dtype"),
        kv_type=file.labels("kv_cache_dtype"),
        kernel=file.labels("kernel_source"),
    )


def _latent(file: ParquetFile) -> Latent:
    return Latent(
        latency_s=file.floats("latency") / 1e3,
        sequences=file.ints("batch_size"),
        new_tokens=file.ints("isl"),
        cached_tokens=file.ints("step"),
        heads=file.ints("num_heads"),
        arithmetic=file.labels("mla_dtype"),
        kv_type=file.labels("kv_cache_dtype"),
        projections=file.labels("gemm_type", missing="none"),
        model=file.labels("model", missing=""),
        kernel=file.labels("kernel_source"),
    )


def _matmul(file: ParquetFile) -> Matmul:
    return Matmul(
        latency_s=file.floats("latency") / 1e3,
        tokens=file.ints("m"),
        outputs=file.ints("n"),
        inputs=file.ints("k"),
        weight_type=file.labels("gemm_dtype"),
        kernel=file.labels("kernel_source"),
    )


def _experts(file: ParquetFile) -> Experts:
    names = ("hidden_size", "inter_size", "topk", "num_experts")
    hidden, intermediate, experts_per_token, experts = sizes = [file.ints(name) for name in names]
    kernel = file.labels("kernel_source")
    gated = np.asarray(["nongated" not in name for name in kernel.names], dtype=np.bool_)[kernel.codes]
    for ungated in _UNGATED_SIZES:
        gated &= np.any([column != size for column, size in zip(sizes, ungated, strict=True)], axis=0)
    return Experts(
        latency_s=file.floats("latency") / 1e3,
        tokens=file.ints("num_tokens"),
        hidden=hidden,
        intermediate=intermediate,
        experts_per_token=experts_per_token,
        experts=experts,
        tensor_parallel=file.ints("moe_tp_size"),
        expert_parallel=file.ints("moe_ep_size"),
        gated=gated,
        balance=file.labels("distribution"),
        weight_type=file.labels("moe_dtype"),
        kernel=kernel,
    )


_READERS: Mapping[str, Callable[[ParquetFile], Columns]] = MappingProxyType(
    {
        "context_attention": _attention,
        "generation_attention": _attention,
        "gemm": _matmul,
        "moe": _experts,
        "context_mla": _latent,
        "generation_mla": _latent,
        "mla_context_module": _latent,
        "mla_generation_module": _latent,
    }
)
OPS = frozenset(_READERS)
