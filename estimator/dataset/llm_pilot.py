"""Decode steps of whole engines (TGI) under closed-loop load: the traces of IBM's LLM-Pilot (CDLA-Permissive-2.0)."""

from pathlib import Path

from estimator.dataset.columns import Origin
from estimator.dataset.parquet import ParquetFile
from estimator.dataset.table import EngineStep

SOURCE = "llm_pilot"


def load(path: Path) -> tuple[Origin, EngineStep]:
    """Every step. Latencies are whole milliseconds; the GPU is a column, as its memory size is not known."""
    file = ParquetFile(path)
    table = EngineStep(
        latency_s=file.floats("itl_ms") / 1e3,
        model=file.labels("model"),
        gpu=file.labels("gpu"),
        gpus=file.ints("n_gpus"),
        users=file.ints("users"),
        sequences=file.ints("B"),
        kv_tokens=file.floats("kv"),
        prefills=file.ints("n_prefill"),
        prefill_tokens=file.floats("prefill_tokens"),
    )
    return Origin(
        source=SOURCE, gpu="/".join(sorted(table.gpu.names)), engine="tgi", version="", op="decode_step"
    ), table
