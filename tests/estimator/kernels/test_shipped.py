"""The weights that ship: whole, as their card says, and sane on every GPU under every engine."""

import subprocess
import sys
from itertools import pairwise

import pytest

from estimator.accelerator import ACCELERATORS
from estimator.engine import Engine
from estimator.kernels.call import (
    AttentionCall,
    ExpertsCall,
    LatentCall,
    MatmulCall,
    MixedAttentionCall,
    WeightType,
)
from estimator.kernels.library import Fit, Kernels, load_kernels
from estimator.kernels.weights import FOLDER, read_card, read_sets

HEADS = {"heads": 32, "kv_heads": 8, "head_size": 128}


def attention_s(kernels: Kernels, sequences: int, new_tokens: int, cached_tokens: int) -> float:
    return kernels.attention_s(
        AttentionCall(sequences=sequences, new_tokens=new_tokens, cached_tokens=cached_tokens, **HEADS)
    )


def test_every_file_is_what_the_card_says() -> None:
    card = read_card(FOLDER)
    assert {path.name for path in FOLDER.glob("*.safetensors")} == set(card["files"])
    for name, entry in card["files"].items():
        sets = read_sets(FOLDER, name, card)
        assert {f"{op}/{kind}" for op, kind in sets} == set(entry["sets"])


def test_all_weights_together_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 3_200_000


@pytest.mark.parametrize("engine", list(Engine))
@pytest.mark.parametrize("gpu", sorted(ACCELERATORS))
def test_any_call_has_a_time_between_the_peak_and_far_below(gpu: str, engine: str) -> None:
    kernels = load_kernels(ACCELERATORS[gpu], engine)
    assert 1e-7 < attention_s(kernels, 1, 2048, 20_000) < 1.0
    assert 1e-7 < attention_s(kernels, 64, 1, 4096) < 1.0
    for kind in WeightType:
        assert 1e-7 < kernels.matmul_s(MatmulCall(tokens=64, outputs=4096, inputs=4096, weight_type=kind)) < 0.1
        experts = ExpertsCall(
            tokens=64, hidden=2048, intermediate=1024, experts=64, experts_per_token=8, weight_type=kind
        )
        assert 1e-7 < kernels.experts_s(experts) < 0.1
    for new_tokens, cached_tokens in ((1024, 0), (1, 8192)):
        call = LatentCall(sequences=1, new_tokens=new_tokens, cached_tokens=cached_tokens, heads=16)
        assert 1e-7 < kernels.latent_s(call) < 0.1
    mixed = MixedAttentionCall(chunk_tokens=512, cached_tokens=512, decodes=16, decode_tokens=1024, **HEADS)
    assert 1e-7 < kernels.mixed_attention_s(mixed) < 0.1
    fp8 = AttentionCall(sequences=64, new_tokens=1, cached_tokens=8192, kv_bytes_per_element=1.0, **HEADS)
    assert 1e-7 < kernels.attention_s(fp8) < 1.0


def test_where_coefficients_are_from_is_said() -> None:
    assert load_kernels(ACCELERATORS["H100"]).fit == Fit.MEASURED
    assert load_kernels(ACCELERATORS["H100-PCIe"]).fit == Fit.RELATIVE
    assert load_kernels(ACCELERATORS["MI300X"]).fit == Fit.POOLED


@pytest.mark.parametrize("gpu", sorted(ACCELERATORS))
def test_more_tokens_never_take_much_less_time(gpu: str) -> None:
    kernels = load_kernels(ACCELERATORS[gpu])
    contexts = [2**power for power in range(9, 18)]
    chunk = [attention_s(kernels, 1, 2048, context) for context in contexts]
    decode = [attention_s(kernels, 32, 1, context) for context in contexts]
    for times in (chunk, decode):
        assert all(later > 0.97 * earlier for earlier, later in pairwise(times))
        assert times[-1] > 4 * times[0]


def test_long_contexts_grow_as_physics_says() -> None:
    kernels = load_kernels(ACCELERATORS["H100"])
    assert attention_s(kernels, 1, 2048, 2**21) == pytest.approx(2 * attention_s(kernels, 1, 2048, 2**20), rel=0.02)
    assert attention_s(kernels, 64, 1, 2**21) == pytest.approx(2 * attention_s(kernels, 64, 1, 2**20), rel=0.02)


def test_loading_imports_no_numerics() -> None:
    code = (
        "import sys; from estimator.accelerator import ACCELERATORS; "
        "from estimator.kernels.library import load_kernels; load_kernels(ACCELERATORS['H100']); "
        "print([name for name in ('numpy', 'torch', 'pandas', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
