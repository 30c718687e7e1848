"""One-layer timings of mixed batches under vLLM, one folder per GPU and model: tables of LLMServingSim 2.0 (MIT)."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import yaml

from estimator.dataset.columns import Columns, Floats, Ints, Labels, Origin
from estimator.dataset.table import LayerTime, MixedAttention, SkewedAttention

SOURCE = "mixed_batches"


def load(folder: Path) -> Iterator[tuple[Origin, Columns]]:
    """Attention, dense layers, layers that run once per sequence, and skewed batches of every `<gpu>_<model>` below."""
    for meta_path in sorted(folder.glob("*/meta.yaml")):
        meta = yaml.safe_load(meta_path.read_text(encoding="utf-8"))
        if not meta["model"].endswith("Llama-3.1-8B"):
            raise ValueError(f"{meta_path}: {meta['model']}; `demand.MIXED_HEADS` are those of Llama-3.1-8B")
        for op, table in (
            ("mixed_attention", _attention(_columns(meta_path.parent / "attention.csv"))),
            ("dense_layer", _layers(_columns(meta_path.parent / "dense.csv"), "tokens")),
            ("sequence_layer", _layers(_columns(meta_path.parent / "per_sequence.csv"), "sequences")),
            ("skewed_attention", _skewed(_columns(meta_path.parent / "skew.csv"))),
        ):
            yield (
                Origin(source=SOURCE, gpu=meta["hardware"], engine="vllm", version=str(meta["vllm_version"]), op=op),
                table,
            )


def _columns(path: Path) -> Mapping[str, list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))


def _ints(values: list[str]) -> Ints:
    return np.asarray(values, dtype=np.float64).astype(np.int64)


def _seconds(values_us: list[str]) -> Floats:
    return np.asarray(values_us, dtype=np.float64) / 1e6


def _attention(columns: Mapping[str, list[str]]) -> MixedAttention:
    return MixedAttention(
        latency_s=_seconds(columns["time_us"]),
        chunk_tokens=_ints(columns["prefill_chunk"]),
        cached_tokens=_ints(columns["kv_prefill"]),
        decodes=_ints(columns["n_decode"]),
        decode_tokens=_ints(columns["kv_decode"]),
    )


def _layers(columns: Mapping[str, list[str]], per: str) -> LayerTime:
    return LayerTime(
        latency_s=_seconds(columns["time_us"]),
        layer=Labels.of(columns["layer"]),
        tokens=_ints(columns[per]),
    )


def _skewed(columns: Mapping[str, list[str]]) -> SkewedAttention:
    return SkewedAttention(
        latency_s=_seconds(columns["t_skew_us"]),
        decodes=_ints(columns["n"]),
        long_decodes=_ints(columns["nb"]),
        chunk_tokens=_ints(columns["pc"]),
        cached_tokens=_ints(columns["kp"]),
        short_tokens=_ints(columns["kvs"]),
        long_tokens=_ints(columns["kv_big"]),
        latency_at_mean_s=_seconds(columns["t_mean_us"]),
        latency_at_longest_s=_seconds(columns["t_max_us"]),
    )
