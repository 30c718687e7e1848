"""Parameter counts, KV bytes, `config.json` and the registry."""

from dataclasses import replace
from typing import Any

import pytest

from estimator.architecture import architecture_from_config
from estimator.models import MODELS, find_model, model_aliases
from tests.estimator.shapes import LLAMA_8B

LLAMA_CONFIG: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 128256,
}
MISTRAL_V01_CONFIG = LLAMA_CONFIG | {"vocab_size": 32000, "sliding_window": 4096}
QWEN2_CONFIG: dict[str, Any] = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "sliding_window": 131072,
    "use_sliding_window": False,
    "vocab_size": 152064,
}
QWEN3_MOE_CONFIG: dict[str, Any] = {
    "head_dim": 128,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "sliding_window": None,
    "vocab_size": 151936,
}
DEEPSEEK_V3_CONFIG: dict[str, Any] = {
    "first_k_dense_replace": 3,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": {"quant_method": "fp8"},
    "v_head_dim": 128,
    "vocab_size": 129280,
}
GPT_OSS_CONFIG: dict[str, Any] = {
    "head_dim": 64,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "num_attention_heads": 64,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 24,
    "num_key_value_heads": 8,
    "num_local_experts": 32,
    "quantization_config": {"quant_method": "mxfp4"},
    "sliding_window": 128,
    "vocab_size": 201088,
}
GEMMA3_CONFIG: dict[str, Any] = {
    "text_config": {
        "head_dim": 128,
        "hidden_size": 5376,
        "intermediate_size": 21504,
        "num_attention_heads": 32,
        "num_hidden_layers": 62,
        "num_key_value_heads": 16,
        "sliding_window": 1024,
        "sliding_window_pattern": 6,
        "tie_word_embeddings": True,
        "vocab_size": 262208,
    }
}


@pytest.mark.parametrize(
    ("name", "billions", "active_billions"),
    [
        pytest.param("llama-3.1-8b", 8.03, 8.03, id="grouped-query"),
        pytest.param("llama-3.1-70b", 70.6, 70.6, id="large grouped-query"),
        pytest.param("llama-2-7b", 6.74, 6.74, id="multi-head"),
        pytest.param("llama-3.2-1b", 1.24, 1.24, id="tied embeddings"),
        pytest.param("qwen2.5-72b", 72.7, 72.7, id="qwen"),
        pytest.param("mixtral-8x7b", 46.7, 12.9, id="experts"),
        pytest.param("qwen3-30b-a3b", 30.5, 3.3, id="fine-grained experts"),
        pytest.param("qwen3-235b-a22b", 235, 22, id="large fine-grained experts"),
        pytest.param("gemma-3-27b", 27.0, 27.0, id="windowed layers"),
        pytest.param("gpt-oss-120b", 117, 5.7, id="windowed layers and experts"),
        pytest.param("deepseek-v3", 671, 37.5, id="latent attention, shared and routed experts"),
    ],
)
def test_parameter_counts_match_the_model_cards(name: str, billions: float, active_billions: float) -> None:
    assert MODELS[name].parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert MODELS[name].active_parameters / 1e9 == pytest.approx(active_billions, rel=0.03)


@pytest.mark.parametrize(
    ("name", "tensor_parallel", "expected_bytes"),
    [
        pytest.param("llama-3.1-8b", 1, 32 * 2 * 8 * 128 * 2, id="grouped-query"),
        pytest.param("llama-3.1-8b", 8, 32 * 2 * 8 * 128 * 2, id="one head per GPU"),
        pytest.param("llama-3.1-8b", 16, 2 * 32 * 2 * 8 * 128 * 2, id="fewer heads than GPUs are copied"),
        pytest.param("deepseek-v3", 1, 61 * (512 + 64) * 2, id="latent"),
        pytest.param("deepseek-v3", 8, 8 * 61 * (512 + 64) * 2, id="latent is copied to every GPU"),
    ],
)
def test_kv_bytes_are_exact(name: str, tensor_parallel: int, expected_bytes: int) -> None:
    assert MODELS[name].kv_bytes_per_token(tensor_parallel=tensor_parallel) == expected_bytes


@pytest.mark.parametrize(
    ("config", "name"),
    [
        pytest.param(LLAMA_CONFIG, "llama-3.1-8b", id="llama"),
        pytest.param(QWEN2_CONFIG, "qwen2.5-7b", id="a window that is switched off"),
        pytest.param(QWEN3_MOE_CONFIG, "qwen3-30b-a3b", id="experts"),
        pytest.param(DEEPSEEK_V3_CONFIG, "deepseek-v3", id="latent attention"),
        pytest.param(GPT_OSS_CONFIG, "gpt-oss-20b", id="layer types"),
        pytest.param(GEMMA3_CONFIG, "gemma-3-27b", id="multimodal, window pattern"),
    ],
)
def test_a_published_config_gives_the_registered_shape(config: dict[str, Any], name: str) -> None:
    read = architecture_from_config(config, name)
    registered = MODELS[name]
    assert read.parameters == registered.parameters
    assert read.layer_parameters_per_token == registered.layer_parameters_per_token
    assert read.kv_bytes_per_token() == registered.kv_bytes_per_token()
    assert (read.sliding_window, read.windowed_layers) == (registered.sliding_window, registered.windowed_layers)
    assert read.weight_bytes_per_param == pytest.approx(registered.weight_bytes_per_param, rel=0.1)


def test_a_window_without_a_pattern_holds_for_every_layer() -> None:
    assert architecture_from_config(MISTRAL_V01_CONFIG, "mistral-7b-v0.1").windowed_layers == 32


@pytest.mark.parametrize(
    ("change", "bytes_per_param"),
    [
        pytest.param({"torch_dtype": "float16"}, 2.0, id="half"),
        pytest.param({"torch_dtype": "float32"}, 4.0, id="single"),
        pytest.param({"quantization_config": {"quant_method": "fp8"}}, 1.0, id="fp8"),
        pytest.param({"quantization_config": {"quant_method": "awq", "bits": 4}}, 0.5625, id="awq"),
        pytest.param({"quantization_config": {"quant_method": "gptq", "bits": 8}}, 1.0, id="gptq, 8 bits"),
        pytest.param({"quantization_config": {"quant_method": "unheard-of"}}, 2.0, id="unknown method: assume bf16"),
    ],
)
def test_weight_bytes_follow_the_stored_format(change: dict[str, Any], bytes_per_param: float) -> None:
    assert architecture_from_config(LLAMA_CONFIG | change, "x").weight_bytes_per_param == bytes_per_param


@pytest.mark.parametrize(
    "key", ["hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size"]
)
def test_a_missing_key_is_named(key: str) -> None:
    config = {k: v for k, v in LLAMA_CONFIG.items() if k != key}
    with pytest.raises(ValueError, match=key):
        architecture_from_config(config, "x")


@pytest.mark.parametrize("value", ["4096", -1, 1.5, True])
def test_a_malformed_value_is_named(value: object) -> None:
    with pytest.raises(ValueError, match="hidden_size"):
        architecture_from_config(LLAMA_CONFIG | {"hidden_size": value}, "x")


def test_zero_heads_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="num_attention_heads"):
        architecture_from_config(LLAMA_CONFIG | {"num_attention_heads": 0}, "x")


@pytest.mark.parametrize(
    ("field", "value"),
    [("layers", 0), ("windowed_layers", 33), ("weight_bytes_per_param", 0.0), ("experts", 4), ("windowed_layers", 1)],
)
def test_an_impossible_shape_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=r"llama-3\.1-8b"):
        replace(LLAMA_8B, **{field: value})


@pytest.mark.parametrize(
    ("name", "registered"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("LLAMA-3.1-8B", "llama-3.1-8b"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.1-70b"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3-30b-a3b"),
        ("Qwen/Qwen2.5-Coder-32B-Instruct", "qwen2.5-32b"),
        ("google/gemma-3-27b-it", "gemma-3-27b"),
        ("openai/gpt-oss-20b", "gpt-oss-20b"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-r1"),
    ],
)
def test_a_model_is_found_by_the_name_on_its_card(name: str, registered: str) -> None:
    assert find_model(name) is MODELS[registered]


@pytest.mark.parametrize("name", ["", "gpt-4o", "llama", "meta-llama/Llama-3.1-8B-Instruct-AWQ", "llama-3.1-9b"])
def test_an_unknown_model_is_not_guessed(name: str) -> None:
    assert find_model(name) is None


@pytest.mark.parametrize("name", list(MODELS))
def test_every_registered_model_is_found_by_its_own_name(name: str) -> None:
    assert find_model(name) is MODELS[name]
    assert find_model(name.upper()) is MODELS[name]


def test_active_parameters_never_exceed_all_parameters() -> None:
    assert all(model.active_parameters <= model.parameters for model in MODELS.values())
    assert LLAMA_8B.active_parameters == LLAMA_8B.parameters


@pytest.mark.parametrize("name", list(MODELS))
def test_a_model_is_found_by_its_other_names(name: str) -> None:
    assert all(find_model(alias) is MODELS[name] for alias in model_aliases(name))


def test_other_names_are_listed_at_their_shape() -> None:
    assert model_aliases("mistral-small-24b") == ("mistral-small-3.1-24b", "mistral-small-3.2-24b")
    assert model_aliases("phi-4") == ()


def test_every_registered_model_has_a_context() -> None:
    assert min(model.context_tokens for model in MODELS.values()) == 4096


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({}, 0),
        ({"max_position_embeddings": 40_960}, 40_960),
        ({"max_position_embeddings": 131_072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131_072),
        ({"max_position_embeddings": 32_768, "rope_scaling": YARN}, 131_072),
        ({"max_position_embeddings": 131_072, "rope_parameters": YARN}, 131_072),
        ({"max_position_embeddings": 40_960, "rope_scaling": {"type": "yarn", "factor": 2}}, 81_920),
        ({"max_position_embeddings": 131_072, "rope_scaling": {"type": "linear", "factor": 8.0}}, 0),
        ({"max_position_embeddings": 40_960, "rope_scaling": {"type": "yarn", "factor": "2"}}, 0),
        ({"max_position_embeddings": 40_960, "rope_scaling": {"type": "yarn", "factor": float("nan")}}, 0),
        ({"max_position_embeddings": 10**400, "rope_scaling": {"type": "yarn", "factor": 2.0}}, 0),
        ({"max_position_embeddings": "many"}, 0),
        ({"max_position_embeddings": True}, 0),
        ({"max_position_embeddings": -1}, 0),
    ],
    ids=[
        "not said", "plain", "llama3 scaling is in the number", "yarn", "yarn is in the number",
        "yarn without its origin", "linear is ambiguous", "factor is text", "factor is no number",
        "absurd", "text", "true", "negative",
    ],
)  # fmt: skip
def test_the_context_is_read_where_the_config_says_it(config: dict[str, Any], tokens: int) -> None:
    assert architecture_from_config(LLAMA_CONFIG | config, "m").context_tokens == tokens


def test_the_context_is_no_part_of_the_shape() -> None:
    assert replace(LLAMA_8B, context_tokens=8192) == LLAMA_8B


@pytest.mark.parametrize("dense", [-1, 33])
def test_dense_layers_are_some_of_the_layers(dense: int) -> None:
    with pytest.raises(ValueError, match="dense_layers must be between 0 and layers"):
        replace(LLAMA_8B, dense_layers=dense)
