"""Popular open models, by name."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from estimator.architecture import Architecture, with_expert_weights
from estimator.quantization import MXFP4_BITS


def _dense(
    name: str,
    layers: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    hidden: int,
    intermediate: int,
    vocab: int,
    *,
    tied: bool = False,
) -> Architecture:
    return Architecture(
        name=name,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        hidden=hidden,
        intermediate=intermediate,
        vocab=vocab,
        tied_embeddings=tied,
    )


def _experts(
    name: str,
    layers: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    hidden: int,
    vocab: int,
    *,
    experts: int,
    per_token: int,
    width: int,
) -> Architecture:
    return Architecture(
        name=name,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        hidden=hidden,
        intermediate=width,
        vocab=vocab,
        experts=experts,
        experts_per_token=per_token,
        moe_intermediate=width,
    )


def _gemma2(name: str, layers: int, heads: int, head_dim: int, hidden: int, intermediate: int) -> Architecture:
    """Every second layer sees 4096 tokens; the embedding is the output projection."""
    return Architecture(
        name=name,
        layers=layers,
        heads=heads,
        kv_heads=heads // 2,
        head_dim=head_dim,
        hidden=hidden,
        intermediate=intermediate,
        vocab=256_000,
        tied_embeddings=True,
        sliding_window=4096,
        windowed_layers=layers // 2,
    )


def _gemma3(
    name: str, layers: int, heads: int, kv_heads: int, head_dim: int, hidden: int, intermediate: int, window: int
) -> Architecture:
    """Five of six layers see a window; the embedding is the output projection."""
    return Architecture(
        name=name,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        hidden=hidden,
        intermediate=intermediate,
        vocab=262_208 if layers > 26 else 262_144,
        tied_embeddings=True,
        sliding_window=window,
        windowed_layers=layers - layers // 6,
    )


def _gpt_oss(name: str, layers: int, experts: int) -> Architecture:
    """Every second layer sees 128 tokens; expert weights are 4-bit (MXFP4), 4.25 bits with their scales."""
    model = Architecture(
        name=name,
        layers=layers,
        heads=64,
        kv_heads=8,
        head_dim=64,
        hidden=2880,
        intermediate=2880,
        vocab=201_088,
        experts=experts,
        experts_per_token=4,
        moe_intermediate=2880,
        sliding_window=128,
        windowed_layers=layers // 2,
    )
    return with_expert_weights(model, MXFP4_BITS / 8)


def _delta_net(
    name: str,
    layers: int,
    heads: int,
    kv_heads: int,
    hidden: int,
    vocab: int,
    *,
    value_heads: int,
    intermediate: int = 0,
    experts: int = 0,
    per_token: int = 0,
    width: int = 0,
) -> Architecture:
    """Three of four layers are Gated DeltaNet, with 16 key heads; one shared expert as wide as a routed one."""
    keys, values = 16 * 128, value_heads * 128
    return Architecture(
        name=name,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=256,
        hidden=hidden,
        intermediate=intermediate,
        vocab=vocab,
        experts=experts,
        experts_per_token=per_token,
        moe_intermediate=width,
        shared_intermediate=width,
        gated_attention=True,
        linear_layers=layers - layers // 4,
        linear_parameters=hidden * (2 * keys + 3 * values + 2 * value_heads) + 4 * (2 * keys + values),
        linear_state_elements=value_heads * 128 * 128,
    )


def _glm45(
    name: str, layers: int, hidden: int, intermediate: int, experts: int, width: int, dense: int
) -> Architecture:
    return Architecture(
        name=name,
        layers=layers,
        heads=96,
        kv_heads=8,
        head_dim=128,
        hidden=hidden,
        intermediate=intermediate,
        vocab=151_552,
        experts=experts,
        experts_per_token=8,
        moe_intermediate=width,
        shared_intermediate=width,
        dense_layers=dense,
    )


def _llama4(name: str, experts: int, dense: int) -> Architecture:
    """Three of four layers attend in chunks of 8192 tokens; one shared expert."""
    return Architecture(
        name=name,
        layers=48,
        heads=40,
        kv_heads=8,
        head_dim=128,
        hidden=5120,
        intermediate=16_384 if dense else 8192,
        vocab=202_048,
        experts=experts,
        experts_per_token=1,
        moe_intermediate=8192,
        shared_intermediate=8192,
        dense_layers=dense,
        sliding_window=8192,
        windowed_layers=36,
    )


def _deepseek_v3(name: str) -> Architecture:
    return Architecture(
        name=name,
        layers=61,
        heads=128,
        kv_heads=128,
        head_dim=128,
        hidden=7168,
        intermediate=18_432,
        vocab=129_280,
        experts=256,
        experts_per_token=8,
        moe_intermediate=2048,
        shared_intermediate=2048,
        dense_layers=3,
        kv_lora_rank=512,
        q_lora_rank=1536,
        qk_nope_head_dim=128,
        qk_rope_head_dim=64,
        v_head_dim=128,
        weight_bytes_per_param=1.0,
    )


_KIMI_K2 = replace(_deepseek_v3("kimi-k2"), heads=64, kv_heads=64, vocab=163_840, experts=384, dense_layers=1)

_ALL = (
    _dense("llama-3.1-8b", 32, 32, 8, 128, 4096, 14_336, 128_256),
    _dense("llama-3.1-70b", 80, 64, 8, 128, 8192, 28_672, 128_256),
    _dense("llama-3.1-405b", 126, 128, 8, 128, 16_384, 53_248, 128_256),
    _dense("llama-3.2-1b", 16, 32, 8, 64, 2048, 8192, 128_256, tied=True),
    _dense("llama-3.2-3b", 28, 24, 8, 128, 3072, 8192, 128_256, tied=True),
    _dense("llama-2-7b", 32, 32, 32, 128, 4096, 11_008, 32_000),
    _dense("llama-2-13b", 40, 40, 40, 128, 5120, 13_824, 32_000),
    _dense("mistral-7b", 32, 32, 8, 128, 4096, 14_336, 32_768),
    _dense("mistral-nemo-12b", 40, 32, 8, 128, 5120, 14_336, 131_072),
    _dense("mistral-small-24b", 40, 32, 8, 128, 5120, 32_768, 131_072),
    _dense("qwen2.5-0.5b", 24, 14, 2, 64, 896, 4864, 151_936, tied=True),
    _dense("qwen2.5-1.5b", 28, 12, 2, 128, 1536, 8960, 151_936, tied=True),
    _dense("qwen2.5-3b", 36, 16, 2, 128, 2048, 11_008, 151_936, tied=True),
    _dense("qwen2.5-7b", 28, 28, 4, 128, 3584, 18_944, 152_064),
    _dense("qwen2.5-14b", 48, 40, 8, 128, 5120, 13_824, 152_064),
    _dense("qwen2.5-32b", 64, 40, 8, 128, 5120, 27_648, 152_064),
    _dense("qwen2.5-72b", 80, 64, 8, 128, 8192, 29_568, 152_064),
    _dense("qwen3-0.6b", 28, 16, 8, 128, 1024, 3072, 151_936, tied=True),
    _dense("qwen3-1.7b", 28, 16, 8, 128, 2048, 6144, 151_936, tied=True),
    _dense("qwen3-4b", 36, 32, 8, 128, 2560, 9728, 151_936, tied=True),
    _dense("qwen3-8b", 36, 32, 8, 128, 4096, 12_288, 151_936),
    _dense("qwen3-14b", 40, 40, 8, 128, 5120, 17_408, 151_936),
    _dense("qwen3-32b", 64, 64, 8, 128, 5120, 25_600, 151_936),
    _dense("phi-4", 40, 40, 10, 128, 5120, 17_920, 100_352),
    _experts("qwen3-30b-a3b", 48, 32, 4, 128, 2048, 151_936, experts=128, per_token=8, width=768),
    _experts("qwen3-235b-a22b", 94, 64, 4, 128, 4096, 151_936, experts=128, per_token=8, width=1536),
    _experts("mixtral-8x7b", 32, 32, 8, 128, 4096, 32_000, experts=8, per_token=2, width=14_336),
    _experts("mixtral-8x22b", 56, 48, 8, 128, 6144, 32_768, experts=8, per_token=2, width=16_384),
    _gemma2("gemma-2-2b", 26, 8, 256, 2304, 9216),
    _gemma2("gemma-2-9b", 42, 16, 256, 3584, 14_336),
    _gemma2("gemma-2-27b", 46, 32, 128, 4608, 36_864),
    _gemma3("gemma-3-1b", 26, 4, 1, 256, 1152, 6912, 512),
    _gemma3("gemma-3-4b", 34, 8, 4, 256, 2560, 10_240, 1024),
    _gemma3("gemma-3-12b", 48, 16, 8, 256, 3840, 15_360, 1024),
    _gemma3("gemma-3-27b", 62, 32, 16, 128, 5376, 21_504, 1024),
    _experts("qwen3-coder-480b-a35b", 62, 96, 8, 128, 6144, 151_936, experts=160, per_token=8, width=2560),
    _delta_net("qwen3-next-80b-a3b", 48, 16, 2, 2048, 151_936, value_heads=32, experts=512, per_token=10, width=512),
    _delta_net("qwen3.5-27b", 64, 24, 4, 5120, 248_320, value_heads=48, intermediate=17_408),
    _delta_net("qwen3.5-35b-a3b", 40, 16, 2, 2048, 248_320, value_heads=32, experts=256, per_token=8, width=512),
    _delta_net("qwen3.5-122b-a10b", 48, 32, 2, 3072, 248_320, value_heads=64, experts=256, per_token=8, width=1024),
    _delta_net("qwen3.5-397b-a17b", 60, 32, 2, 4096, 248_320, value_heads=64, experts=512, per_token=10, width=1024),
    replace(
        _experts("minimax-m2.5", 62, 48, 8, 128, 3072, 200_064, experts=256, per_token=8, width=1536),
        weight_bytes_per_param=1.0,
    ),
    _glm45("glm-4.5", 92, 5120, 12_288, 160, 1536, 3),
    _glm45("glm-4.5-air", 46, 4096, 10_944, 128, 1408, 1),
    _llama4("llama-4-scout", 16, 0),
    _llama4("llama-4-maverick", 128, 24),
    # 52 blocks: 23 of Mamba-2, 6 of attention, 23 of experts, which belong to as many of the others.
    Architecture(
        name="nemotron-3-nano-30b-a3b",
        layers=29,
        heads=32,
        kv_heads=2,
        head_dim=128,
        hidden=2688,
        intermediate=0,
        vocab=131_072,
        gated=False,
        experts=128,
        experts_per_token=6,
        moe_intermediate=1856,
        shared_intermediate=3712,
        dense_layers=6,
        linear_layers=23,
        linear_parameters=2688 * (4096 + 6144 + 64) + 4 * 6144 + 4096 * 2688,
        linear_state_elements=4096 * 128,
    ),
    _gpt_oss("gpt-oss-20b", 24, 32),
    _gpt_oss("gpt-oss-120b", 36, 128),
    _deepseek_v3("deepseek-v3"),
    _deepseek_v3("deepseek-r1"),
    _KIMI_K2,
    with_expert_weights(replace(_KIMI_K2, name="kimi-k2.5", weight_bytes_per_param=2.0), 0.5625),
)

# The longest that a published variant with this shape is made for, with the stretch that its model card describes.
_CONTEXT_TOKENS: Mapping[int, tuple[str, ...]] = {
    4096: ("llama-2-7b", "llama-2-13b"),
    8192: ("gemma-2-2b", "gemma-2-9b", "gemma-2-27b"),
    16_384: ("phi-4",),
    32_768: ("mistral-7b", "mixtral-8x7b", "qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b", "gemma-3-1b"),
    40_960: ("qwen3-0.6b", "qwen3-1.7b"),
    65_536: ("mixtral-8x22b",),
    131_072: (
        *("llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b", "llama-3.2-1b", "llama-3.2-3b"),
        *("mistral-nemo-12b", "mistral-small-24b", "qwen2.5-7b", "qwen2.5-14b", "qwen2.5-32b", "qwen2.5-72b"),
        *("qwen3-8b", "qwen3-14b", "qwen3-32b", "gemma-3-4b", "gemma-3-12b", "gemma-3-27b"),
        *("gpt-oss-20b", "gpt-oss-120b", "kimi-k2", "glm-4.5-air"),
    ),
    163_840: ("deepseek-v3", "deepseek-r1"),
    196_608: ("minimax-m2.5",),
    202_752: ("glm-4.5",),
    262_144: (
        *("qwen3-4b", "qwen3-30b-a3b", "qwen3-235b-a22b", "qwen3-coder-480b-a35b", "qwen3-next-80b-a3b"),
        *("qwen3.5-27b", "qwen3.5-35b-a3b", "qwen3.5-122b-a10b", "qwen3.5-397b-a17b", "kimi-k2.5"),
        "nemotron-3-nano-30b-a3b",
    ),
    1_048_576: ("llama-4-maverick",),
    10_485_760: ("llama-4-scout",),
}
_CONTEXT_OF = {name: tokens for tokens, names in _CONTEXT_TOKENS.items() for name in names}

MODELS: Mapping[str, Architecture] = MappingProxyType(
    {model.name: replace(model, context_tokens=_CONTEXT_OF[model.name]) for model in _ALL}
)

_SAME_SHAPE = {
    "llama-3-8b": "llama-3.1-8b",
    "llama-3-70b": "llama-3.1-70b",
    "llama-3.3-70b": "llama-3.1-70b",
    "deepseek-r1-distill-llama-8b": "llama-3.1-8b",
    "deepseek-r1-distill-llama-70b": "llama-3.1-70b",
    "deepseek-r1-distill-qwen-14b": "qwen2.5-14b",
    "deepseek-r1-distill-qwen-32b": "qwen2.5-32b",
    "qwen2.5-coder-7b": "qwen2.5-7b",
    "qwen2.5-coder-14b": "qwen2.5-14b",
    "qwen2.5-coder-32b": "qwen2.5-32b",
    "qwq-32b": "qwen2.5-32b",
    "qwen3-coder-30b-a3b": "qwen3-30b-a3b",
    "mistral-nemo": "mistral-nemo-12b",
    "mistral-small-3.1-24b": "mistral-small-24b",
    "mistral-small-3.2-24b": "mistral-small-24b",
    "deepseek-v3.1": "deepseek-v3",
    "qwen3.6-27b": "qwen3.5-27b",
    "qwen3.6-35b-a3b": "qwen3.5-35b-a3b",
    "kimi-k2.6": "kimi-k2.5",
    "minimax-m2.7": "minimax-m2.5",
    "glm-4.6": "glm-4.5",
    "llama-4-scout-17b-16e": "llama-4-scout",
    "llama-4-maverick-17b-128e": "llama-4-maverick",
}
_TRAINING_WORDS = frozenset({"instruct", "chat", "it", "base", "hf", "pt", "thinking", "meta", "preview"})


def _normal(name: str) -> str:
    """`meta-llama/Meta-Llama-3.1-8B-Instruct` becomes `llama-3.1-8b`: no owner, no training stage, no release date."""
    parts = name.lower().rsplit("/", 1)[-1].replace("_", "-").replace(" ", "-").replace(":", "-").split("-")
    kept = [part for part in parts if part not in _TRAINING_WORDS and not (part.isdigit() and len(part) == 4)]
    kept = [part for part in kept if not (part.startswith("v0.") or part == "")]
    return "-".join(kept)


_NORMAL: Mapping[str, Architecture] = MappingProxyType(
    {_normal(name): model for name, model in MODELS.items()}
    | {_normal(alias): MODELS[name] for alias, name in _SAME_SHAPE.items()}
)


def find_model(name: str) -> Architecture | None:
    """The registered shape of a model name as clients and model cards write it; `None` when it is not registered.

    Owner, case, `-instruct` and the like and release dates do not matter; a quantized variant is not guessed.
    """
    return _NORMAL.get(_normal(name))


def model_aliases(name: str) -> tuple[str, ...]:
    """Other model names that stand for the shape of a registered name: the same sizes, trained otherwise."""
    return tuple(alias for alias, shape in _SAME_SHAPE.items() if shape == name)


def model_names() -> tuple[str, ...]:
    """All names that `find_model` knows, as they are written: registered ones and others of the same shape."""
    return (*MODELS, *_SAME_SHAPE)
