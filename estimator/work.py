"""Exact work of a request or a step: FLOPs, bytes, KV footprint. No efficiencies here; those are the step model's."""

from estimator.accelerator import Accelerator
from estimator.architecture import Architecture

ACTIVATION_RESERVE_BYTES = 1.5 * 2**30
"""What a model server keeps per GPU for activations, workspaces and graphs beside weights and KV cache."""


def prefill_pairs(new_tokens: int, cached_tokens: int = 0, *, window_tokens: int = 0) -> float:
    """Query-key pairs of `new_tokens` computed after `cached_tokens`: `S*C + S(S+1)/2`.

    A prefix hit removes the triangle of the cached part, not the rectangle. With a window, each query sees at most
    `window_tokens` keys, its own included.
    """
    full = new_tokens * cached_tokens + new_tokens * (new_tokens + 1) / 2
    if not window_tokens or cached_tokens + new_tokens <= window_tokens:
        return full
    # Queries before the window is full see 1 + their index; the rest see the window.
    growing = max(0, window_tokens - cached_tokens)
    return growing * cached_tokens + growing * (growing + 1) / 2 + (new_tokens - growing) * float(window_tokens)


def pair_flops(architecture: Architecture) -> float:
    """FLOPs of one query-key pair in one layer, all heads: a multiply-add for the score and one for the value.

    MLA prefill runs expanded: scores over nope + rope dimensions, values over `v_head_dim`.
    """
    if architecture.kv_lora_rank:
        score_dim = architecture.qk_nope_head_dim + architecture.qk_rope_head_dim
        return 2.0 * architecture.heads * (score_dim + architecture.v_head_dim)
    return 4.0 * architecture.heads * architecture.head_dim


def token_flops(architecture: Architecture) -> float:
    """FLOPs of one token in all layers, without attention over the context and without the output projection."""
    return 2.0 * architecture.layer_parameters_per_token


def prefill_flops(architecture: Architecture, new_tokens: int, cached_tokens: int = 0) -> float:
    """FLOPs of a prefill, one output projection included. Zero new tokens are no work."""
    if new_tokens <= 0:
        return 0.0
    full = architecture.full_layers * prefill_pairs(new_tokens, cached_tokens)
    windowed = architecture.windowed_layers * prefill_pairs(
        new_tokens, cached_tokens, window_tokens=architecture.sliding_window
    )
    attention = pair_flops(architecture) * (full + windowed)
    return new_tokens * token_flops(architecture) + attention + 2.0 * architecture.head_parameters


def touched_experts_ratio(architecture: Architecture, tokens: float) -> float:
    """Expected part of the routed experts that `tokens` tokens choose between them, when they choose uniformly."""
    if not architecture.experts:
        return 0.0
    missed: float = (1.0 - architecture.experts_per_token / architecture.experts) ** tokens
    return 1.0 - missed


def weight_bytes_read(architecture: Architecture, tokens: float) -> float:
    """Weight bytes that a step of `tokens` tokens reads: layers, touched experts, output projection, no embedding."""
    touched = architecture.routed_parameters * touched_experts_ratio(architecture, tokens)
    return (
        architecture.always_read_parameters + touched + architecture.head_parameters
    ) * architecture.weight_bytes_per_param


def kv_bytes(architecture: Architecture, context_tokens: int) -> float:
    """KV cache bytes of one sequence of `context_tokens`; windowed layers keep their window only."""
    per_layer = architecture.kv_elements_per_layer * architecture.kv_bytes_per_element
    windowed_tokens = min(context_tokens, architecture.sliding_window)
    return per_layer * (architecture.full_layers * context_tokens + architecture.windowed_layers * windowed_tokens)


def decode_bytes(architecture: Architecture, contexts: tuple[int, ...] | list[int]) -> float:
    """Bytes that one decode step reads for sequences of these context lengths: `weights + sum of their KV`."""
    if not contexts:
        return 0.0
    return weight_bytes_read(architecture, len(contexts)) + sum(kv_bytes(architecture, tokens) for tokens in contexts)


def kv_capacity_tokens(
    architecture: Architecture,
    accelerator: Accelerator,
    tensor_parallel: int = 1,
    memory_utilization: float = 0.9,
) -> int:
    """KV cache tokens of one replica: what weights and activations leave. 0 when the weights do not fit.

    Counts every layer for every token, as a model server without a hybrid KV cache does: with windowed layers this
    is the safe side.
    """
    usable = accelerator.memory_bytes * memory_utilization - ACTIVATION_RESERVE_BYTES
    free = usable * tensor_parallel - architecture.weight_bytes
    return max(0, int(free // architecture.kv_bytes_per_token(tensor_parallel=tensor_parallel)))
