"""Whole engine steps from the measured one-layer kernel tables of `mixed_batches` (vLLM 0.19, bf16, Llama-3.1-8B)."""

import csv
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "gpu" / "mixed_batches"
LAYERS = 32
NORMS_PER_LAYER = 2
ONCE_PER_STEP = frozenset({"embedding", "final_layernorm"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredStep:
    """One batch and its time: 32 times the measured layer, the embedding, the last norm, the head and the sampler."""

    prefill_tokens: int
    cached_tokens: int
    decode_sequences: int
    decode_kv_tokens: int
    time_s: float

    @property
    def kind(self) -> str:
        if not self.prefill_tokens:
            return "decode"
        return "mixed" if self.decode_sequences else "prefill"


class _Curve:
    """Linear interpolation over measured points, constant outside them."""

    def __init__(self, points: Sequence[tuple[int, float]]) -> None:
        ordered = sorted(points)
        self._x = [x for x, _ in ordered]
        self._y = [y for _, y in ordered]

    def __call__(self, x: int) -> float:
        index = bisect_left(self._x, x)
        if index == 0:
            return self._y[0]
        if index == len(self._x):
            return self._y[-1]
        x0, x1, y0, y1 = self._x[index - 1], self._x[index], self._y[index - 1], self._y[index]
        return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def available(gpu: str) -> bool:
    return _folder(gpu).is_dir()


def measured_steps(gpu: str, *, kv_capacity_tokens: int) -> Iterator[MeasuredStep]:
    """Every measured batch of `gpu` whose KV cache a replica could hold."""
    dense = _curves(gpu, "dense.csv", "tokens")
    per_sequence = _curves(gpu, "per_sequence.csv", "sequences")
    for row in _rows(gpu, "attention.csv"):
        chunk, cached = int(row["prefill_chunk"]), int(row["kv_prefill"])
        decodes, context = int(row["n_decode"]), int(row["kv_decode"])
        if decodes * context + cached > kv_capacity_tokens:
            continue
        layer_us = float(row["time_us"])
        once_us = sum(curve(decodes + (chunk > 0)) for curve in per_sequence.values())
        for name, curve in dense.items():
            if name in ONCE_PER_STEP:
                once_us += curve(chunk + decodes)
            else:
                layer_us += curve(chunk + decodes) * (NORMS_PER_LAYER if name == "layernorm" else 1)
        yield MeasuredStep(
            prefill_tokens=chunk,
            cached_tokens=cached,
            decode_sequences=decodes,
            decode_kv_tokens=decodes * context,
            time_s=(LAYERS * layer_us + once_us) * 1e-6,
        )


def _folder(gpu: str) -> Path:
    return FOLDER / f"{gpu}_meta-llama_Llama-3.1-8B"


def _rows(gpu: str, name: str) -> Iterator[dict[str, str]]:
    with (_folder(gpu) / name).open(newline="") as file:
        yield from csv.DictReader(file)


def _curves(gpu: str, name: str, column: str) -> dict[str, _Curve]:
    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in _rows(gpu, name):
        points[row["layer"]].append((int(row[column]), float(row["time_us"])))
    return {layer: _Curve(values) for layer, values in points.items()}
