"""The folder of GPU measurements in small: mixed batches of one GPU, and steps of engines."""

from pathlib import Path

import pyarrow as pa
from pyarrow import parquet


def write_batches(folder: Path, model: str = "meta-llama/Llama-3.1-8B") -> None:
    folder.mkdir(parents=True)
    (folder / "meta.yaml").write_text(f"hardware: RTX4090\nmodel: {model}\nvllm_version: 0.19.0\n")
    (folder / "attention.csv").write_text("prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n16,0,2,512,12.5\n")
    (folder / "dense.csv").write_text("layer,tokens,time_us\nqkv_proj,1,3.0\nact_fn,2,4.0\n")
    (folder / "per_sequence.csv").write_text("layer,sequences,time_us\nlm_head,1,1000\n")
    (folder / "skew.csv").write_text(
        "regime,n,nb,ratio,skew,pc,kp,kvs,kv_big,kv_mean,t_mean_us,t_max_us,t_skew_us,alpha\n"
        "pure,2,1,0.5,4.0,0,0,128,512,320,52,56,53,0.3\n"
    )


def write_steps(path: Path) -> None:
    step = {"model": "m", "n_gpus": 2, "users": 4, "B": 3, "kv": 99.5, "n_prefill": 1, "prefill_tokens": 7.0}
    rows = [step | {"gpu": "T4", "itl_ms": 20.0}, step | {"gpu": "A100", "itl_ms": 0.0}]
    parquet.write_table(pa.Table.from_pylist(rows), path)
