"""Time of one engine step from its batch's composition: a calibrated roofline in plain floats."""

from dataclasses import dataclass
from math import hypot
from typing import Protocol

from estimator.accelerator import Accelerator
from estimator.architecture import Architecture
from estimator.overhead import all_reduce_latency_s, state_s
from estimator.work import pair_flops, prefill_pairs, token_flops

ACTIVATION_BYTES = 2.0
TILE_TOKENS = 256
"""Attention kernels run a short chunk over its cached prefix as if it had this many tokens (fitted, decision 0004)."""


class Step(Protocol):
    """Times of one replica's engine steps, in seconds: what a price is compiled from and what a simulation runs on."""

    @property
    def gpus(self) -> int: ...

    def time_s(
        self, *, prefill_tokens: int, prefill_pairs: float, decode_sequences: int, decode_kv_tokens: int
    ) -> float:
        """One whole step."""

    def prefill_attention_s(self, new_tokens: int, cached_tokens: int) -> float:
        """Attention of one prefill chunk in all layers."""

    def decode_attention_s(self, sequences: int, context_tokens: int) -> float:
        """KV reads of one decode step in all layers, contexts being equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepModel:
    """Precomputed coefficients of one architecture on one replica: seconds over all layers.

    Against vLLM kernels of Llama-3.1-8B on two GPUs (decision 0004), a step's median error is 2 % for decode, 2-3 % for
    prefill and 3-5 % for mixed batches; the 90th percentile is 11-14 %.
    """

    gpus: int
    fixed_s: float
    """Launches, sampling, all-reduce latency and the read of the output projection: paid once per step."""
    token_s: float
    """Matrix FLOPs of one token."""
    token_move_s: float
    """Norms, activations and all-reduce bytes of one token."""
    sample_s: float
    """Output projection FLOPs of one sampled sequence, and the read and write of its states in linear layers."""
    weight_read_s: float
    """Weights that every step reads."""
    expert_read_s: float
    """All routed experts; a step reads the part that its tokens touch."""
    expert_miss_ratio: float
    """Chance that one token leaves one expert alone. 1 without experts."""
    full_pair_s: float
    """One query-key pair in the full-attention layers."""
    window_pair_s: float
    full_kv_read_s: float
    """Reading one token's KV in the full-attention layers, once."""
    window_kv_read_s: float
    window_tokens: int
    mixed_kv_ratio: float = 1.0
    """How many times longer decoding sequences' KV reads take in a step that also carries a prefill chunk."""

    def time_s(
        self, *, prefill_tokens: int, prefill_pairs: float, decode_sequences: int, decode_kv_tokens: int
    ) -> float:
        """Seconds of one step; 0 for an empty one.

        `prefill_pairs` is `sum(S*C + S(S+1)/2)` over the chunks in the step, `decode_kv_tokens` the sum of the decoding
        sequences' contexts: for a batch the sum is what counts.
        """
        tokens = prefill_tokens + decode_sequences
        if tokens <= 0:
            return 0.0
        read_s = self.weight_read_s
        if self.expert_read_s:
            read_s += self.expert_read_s * (1.0 - self.expert_miss_ratio**tokens)
        # Root of the sum of squares: within 3 % of the larger one when they differ by 4x, 1.41 times it when equal.
        dense_s = hypot(tokens * self.token_s, read_s)
        attention_s = 0.0
        if decode_sequences:
            attention_s = self._reads_s(decode_sequences, decode_kv_tokens)
        if prefill_tokens > 0:
            attention_s = attention_s * self.mixed_kv_ratio + self._pairs_s(prefill_tokens, prefill_pairs)
        samples = decode_sequences + 1 if prefill_tokens else decode_sequences
        return self.fixed_s + dense_s + tokens * self.token_move_s + samples * self.sample_s + attention_s

    def prefill_attention_s(self, new_tokens: int, cached_tokens: int) -> float:
        """Seconds of one chunk's attention, the tile that a short chunk fills included."""
        return self._pairs_s(new_tokens, prefill_pairs(new_tokens, cached_tokens))

    def decode_attention_s(self, sequences: int, context_tokens: int) -> float:
        """Seconds of one decode step's KV reads."""
        return self._reads_s(sequences, sequences * context_tokens)

    def _pairs_s(self, tokens: int, pairs: float) -> float:
        cached = pairs / tokens - 0.5 * (tokens + 1)
        if tokens < TILE_TOKENS and cached > 0.0:
            pairs += cached * (TILE_TOKENS - tokens)
        seconds = pairs * self.full_pair_s
        if self.window_tokens:
            seconds += min(pairs, float(max(tokens, TILE_TOKENS) * self.window_tokens)) * self.window_pair_s
        return seconds

    def _reads_s(self, sequences: int, kv_tokens: int) -> float:
        seconds = kv_tokens * self.full_kv_read_s
        if self.window_tokens:
            seconds += min(kv_tokens, sequences * self.window_tokens) * self.window_kv_read_s
        return seconds


def step_model(architecture: Architecture, accelerator: Accelerator, *, tensor_parallel: int = 1) -> StepModel:
    """The step model of `architecture` on `tensor_parallel` GPUs of one kind.

    Raises `ValueError` when `tensor_parallel` is below 1 or does not divide the attention heads.
    """
    if tensor_parallel < 1 or architecture.heads % tensor_parallel:
        raise ValueError(
            f"tensor_parallel {tensor_parallel} does not divide the {architecture.heads} heads of {architecture.name}"
        )
    arch, gpu, split = architecture, accelerator, tensor_parallel
    # Weights of 4 bits are unpacked to bf16 before they are multiplied; only 8-bit ones use the fp8 units.
    if arch.weight_bytes_per_param == 1.0:
        matmul = gpu.fp8_flops_per_s * gpu.fp8_matmul_efficiency * split
    else:
        matmul = gpu.bf16_flops_per_s * gpu.matmul_efficiency * split
    read = gpu.memory_bytes_per_s * gpu.weight_read_efficiency * split
    weight_bytes = arch.weight_bytes_per_param
    pair_s = pair_flops(arch) / (gpu.bf16_flops_per_s * gpu.attention_efficiency * split)
    kv_layer_bytes = arch.kv_bytes_per_token(tensor_parallel=split) / arch.kv_layers / split
    kv_s = kv_layer_bytes / (gpu.memory_bytes_per_s * gpu.kv_read_efficiency)
    # Per token: the residual stream in two norms, queries and keys in the rotary embedding, the gated activation.
    routed_width = arch.experts_per_token * arch.moe_intermediate + arch.shared_intermediate
    width = routed_width if arch.experts else arch.intermediate
    moved = (
        8 * arch.hidden + 2 * (arch.heads + arch.kv_heads) * arch.head_dim / split + 3 * width / split
    ) * ACTIVATION_BYTES
    move_s = arch.layers * moved / gpu.memory_bytes_per_s
    reduce_s = 0.0
    # Two all-reduces a layer, as a ring.
    if split > 1:
        ring = 2.0 * (split - 1) / split
        reduce_s = 2 * arch.layers * ring * arch.hidden * ACTIVATION_BYTES / gpu.link_bytes_per_s
    return StepModel(
        gpus=split,
        fixed_s=gpu.step_overhead_s
        + arch.layers * gpu.layer_overhead_s
        + all_reduce_latency_s(arch, gpu, split)
        + arch.head_parameters * weight_bytes / read,
        token_s=token_flops(arch) / matmul,
        token_move_s=move_s + reduce_s,
        sample_s=2.0 * arch.head_parameters / matmul + state_s(arch, gpu, split),
        weight_read_s=arch.always_read_parameters * weight_bytes / read,
        expert_read_s=arch.routed_parameters * weight_bytes / read,
        expert_miss_ratio=1.0 - arch.experts_per_token / arch.experts if arch.experts else 1.0,
        full_pair_s=arch.full_layers * pair_s,
        window_pair_s=arch.windowed_layers * pair_s,
        full_kv_read_s=arch.full_layers * kv_s,
        window_kv_read_s=arch.windowed_layers * kv_s,
        window_tokens=arch.sliding_window if arch.windowed_layers else 0,
        mixed_kv_ratio=gpu.mixed_kv_ratio,
    )
