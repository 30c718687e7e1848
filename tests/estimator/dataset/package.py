"""The installed package of measurements in small: rows of each kind, and files in its layout."""

from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

ATTENTION = {
    "version": "1.0", "kernel_source": "fa3", "batch_size": 2, "isl": 1, "num_heads": 32, "num_key_value_heads": 8,
    "head_dim": 128, "attn_dtype": "bfloat16", "kv_cache_dtype": "fp8", "step": 511, "latency": 0.25,
}  # fmt: skip
GEMM = {"version": "1.0", "kernel_source": "x", "gemm_dtype": "fp8", "m": 1, "n": 2, "k": 3, "latency": 0.5}
MOE = {
    "version": "1.0", "kernel_source": "x", "moe_dtype": "fp8", "num_tokens": 1, "hidden_size": 2, "inter_size": 3,
    "topk": 4, "num_experts": 5, "moe_tp_size": 6, "moe_ep_size": 7, "distribution": "balanced", "latency": 1.0,
}  # fmt: skip
MLA = {
    "version": "1.0", "kernel_source": "x", "mla_dtype": "bfloat16", "kv_cache_dtype": "fp8", "num_heads": 16,
    "batch_size": 2, "isl": 1, "tp_size": 8, "step": 3, "latency": 2.0,
}  # fmt: skip


def write(folder: Path, path: str, *rows: dict[str, Any]) -> None:
    """`<folder>/<path>_perf.parquet` with these rows."""
    file = folder / f"{path}_perf.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(list(rows)), file)
