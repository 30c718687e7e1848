"""One-layer timings of mixed batches under vLLM, one folder per GPU and model: tables of LLMServingSim 2.0 (MIT)."""

from collections.abc import Iterator
from pathlib import Path

from estimator.dataset.columns import Columns, Origin
from estimator.dataset.csv_file import CsvFile
from estimator.dataset.plain_yaml import read_yaml, text_at
from estimator.dataset.table import LayerTime, MixedAttention, SkewedAttention

SOURCE = "mixed_batches"


def load(folder: Path) -> Iterator[tuple[Origin, Columns]]:
    """Attention, dense layers, layers that run once per sequence, and skewed batches of every `<gpu>_<model>` below."""
    for meta_path in sorted(folder.glob("*/meta.yaml")):
        meta = read_yaml(meta_path)
        model, gpu, version = (text_at(meta_path, meta, name) for name in ("model", "hardware", "vllm_version"))
        if not model.endswith("Llama-3.1-8B"):
            raise ValueError(f"{meta_path}: {model}; `demand.MIXED_HEADS` are those of Llama-3.1-8B")
        for op, table in (
            ("mixed_attention", _attention(CsvFile(meta_path.parent / "attention.csv"))),
            ("dense_layer", _layers(CsvFile(meta_path.parent / "dense.csv"), "tokens")),
            ("sequence_layer", _layers(CsvFile(meta_path.parent / "per_sequence.csv"), "sequences")),
            ("skewed_attention", _skewed(CsvFile(meta_path.parent / "skew.csv"))),
        ):
            yield (
                Origin(source=SOURCE, gpu=gpu, engine="vllm", version=version, op=op),
                table,
            )


def _attention(file: CsvFile) -> MixedAttention:
    return MixedAttention(
        latency_s=file.floats("time_us") / 1e6,
        chunk_tokens=file.ints("prefill_chunk"),
        cached_tokens=file.ints("kv_prefill"),
        decodes=file.ints("n_decode"),
        decode_tokens=file.ints("kv_decode"),
    )


def _layers(file: CsvFile, per: str) -> LayerTime:
    return LayerTime(
        latency_s=file.floats("time_us") / 1e6,
        layer=file.labels("layer"),
        tokens=file.ints(per),
    )


def _skewed(file: CsvFile) -> SkewedAttention:
    return SkewedAttention(
        latency_s=file.floats("t_skew_us") / 1e6,
        decodes=file.ints("n"),
        long_decodes=file.ints("nb"),
        chunk_tokens=file.ints("pc"),
        cached_tokens=file.ints("kp"),
        short_tokens=file.ints("kvs"),
        long_tokens=file.ints("kv_big"),
        latency_at_mean_s=file.floats("t_mean_us") / 1e6,
        latency_at_longest_s=file.floats("t_max_us") / 1e6,
    )
