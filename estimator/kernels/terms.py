"""The physics of each kernel: what it would take at the GPU's peaks, as terms in seconds, and what shapes its residual.

Written once for floats (a price) and for numpy columns (training): a `Value` is either, and `Mathematics` has the few
functions that differ. Terms are non-negative and additive; their coefficients are learned. The peaks make terms of all
GPUs alike, so that one set of coefficients can serve a GPU that was never measured. Features are dimensionless or
logarithms of sizes; the residual reads them standardised and clamped to what training has seen.
"""

from dataclasses import dataclass
from typing import Any, Protocol

Value = Any
"""A float, or a numpy column of them."""
MICROSECOND = 1e-6


class Mathematics(Protocol):
    """`math` for floats, numpy for columns."""

    def maximum(self, a: Value, b: Value, /) -> Value: ...
    def minimum(self, a: Value, b: Value, /) -> Value: ...
    def ceil(self, a: Value, /) -> Value: ...
    def log(self, a: Value, /) -> Value: ...
    def where(self, condition: Value, a: Value, b: Value, /) -> Value: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """One GPU at its best, for the type of arithmetic of one call."""

    flops_per_s: float
    memory_bytes_per_s: float
    multiprocessors: float
    l2_bytes: float


@dataclass(frozen=True, slots=True)
class Basis:
    terms: tuple[Value, ...]
    """Seconds."""
    features: tuple[Value, ...]
    roofline: Value
    """Seconds at the peaks: of the FLOPs or of the bytes, whichever take longer. No estimate; what estimates beat."""


def matmul(
    m: Mathematics, gpu: Peaks, *, tokens: Value, outputs: Value, inputs: Value, weight_bytes: Value,
    operand_bytes: Value,
) -> Basis:  # fmt: skip
    """A dense layer in output tiles of 128 x 128 (64 x 64 for few tokens), each a loop over the inputs."""
    sms = gpu.multiprocessors
    flops = 2.0 * tokens * outputs * inputs
    compute = flops / gpu.flops_per_s
    tiles = m.ceil(tokens / 128.0) * m.ceil(outputs / 128.0)
    large = m.ceil(tokens / 256.0) * m.ceil(outputs / 128.0)
    small = m.ceil(tokens / 64.0) * m.ceil(outputs / 64.0)
    tile_s = 2.0 * inputs * sms / gpu.flops_per_s
    waves = m.ceil(tiles / sms)
    large_waves = m.ceil(large / sms)
    small_waves = m.ceil(small / sms)
    weights = outputs * inputs * weight_bytes / gpu.memory_bytes_per_s
    moved = (tokens * inputs * operand_bytes + 2.0 * tokens * outputs) / gpu.memory_bytes_per_s
    spread = waves * sms / tiles
    terms = (
        compute,
        waves * tile_s * 128.0 * 128.0,
        large_waves * tile_s * 256.0 * 128.0,
        small_waves * tile_s * 64.0 * 64.0,
        weights,
        weights * m.minimum(m.maximum(sms / small, 1.0), 8.0),
        moved,
        inputs * MICROSECOND * 1e-3,
        waves * MICROSECOND,
        tokens * MICROSECOND * 1e-3,
        MICROSECOND + 0.0 * compute,
    )
    features = (
        m.log(tokens),
        m.log(outputs),
        m.log(inputs),
        m.log(tiles / sms),
        m.log(spread),
        m.log(small_waves * sms / small),
        m.log(large_waves * sms / large),
        m.log(m.ceil(tokens / 16.0) * 16.0 / tokens),
        m.log(m.ceil(tokens / 128.0) * 128.0 / tokens),
        m.log(compute / MICROSECOND),
        m.log(weights / MICROSECOND),
        m.log(compute / (weights + moved)),
    )
    return Basis(terms, features, m.maximum(compute, weights + moved))


def experts(
    m: Mathematics, gpu: Peaks, *, tokens: Value, hidden: Value, intermediate: Value, experts: Value,
    experts_per_token: Value, tensor_parallel: Value, expert_parallel: Value, matrices: Value, weight_bytes: Value,
    operand_bytes: Value,
) -> Basis:  # fmt: skip
    """Routed experts: a grouped matrix product per matrix, over the experts that the tokens touch."""
    sms = gpu.multiprocessors
    local = m.maximum(experts / expert_parallel, 1.0)
    routed = tokens * experts_per_token / expert_parallel
    # Chosen uniformly; the residual learns what a skewed choice changes.
    touched = m.minimum(local * (1.0 - (1.0 - experts_per_token / (experts + 1.0)) ** tokens), local)
    touched = m.maximum(touched, 1e-3)
    width = m.ceil(intermediate / tensor_parallel)
    each = matrices * hidden * width
    rows = routed / touched
    compute = 2.0 * routed * each / gpu.flops_per_s
    padded16 = touched * m.ceil(rows / 16.0) * 16.0
    padded64 = touched * m.ceil(rows / 64.0) * 64.0
    padded128 = touched * m.ceil(rows / 128.0) * 128.0
    blocks = touched * m.ceil(rows / 64.0) * m.ceil((matrices - 1.0) * width / 128.0)
    waves = m.ceil(blocks / sms)
    weights = touched * each * weight_bytes / gpu.memory_bytes_per_s
    moved = routed * (2.0 * hidden + matrices * width) * operand_bytes / gpu.memory_bytes_per_s
    spread = waves * sms / blocks
    terms = (
        compute,
        2.0 * padded64 * each / gpu.flops_per_s,
        2.0 * padded128 * each / gpu.flops_per_s,
        2.0 * padded64 * each * m.minimum(spread, 8.0) / gpu.flops_per_s,
        weights,
        weights * m.minimum(spread, 8.0),
        moved,
        tokens * hidden * 4.0 / gpu.memory_bytes_per_s,
        touched * MICROSECOND * 0.1,
        local * MICROSECOND * 0.1,
        (hidden + width) * MICROSECOND * 1e-3,
        MICROSECOND * 10.0 + 0.0 * compute,
    )
    features = (
        m.log(tokens),
        m.log(rows),
        m.log(touched),
        m.log(local),
        m.log(hidden),
        m.log(width),
        m.log(experts_per_token),
        m.log(expert_parallel),
        m.log(blocks / sms),
        m.log(spread),
        m.log(padded64 / routed),
        m.log(padded16 / routed),
        m.log((compute + weights) / MICROSECOND),
        m.log(compute / weights),
        matrices + 0.0 * compute,
    )
    return Basis(terms, features, m.maximum(compute, weights + moved))
