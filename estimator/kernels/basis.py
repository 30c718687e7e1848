"""From a call to the terms and features of its kernel; latent attention as attention of DeepSeek's sizes."""

import math
from functools import cache
from typing import assert_never

from estimator.kernels import attention_terms, terms
from estimator.kernels.call import AttentionCall, ExpertsCall, LatentCall, MatmulCall, MixedAttentionCall
from estimator.kernels.model import Op
from estimator.kernels.terms import Basis, Mathematics, Peaks, Value

# DeepSeek's latent attention. In prefill keys and values are expanded per head: 192 wide for scores, 128 for values,
# 160 on average. In decode all heads share 576 cached numbers per token: half of that for "keys" and half for "values".
_LATENT_PREFILL_SIZE = 160.0
_LATENT_DECODE_SIZE = 288.0


def latent_prefill(
    m: Mathematics, gpu: Peaks, *, sequences: Value, new_tokens: Value, cached_tokens: Value, heads: Value,
    kv_bytes: Value,
) -> Basis:  # fmt: skip
    return attention_terms.prefill(
        m, gpu, sequences=sequences, new_tokens=new_tokens, cached_tokens=cached_tokens, heads=heads, kv_heads=heads,
        head_size=_LATENT_PREFILL_SIZE + 0.0 * heads, window_tokens=0.0 * heads, kv_bytes=kv_bytes,
    )  # fmt: skip


def latent_decode(
    m: Mathematics, gpu: Peaks, *, sequences: Value, cached_tokens: Value, heads: Value, kv_bytes: Value
) -> Basis:
    return attention_terms.decode(
        m, gpu, sequences=sequences, cached_tokens=cached_tokens, heads=heads, kv_heads=1.0 + 0.0 * heads,
        head_size=_LATENT_DECODE_SIZE + 0.0 * heads, window_tokens=0.0 * heads, kv_bytes=kv_bytes,
    )  # fmt: skip


class FloatMathematics:
    """`Mathematics` of floats."""

    def maximum(self, a: float, b: float, /) -> float:
        return a if a >= b else b

    def minimum(self, a: float, b: float, /) -> float:
        return a if a <= b else b

    def ceil(self, a: float, /) -> float:
        return float(math.ceil(a))

    def log(self, a: float, /) -> float:
        return math.log(a)

    def where(self, condition: bool, a: float, b: float, /) -> float:
        return a if condition else b


FLOATS = FloatMathematics()


def attention(gpu: Peaks, call: AttentionCall) -> tuple[Op, Basis]:
    sizes = {
        "sequences": float(call.sequences), "cached_tokens": float(call.cached_tokens), "heads": float(call.heads),
        "kv_heads": float(call.kv_heads), "head_size": float(call.head_size),
        "window_tokens": float(call.window_tokens), "kv_bytes": call.kv_bytes_per_element,
    }  # fmt: skip
    # A prompt of one token is what the decode kernels run.
    if call.new_tokens == 1:
        return Op.DECODE, attention_terms.decode(FLOATS, gpu, **sizes)
    return Op.PREFILL, attention_terms.prefill(FLOATS, gpu, new_tokens=float(call.new_tokens), **sizes)


def latent(gpu: Peaks, call: LatentCall) -> tuple[Op, Basis]:
    sizes = {
        "sequences": float(call.sequences), "cached_tokens": float(call.cached_tokens), "heads": float(call.heads),
        "kv_bytes": call.kv_bytes_per_element,
    }  # fmt: skip
    if call.new_tokens == 1:
        return Op.LATENT_DECODE, latent_decode(FLOATS, gpu, **sizes)
    return Op.LATENT_PREFILL, latent_prefill(FLOATS, gpu, new_tokens=float(call.new_tokens), **sizes)


def matmul(gpu: Peaks, call: MatmulCall) -> Basis:
    return terms.matmul(
        FLOATS, gpu, tokens=float(call.tokens), outputs=float(call.outputs), inputs=float(call.inputs),
        weight_bytes=call.weight_type.stored_bytes, operand_bytes=call.weight_type.arithmetic_bits / 8.0,
    )  # fmt: skip


def experts(gpu: Peaks, call: ExpertsCall) -> Basis:
    return terms.experts(
        FLOATS, gpu, tokens=float(call.tokens), hidden=float(call.hidden), intermediate=float(call.intermediate),
        experts=float(call.experts), experts_per_token=float(call.experts_per_token),
        tensor_parallel=float(call.tensor_parallel), expert_parallel=float(call.expert_parallel),
        matrices=3.0 if call.gated else 2.0, weight_bytes=call.weight_type.stored_bytes,
        operand_bytes=call.weight_type.arithmetic_bits / 8.0,
    )  # fmt: skip


def mixed(gpu: Peaks, call: MixedAttentionCall) -> Basis:
    return attention_terms.mixed(
        FLOATS, gpu, chunk_tokens=float(call.chunk_tokens), cached_tokens=float(call.cached_tokens),
        decodes=float(call.decodes), decode_tokens=float(call.decode_tokens), heads=float(call.heads),
        kv_heads=float(call.kv_heads), head_size=float(call.head_size), window_tokens=float(call.window_tokens),
        kv_bytes=call.kv_bytes_per_element,
    )  # fmt: skip


_UNIT = Peaks(flops_per_s=1.0, memory_bytes_per_s=1.0, multiprocessors=1.0, l2_bytes=1.0)
_HEADS: dict[str, int] = {"heads": 1, "kv_heads": 1, "head_size": 1}


@cache
def sizes_of(op: Op) -> tuple[int, int]:
    """How many terms and features an op has."""
    match op:
        case Op.PREFILL:
            _, found = attention(_UNIT, AttentionCall(sequences=1, new_tokens=2, cached_tokens=0, **_HEADS))
        case Op.DECODE:
            _, found = attention(_UNIT, AttentionCall(sequences=1, new_tokens=1, cached_tokens=1, **_HEADS))
        case Op.LATENT_PREFILL:
            _, found = latent(_UNIT, LatentCall(sequences=1, new_tokens=2, cached_tokens=0, heads=1))
        case Op.LATENT_DECODE:
            _, found = latent(_UNIT, LatentCall(sequences=1, new_tokens=1, cached_tokens=1, heads=1))
        case Op.MATMUL:
            found = matmul(_UNIT, MatmulCall(tokens=1, outputs=1, inputs=1))
        case Op.EXPERTS:
            found = experts(_UNIT, ExpertsCall(tokens=1, hidden=1, intermediate=1, experts=2, experts_per_token=1))
        case Op.MIXED:
            found = mixed(
                _UNIT, MixedAttentionCall(chunk_tokens=1, cached_tokens=0, decodes=1, decode_tokens=1, **_HEADS)
            )
        case _:
            assert_never(op)
    return len(found.terms), len(found.features)
