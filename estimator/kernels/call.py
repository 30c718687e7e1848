"""What a kernel is asked to do: one execution, one layer, on one GPU. Head counts and sizes are that GPU's share."""

from dataclasses import dataclass, fields
from enum import StrEnum


class WeightType(StrEnum):
    """How weights are stored, with the arithmetic that goes with it. Values are the names that measurements use."""

    BF16 = "bfloat16"
    FP8 = "fp8"
    FP8_BLOCK = "fp8_block"
    INT8 = "int8_wo"
    INT4 = "int4_wo"
    NVFP4 = "nvfp4"
    MXFP4 = "w4a16_mxfp4"

    @property
    def stored_bytes(self) -> float:
        """Bytes of one weight, without its share of a scale."""
        return _STORED_BYTES[self]

    @property
    def arithmetic_bits(self) -> int:
        """Bits of the operands that the GPU multiplies: weights of few bits are often unpacked to bf16 first."""
        return _ARITHMETIC_BITS[self]


_STORED_BYTES = {
    WeightType.BF16: 2.0, WeightType.FP8: 1.0, WeightType.FP8_BLOCK: 1.0, WeightType.INT8: 1.0,
    WeightType.INT4: 0.5, WeightType.NVFP4: 0.5, WeightType.MXFP4: 0.5,
}  # fmt: skip
_ARITHMETIC_BITS = {
    WeightType.BF16: 16, WeightType.FP8: 8, WeightType.FP8_BLOCK: 8, WeightType.INT8: 16,
    WeightType.INT4: 16, WeightType.NVFP4: 4, WeightType.MXFP4: 16,
}  # fmt: skip
_MAY_BE_ZERO = frozenset({"cached_tokens", "window_tokens", "chunk_tokens", "decodes", "decode_tokens"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Numbers must be positive, some may be zero; NaN is neither. `ValueError` names the first that is not."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, (str, bool)):
                continue
            zero_allowed = field.name in _MAY_BE_ZERO
            if not (value > 0 or (zero_allowed and value == 0)):
                bound = "negative" if zero_allowed else "zero or negative"
                raise ValueError(f"{type(self).__name__}: {field.name} is {value}, it must not be {bound}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SequencesCall(Call):
    """Equal sequences. One new token after cached ones is decode, everything else prefill."""

    sequences: int
    new_tokens: int
    """Per sequence."""
    cached_tokens: int
    """Per sequence, before the new ones."""

    @property
    def decode(self) -> bool:
        return self.new_tokens == 1 and self.cached_tokens > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionCall(SequencesCall):
    """Attention over equal sequences."""

    heads: int
    kv_heads: int
    head_size: int
    window_tokens: int = 0
    """0 without a sliding window."""
    kv_bytes_per_element: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentCall(SequencesCall):
    """Multi-head latent attention of DeepSeek's sizes, the kernel alone, without the projections around it."""

    heads: int
    kv_bytes_per_element: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MatmulCall(Call):
    """A dense layer: `tokens` x `inputs` times `inputs` x `outputs`."""

    tokens: int
    outputs: int
    inputs: int
    weight_type: WeightType = WeightType.BF16


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsCall(Call):
    """The routed experts of one layer, on one of `tensor_parallel` x `expert_parallel` GPUs."""

    tokens: int
    """Of the whole step, before expert parallelism spreads them."""
    hidden: int
    intermediate: int
    """Of one expert, before tensor parallelism divides it."""
    experts: int
    """Of the whole layer."""
    experts_per_token: int
    tensor_parallel: int = 1
    expert_parallel: int = 1
    gated: bool = True
    """Three matrices per expert; two without a gate."""
    weight_type: WeightType = WeightType.BF16


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedAttentionCall(Call):
    """Attention of a batch with one prefill chunk beside decoding sequences of equal context. Either may be absent."""

    chunk_tokens: int
    cached_tokens: int
    """Of the chunk's sequence, before the chunk."""
    decodes: int
    decode_tokens: int
    """Context of each decoding sequence."""
    heads: int
    kv_heads: int
    head_size: int
    window_tokens: int = 0
    kv_bytes_per_element: float = 2.0

    def __post_init__(self) -> None:
        # Not `super()`, which a class with slots does not have in Python 3.11.
        Call.__post_init__(self)
        if self.chunk_tokens == 0 and self.decodes == 0:
            raise ValueError("MixedAttentionCall: neither a chunk nor a decoding sequence")
        if self.decodes > 0 and self.decode_tokens == 0:
            raise ValueError("MixedAttentionCall: decode_tokens is 0 for a decoding sequence")
