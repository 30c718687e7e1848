"""The shape of a transformer, which decides its FLOPs, bytes and KV cache. Read from a HuggingFace `config.json`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

GATED_MATRICES = 3
"""Gate, up and down projections of a SwiGLU or GeGLU block."""
MAX_STRETCH = 1024
MAX_POSITIONS = 2**40
"""Rotary embeddings with a `factor` or a context above these are a mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A decoder-only transformer. Sizes are element counts; 0 means that the part does not exist.

    Attention is multi-head, grouped-query (`kv_heads < heads`) or, with `kv_lora_rank > 0`, multi-head latent (MLA).
    With `experts > 0` every layer after `dense_layers` is a mixture of experts. `windowed_layers` of them attend to
    the last `sliding_window` tokens only.
    """

    name: str
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    intermediate: int
    vocab: int
    tied_embeddings: bool = False
    gated: bool = True
    """A gated feed-forward block has three matrices, a plain one two."""

    experts: int = 0
    experts_per_token: int = 0
    moe_intermediate: int = 0
    shared_intermediate: int = 0
    """Width of the experts that every token passes, summed."""
    dense_layers: int = 0
    """Leading layers without experts, in a model that has experts."""

    kv_lora_rank: int = 0
    q_lora_rank: int = 0
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0

    sliding_window: int = 0
    windowed_layers: int = 0

    weight_bytes_per_param: float = 2.0
    """2.0 for bf16, 1.0 for fp8, 0.5 and a little for 4-bit formats."""
    kv_bytes_per_element: float = 2.0

    context_tokens: int = field(default=0, compare=False)
    """Input and output that the model is made for, together; 0: not known. Decides no time and no size."""

    def __post_init__(self) -> None:
        for size in ("layers", "heads", "kv_heads", "head_dim", "hidden", "vocab"):
            if getattr(self, size) < 1:
                raise ValueError(f"{self.name}: {size} must be at least 1")
        if not 0 <= self.dense_layers <= self.layers:
            raise ValueError(f"{self.name}: dense_layers must be between 0 and layers")
        if not 0 <= self.windowed_layers <= self.layers:
            raise ValueError(f"{self.name}: windowed_layers must be between 0 and layers")
        if self.windowed_layers and self.sliding_window < 1:
            raise ValueError(f"{self.name}: windowed_layers need a sliding_window of at least 1 token")
        if self.experts and not 1 <= self.experts_per_token <= self.experts:
            raise ValueError(f"{self.name}: experts_per_token must be between 1 and experts")
        if self.weight_bytes_per_param <= 0 or self.kv_bytes_per_element <= 0:
            raise ValueError(f"{self.name}: bytes per parameter and per KV element must be positive")

    @property
    def full_layers(self) -> int:
        """Layers that attend to the whole context."""
        return self.layers - self.windowed_layers

    @property
    def moe_layers(self) -> int:
        return self.layers - self.dense_layers if self.experts else 0

    @property
    def attention_parameters(self) -> int:
        """Projection parameters of one layer's attention."""
        if self.kv_lora_rank:
            query_dim = self.heads * (self.qk_nope_head_dim + self.qk_rope_head_dim)
            query = self.q_lora_rank * (self.hidden + query_dim) if self.q_lora_rank else self.hidden * query_dim
            down = self.hidden * (self.kv_lora_rank + self.qk_rope_head_dim)
            up = self.kv_lora_rank * self.heads * (self.qk_nope_head_dim + self.v_head_dim)
            return query + down + up + self.heads * self.v_head_dim * self.hidden
        query_and_output = 2 * self.hidden * self.heads * self.head_dim
        return query_and_output + 2 * self.hidden * self.kv_heads * self.head_dim

    @property
    def expert_parameters(self) -> int:
        """Parameters of one routed expert; 0 without experts."""
        return self._feed_forward(self.moe_intermediate) if self.experts else 0

    @property
    def routed_parameters(self) -> int:
        """Parameters of all routed experts of all layers: what is read only as far as tokens choose it."""
        return self.moe_layers * self.experts * self.expert_parameters

    @property
    def always_read_parameters(self) -> int:
        """Layer parameters that every step reads: attention, dense and shared feed-forward blocks, routers."""
        dense = (self.layers - self.moe_layers) * self._feed_forward(self.intermediate)
        shared = self.moe_layers * (self._feed_forward(self.shared_intermediate) + self.hidden * self.experts)
        return self.layers * self.attention_parameters + dense + shared

    @property
    def layer_parameters_per_token(self) -> int:
        """Layer parameters that one token is multiplied with."""
        return self.always_read_parameters + self.moe_layers * self.experts_per_token * self.expert_parameters

    @property
    def head_parameters(self) -> int:
        """Parameters of the output projection (`lm_head`)."""
        return self.hidden * self.vocab

    @property
    def parameters(self) -> int:
        """All parameters held in memory. Norms and biases, below 0.1 %, are left out."""
        embeddings = self.head_parameters * (1 if self.tied_embeddings else 2)
        return self.always_read_parameters + self.routed_parameters + embeddings

    @property
    def active_parameters(self) -> int:
        """Parameters that take part in one token, embeddings included: the "A3B" of a model's name."""
        embeddings = self.head_parameters * (1 if self.tied_embeddings else 2)
        return self.layer_parameters_per_token + embeddings

    @property
    def weight_bytes(self) -> float:
        return self.parameters * self.weight_bytes_per_param

    @property
    def kv_elements_per_layer(self) -> int:
        """KV cache elements of one token in one layer: keys and values, or MLA's one latent and its rotary part."""
        if self.kv_lora_rank:
            return self.kv_lora_rank + self.qk_rope_head_dim
        return 2 * self.kv_heads * self.head_dim

    def kv_bytes_per_token(self, *, tensor_parallel: int = 1) -> float:
        """KV cache bytes of one token, summed over the replica's GPUs, every layer holding it.

        KV heads are split over the GPUs; with fewer heads than GPUs, and always with MLA, they are copied.
        Llama-3.1-8B: 32 layers x 2 x 8 heads x 128 x 2 bytes = 131,072.
        """
        per_layer = self.kv_elements_per_layer * self.kv_bytes_per_element
        if self.kv_lora_rank:
            copies = float(tensor_parallel)
        else:
            copies = tensor_parallel * -(-self.kv_heads // tensor_parallel) / self.kv_heads
        return self.layers * per_layer * copies

    def _feed_forward(self, width: int) -> int:
        return (GATED_MATRICES if self.gated else 2) * self.hidden * width


_FP8_METHODS = frozenset({"fp8", "fbgemm_fp8", "compressed-tensors", "modelopt"})
_FOUR_BIT_METHODS = frozenset({"awq", "gptq", "mxfp4", "bitsandbytes"})


def architecture_from_config(config: Mapping[str, Any], name: str) -> Architecture:
    """The architecture that a HuggingFace `config.json` describes.

    Multimodal configurations are read at their `text_config`. Raises `ValueError` naming a missing or
    malformed key.
    """
    text = config.get("text_config")
    if isinstance(text, Mapping):
        config = {**{k: v for k, v in config.items() if k == "quantization_config"}, **text}
    reader = _Config(config, name)
    layers = reader.count("num_hidden_layers", least=1)
    heads = reader.count("num_attention_heads", least=1)
    hidden = reader.count("hidden_size", least=1)
    experts = reader.count("num_local_experts", "num_experts", "n_routed_experts", default=0)
    intermediate = reader.count("intermediate_size", default=0 if experts else None)
    moe_intermediate = reader.count("moe_intermediate_size", default=intermediate) if experts else 0
    shared = reader.count("shared_expert_intermediate_size", default=0) if experts else 0
    if experts and not shared:
        shared = reader.count("n_shared_experts", default=0) * moe_intermediate
    window, windowed = _windows(reader, layers)
    kv_lora_rank = reader.count("kv_lora_rank", default=0)
    return Architecture(
        name=name,
        layers=layers,
        heads=heads,
        kv_heads=reader.count("num_key_value_heads", default=heads, least=1),
        head_dim=reader.count("head_dim", default=hidden // heads),
        hidden=hidden,
        intermediate=intermediate,
        vocab=reader.count("vocab_size", least=1),
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        experts=experts,
        experts_per_token=reader.count("num_experts_per_tok", "experts_per_token") if experts else 0,
        moe_intermediate=moe_intermediate,
        shared_intermediate=shared,
        dense_layers=reader.count("first_k_dense_replace", default=0) if experts else 0,
        kv_lora_rank=kv_lora_rank,
        q_lora_rank=reader.count("q_lora_rank", default=0) if kv_lora_rank else 0,
        qk_nope_head_dim=reader.count("qk_nope_head_dim") if kv_lora_rank else 0,
        qk_rope_head_dim=reader.count("qk_rope_head_dim") if kv_lora_rank else 0,
        v_head_dim=reader.count("v_head_dim") if kv_lora_rank else 0,
        sliding_window=window,
        windowed_layers=windowed,
        weight_bytes_per_param=_weight_bytes(config),
        context_tokens=_context_tokens(config),
    )


@dataclass(frozen=True, slots=True)
class _Config:
    values: Mapping[str, Any]
    name: str

    def count(self, *keys: str, default: int | None = None, least: int = 0) -> int:
        for key in keys:
            value = self.values.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{self.name}: {key} must be an integer of at least {least}, not {value!r}")
            return value
        if default is None:
            raise ValueError(f"{self.name}: {keys[0]} is missing")
        return default


def _windows(reader: _Config, layers: int) -> tuple[int, int]:
    """Window in tokens and how many layers have it, from `layer_types` or `sliding_window_pattern`."""
    window = reader.count("sliding_window", default=0)
    if not window or reader.values.get("use_sliding_window") is False:
        return 0, 0
    kinds = reader.values.get("layer_types")
    if isinstance(kinds, list):
        windowed = sum(kind == "sliding_attention" for kind in kinds)
    else:
        # Pattern n: every n-th layer is full. Without a pattern (Mistral 7B v0.1) every layer has the window.
        pattern = reader.count("sliding_window_pattern", default=0)
        windowed = layers - layers // pattern if pattern else layers
    return (window, min(windowed, layers)) if windowed else (0, 0)


def _context_tokens(config: Mapping[str, Any]) -> int:
    """The longest context, 0 where the configuration does not say it without doubt.

    Yarn stretches `original_max_position_embeddings`, and some configurations have the stretched number already. With
    linear or dynamic scaling, `max_position_embeddings` means one or the other.
    """
    positions = config.get("max_position_embeddings")
    if isinstance(positions, bool) or not isinstance(positions, int) or positions < 1:
        return 0
    scaling = config.get("rope_scaling") or config.get("rope_parameters")
    if not isinstance(scaling, Mapping):
        return positions
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind in ("linear", "dynamic"):
        return 0
    if kind != "yarn":
        return positions
    factor, original = scaling.get("factor"), scaling.get("original_max_position_embeddings", positions)
    if not isinstance(factor, int | float) or not 1 <= factor <= MAX_STRETCH:
        return 0
    if not isinstance(original, int) or not 1 <= original <= MAX_POSITIONS:
        return 0
    return max(positions, int(original * factor))


def _weight_bytes(config: Mapping[str, Any]) -> float:
    quantization = config.get("quantization_config")
    if isinstance(quantization, Mapping):
        method = str(quantization.get("quant_method", "")).lower()
        if method in _FOUR_BIT_METHODS:
            return 0.5625 if quantization.get("bits", 4) == 4 else 1.0
        if method in _FP8_METHODS:
            return 1.0
    dtype = str(config.get("torch_dtype") or config.get("dtype") or "bfloat16")
    return 4.0 if dtype == "float32" else 2.0
