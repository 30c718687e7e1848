"""Kernels of one GPU under one engine: seconds of any call, from its own coefficients or from those of all GPUs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from estimator.accelerator import Accelerator
from estimator.engine import Engine
from estimator.hardware import Rates, rates_of
from estimator.kernels import basis
from estimator.kernels.call import (
    AttentionCall,
    ExpertsCall,
    LatentCall,
    MatmulCall,
    MixedAttentionCall,
    WeightType,
)
from estimator.kernels.model import Coefficients, Op
from estimator.kernels.terms import Peaks
from estimator.kernels.weights import FOLDER, Sets, WeightsError, read_card, read_sets

POOLED = "pooled"
# GPUs that were not measured, with one that was and has the same die, enabled further or less.
_RELATIVES = {
    "A100-40": "A100-80",
    "A100-80-PCIe": "A100-80",
    "A100-40-PCIe": "A100-80",
    "H100-PCIe": "H100",
    "H100-NVL": "H100",
    "H800": "H100",
    "H200-NVL": "H200",
    "L40": "L40S",
    "RTX6000Ada": "L40S",
}
# FlashAttention-3 runs chunk and decodes in 0.96 times the sum of both apart (docs/benchmarks.md).
_ADDITIVE = frozenset({"H100", "H100-PCIe", "H100-NVL", "H800", "H200", "H200-NVL", "H20"})
# Beside a chunk decoding takes 1.2 to 1.7 times as long as alone where it was measured; two launches become one.
_LEAST_MIXED_RATIO, _MOST_MIXED_RATIO = 0.5, 2.5
# A type without coefficients of its own: the nearest ones, at its own bytes and peak.
_NEAREST: Mapping[WeightType, tuple[WeightType, ...]] = MappingProxyType(
    {
        WeightType.BF16: (),
        WeightType.FP8: (WeightType.FP8_BLOCK, WeightType.BF16),
        WeightType.FP8_BLOCK: (WeightType.FP8, WeightType.BF16),
        WeightType.INT8: (WeightType.INT4, WeightType.BF16),
        WeightType.INT4: (WeightType.MXFP4, WeightType.INT8, WeightType.BF16),
        WeightType.NVFP4: (WeightType.FP8, WeightType.BF16),
        WeightType.MXFP4: (WeightType.INT4, WeightType.INT8, WeightType.BF16),
    }
)


class Fit(StrEnum):
    """Where the coefficients of a GPU are from."""

    MEASURED = "measured"
    """Its own kernels were timed."""
    RELATIVE = "relative"
    """Those of a GPU with the same die, at this one's peaks."""
    POOLED = "pooled"
    """From all measured GPUs, scaled by peaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """Seconds of single kernels. Whatever has no coefficients of its own is taken from the pooled ones."""

    gpu: str
    engine: str
    fit: Fit
    rates: Rates
    own: Sets
    pooled: Sets

    def attention_s(self, call: AttentionCall) -> float:
        op, found = basis.attention(self._peaks(16), call)
        return self._of(op, (_kv_kind(call.kv_bytes_per_element), "bfloat16")).time_s(found)

    def latent_s(self, call: LatentCall) -> float:
        op, found = basis.latent(self._peaks(16), call)
        return self._of(op, (_kv_kind(call.kv_bytes_per_element), "bfloat16")).time_s(found)

    def matmul_s(self, call: MatmulCall) -> float:
        found = basis.matmul(self._peaks(call.weight_type.arithmetic_bits), call)
        return self._of(Op.MATMUL, (call.weight_type, *_NEAREST[call.weight_type])).time_s(found)

    def experts_s(self, call: ExpertsCall) -> float:
        found = basis.experts(self._peaks(call.weight_type.arithmetic_bits), call)
        return self._of(Op.EXPERTS, (call.weight_type, *_NEAREST[call.weight_type])).time_s(found)

    def mixed_attention_s(self, call: MixedAttentionCall) -> float:
        """One part alone is plain attention. Where mixed batches were not measured, the parts of this GPU times the
        ratio that mixing has on those where they were; the sum of the parts under FlashAttention-3."""
        if call.decodes == 0:
            return self.attention_s(_chunk(call))
        if call.chunk_tokens == 0:
            return self.attention_s(_decodes(call))
        peaks = self._peaks(16)
        if own := self.own.get((Op.MIXED, "bfloat16")):
            return own.time_s(basis.mixed(peaks, call))
        apart = self.attention_s(_chunk(call)) + self.attention_s(_decodes(call))
        if self.gpu in _ADDITIVE:
            return apart
        mixing = self._of(Op.MIXED, ("bfloat16",))
        pooled = sum(mixing.time_s(basis.mixed(peaks, part)) for part in _parts(call))
        ratio = mixing.time_s(basis.mixed(peaks, call)) / pooled
        return apart * min(max(ratio, _LEAST_MIXED_RATIO), _MOST_MIXED_RATIO)

    def _of(self, op: Op, kinds: tuple[str, ...]) -> Coefficients:
        for kind in kinds:
            for sets in (self.own, self.pooled):
                if found := sets.get((op, kind)):
                    return found
        raise WeightsError(f"{POOLED}-{self.engine}: no coefficients of {op} for {kinds[0]}")

    def _peaks(self, bits: int) -> Peaks:
        return Peaks(
            flops_per_s=self.rates.flops_per_s[bits],
            memory_bytes_per_s=self.rates.memory_bytes_per_s,
            multiprocessors=float(self.rates.multiprocessors),
            l2_bytes=self.rates.l2_bytes,
        )


def load_kernels(accelerator: Accelerator, engine: str = Engine.VLLM, folder: Path | None = None) -> Kernels:
    """What is known of `accelerator` under `engine`, from `folder` or the weights that ship.

    Raises `ValueError` for an engine without weights, and `WeightsError` for files that are missing or damaged.
    """
    if engine not in tuple(Engine):
        raise ValueError(f"no kernels of the engine {engine}; known are {', '.join(Engine)}")
    folder = folder or FOLDER
    card = read_card(folder)
    files = card["files"]
    name = file_name(accelerator.name, engine)
    fit = Fit.MEASURED
    if name not in files:
        name, fit = file_name(_RELATIVES.get(accelerator.name, POOLED), engine), Fit.RELATIVE
    own = read_sets(folder, name, card) if name in files and not name.startswith(POOLED) else {}
    return Kernels(
        gpu=accelerator.name,
        engine=engine,
        fit=fit if own else Fit.POOLED,
        rates=rates_of(accelerator),
        own=own,
        pooled=read_sets(folder, file_name(POOLED, engine), card),
    )


def file_name(gpu: str, engine: str) -> str:
    return f"{gpu.lower()}-{engine}.safetensors"


def _kv_kind(bytes_per_element: float) -> str:
    return "fp8" if bytes_per_element <= 1.0 else "bfloat16"


def _chunk(call: MixedAttentionCall) -> AttentionCall:
    return AttentionCall(
        sequences=1, new_tokens=call.chunk_tokens, cached_tokens=call.cached_tokens, heads=call.heads,
        kv_heads=call.kv_heads, head_size=call.head_size, window_tokens=call.window_tokens,
        kv_bytes_per_element=call.kv_bytes_per_element,
    )  # fmt: skip


def _decodes(call: MixedAttentionCall) -> AttentionCall:
    return AttentionCall(
        sequences=call.decodes, new_tokens=1, cached_tokens=call.decode_tokens - 1, heads=call.heads,
        kv_heads=call.kv_heads, head_size=call.head_size, window_tokens=call.window_tokens,
        kv_bytes_per_element=call.kv_bytes_per_element,
    )  # fmt: skip


def _parts(call: MixedAttentionCall) -> tuple[MixedAttentionCall, MixedAttentionCall]:
    return replace(call, decodes=0, decode_tokens=0), replace(call, chunk_tokens=0, cached_tokens=0)
