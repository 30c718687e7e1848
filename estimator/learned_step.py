"""Time of one engine step from learned kernels, fast enough to be asked for every step of a simulation."""

from math import hypot, sqrt
from typing import Protocol

from estimator import layers
from estimator.accelerator import Accelerator
from estimator.architecture import Architecture
from estimator.grid import COUNTS, TOKENS, Grid
from estimator.kernels.call import AttentionCall, ExpertsCall, LatentCall, MatmulCall, MixedAttentionCall
from estimator.overhead import all_reduce_latency_s, state_s
from estimator.step import step_model

SMALL_KERNELS_S = 9e-6
"""Of one layer with few tokens: two norms, the rotary embedding, the activation. 8.6 us on the RTX 4090, 10.2 us on the
RTX PRO 6000 (LLMServingSim 2.0); with many tokens the bytes that they move take longer."""


class KernelTimes(Protocol):
    """Seconds of single kernels. `estimator.kernels.library.Kernels` has them."""

    def attention_s(self, call: AttentionCall) -> float: ...
    def latent_s(self, call: LatentCall) -> float: ...
    def matmul_s(self, call: MatmulCall) -> float: ...
    def experts_s(self, call: ExpertsCall) -> float: ...
    def mixed_attention_s(self, call: MixedAttentionCall) -> float: ...


class LearnedStep:
    """A `Step` whose matrix products and attention are kernels; moves, all-reduces and launches are the analytic ones.

    Kernel times are remembered at knots and interpolated: a step that is near earlier ones takes some 10 us.
    """

    def __init__(
        self, kernels: KernelTimes, architecture: Architecture, accelerator: Accelerator, *, tensor_parallel: int = 1
    ) -> None:
        """Raises `ValueError` when `tensor_parallel` is below 1 or does not divide the attention heads."""
        analytic = step_model(architecture, accelerator, tensor_parallel=tensor_parallel)
        self.gpus = tensor_parallel
        self._kernels = kernels
        self._arch = architecture
        self._heads = architecture.heads // tensor_parallel
        self._kinds = layers.attention_layers(architecture)
        self._mixed_kv_ratio = accelerator.mixed_kv_ratio
        latency_s = all_reduce_latency_s(architecture, accelerator, tensor_parallel)
        self._fixed_s = accelerator.step_overhead_s + latency_s
        self._token_move_s = analytic.token_move_s
        self._launch_s = architecture.layers * SMALL_KERNELS_S
        self._state_s = state_s(architecture, accelerator, tensor_parallel)
        self._dense = Grid(self._dense_s, TOKENS)
        self._head = Grid(self._head_s, TOKENS)
        self._prefill = Grid(self._prefill_s, COUNTS, COUNTS)
        self._decode = Grid(self._decode_s, COUNTS, COUNTS)
        self._mixed = Grid(self._mixed_s, COUNTS, COUNTS, COUNTS, COUNTS)

    def time_s(
        self, *, prefill_tokens: int, prefill_pairs: float, decode_sequences: int, decode_kv_tokens: int
    ) -> float:
        """Seconds of one step; 0 for an empty one. Arguments as of `StepModel.time_s`.

        Several short prompts in a step have fewer pairs than one chunk of their tokens: their attention is that of a
        chunk with as many pairs.
        """
        tokens = prefill_tokens + decode_sequences
        if tokens <= 0:
            return 0.0
        samples = decode_sequences + 1 if prefill_tokens else decode_sequences
        seconds = self._fixed_s + hypot(self._launch_s, tokens * self._token_move_s) + samples * self._state_s
        seconds += self._dense.at(tokens) + self._head.at(samples)
        context = decode_kv_tokens / decode_sequences if decode_sequences else 0.0
        if not prefill_tokens:
            return seconds + self._decode.at(decode_sequences, context)
        chunk = float(prefill_tokens)
        cached = prefill_pairs / chunk - 0.5 * (chunk + 1.0)
        if cached < 0.0:
            chunk, cached = max(1.0, sqrt(2.0 * prefill_pairs)), 0.0
        if not decode_sequences:
            return seconds + self._prefill.at(chunk, cached)
        return seconds + self._mixed.at(chunk, cached, decode_sequences, context)

    def prefill_attention_s(self, new_tokens: int, cached_tokens: int) -> float:
        """Attention of one chunk in all layers, nothing else being in the step."""
        return self._prefill_s(new_tokens, cached_tokens)

    def decode_attention_s(self, sequences: int, context_tokens: int) -> float:
        """Attention of one step of decoding sequences with equal contexts, in all layers."""
        return self._decode_s(sequences, context_tokens)

    def _dense_s(self, tokens: int) -> float:
        if tokens <= 0:
            return 0.0
        products = layers.layer_matmuls(self._arch, tokens, self.gpus)
        seconds = sum(count * self._kernels.matmul_s(call) for count, call in products)
        experts = layers.layer_experts(self._arch, tokens, self.gpus)
        return seconds + (experts[0] * self._kernels.experts_s(experts[1]) if experts else 0.0)

    def _head_s(self, samples: int) -> float:
        return self._kernels.matmul_s(layers.output_projection(self._arch, samples, self.gpus)) if samples else 0.0

    def _prefill_s(self, new_tokens: int, cached_tokens: int) -> float:
        return self._attention_s(1, new_tokens, cached_tokens) if new_tokens > 0 else 0.0

    def _decode_s(self, sequences: int, context_tokens: int) -> float:
        # A decoding sequence reads its own new token too; one without context is a prefill of one token.
        return self._attention_s(sequences, 1, max(0, context_tokens - 1)) if sequences > 0 else 0.0

    def _attention_s(self, sequences: int, new_tokens: int, cached_tokens: int) -> float:
        arch, sizes = self._arch, {"sequences": sequences, "new_tokens": new_tokens, "cached_tokens": cached_tokens}
        if arch.kv_lora_rank:
            latent = LatentCall(**sizes, heads=self._heads, kv_bytes_per_element=arch.kv_bytes_per_element)
            return arch.kv_layers * self._kernels.latent_s(latent)
        return sum(
            count
            * self._kernels.attention_s(
                AttentionCall(
                    **sizes,
                    heads=self._heads,
                    kv_heads=layers.kv_heads(arch, self.gpus),
                    head_size=arch.head_dim,
                    window_tokens=window,
                    kv_bytes_per_element=arch.kv_bytes_per_element,
                )
            )
            for count, window in self._kinds
        )

    def _mixed_s(self, chunk_tokens: int, cached_tokens: int, decodes: int, context_tokens: int) -> float:
        if not chunk_tokens or not decodes:
            return self._prefill_s(chunk_tokens, cached_tokens) + self._decode_s(decodes, context_tokens)
        arch = self._arch
        if arch.kv_lora_rank:
            # Mixed steps of MLA are not measured: what is known of other attention stands in.
            decode_s = self._decode_s(decodes, context_tokens)
            return self._prefill_s(chunk_tokens, cached_tokens) + self._mixed_kv_ratio * decode_s
        return sum(
            count
            * self._kernels.mixed_attention_s(
                MixedAttentionCall(
                    chunk_tokens=chunk_tokens,
                    cached_tokens=cached_tokens,
                    decodes=decodes,
                    decode_tokens=max(1, context_tokens),
                    heads=self._heads,
                    kv_heads=layers.kv_heads(arch, self.gpus),
                    head_size=arch.head_dim,
                    window_tokens=window,
                    kv_bytes_per_element=arch.kv_bytes_per_element,
                )
            )
            for count, window in self._kinds
        )
