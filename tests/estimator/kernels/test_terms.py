"""Terms are what a kernel takes at the peaks: exact for round sizes, equal for floats and columns."""

import math

import numpy as np
import pytest

from estimator.kernels import attention_terms, basis
from estimator.kernels.call import AttentionCall, ExpertsCall, MatmulCall, MixedAttentionCall
from estimator.kernels.model import Op
from estimator.kernels.terms import Peaks

GPU = Peaks(flops_per_s=1e15, memory_bytes_per_s=2e12, multiprocessors=100.0, l2_bytes=5e7)


def test_first_term_of_prefill_is_its_flops_at_the_peak() -> None:
    call = AttentionCall(sequences=2, new_tokens=1024, cached_tokens=512, heads=8, kv_heads=2, head_size=128)
    pairs = 1024 * 512 + 1024 * 1025 / 2
    assert basis.attention(GPU, call)[1].terms[0] == pytest.approx(4 * 128 * 8 * 2 * pairs / 1e15)


def test_first_term_of_decode_is_its_kv_cache_at_the_peak() -> None:
    call = AttentionCall(sequences=3, new_tokens=1, cached_tokens=999, heads=8, kv_heads=2, head_size=64)
    op, found = basis.attention(GPU, call)
    assert op == Op.DECODE
    assert found.terms[0] == pytest.approx(2 * 3 * 2 * 64 * 1000 * 2.0 / 2e12)


def test_a_window_bounds_pairs_and_reads() -> None:
    near = AttentionCall(
        sequences=1, new_tokens=256, cached_tokens=1024, heads=8, kv_heads=2, head_size=64, window_tokens=128
    )
    far = AttentionCall(
        sequences=1, new_tokens=256, cached_tokens=65536, heads=8, kv_heads=2, head_size=64, window_tokens=128
    )
    assert basis.attention(GPU, near)[1] == basis.attention(GPU, far)[1]


def test_a_window_that_is_not_full_changes_nothing() -> None:
    shape = {"sequences": 1, "new_tokens": 256, "cached_tokens": 100, "heads": 8, "kv_heads": 2, "head_size": 64}
    assert basis.attention(GPU, AttentionCall(**shape, window_tokens=8192)) == basis.attention(
        GPU, AttentionCall(**shape)
    )


def test_matmul_has_flops_and_weights_at_the_peaks() -> None:
    found = basis.matmul(GPU, MatmulCall(tokens=256, outputs=4096, inputs=1024))
    assert found.terms[0] == pytest.approx(2 * 256 * 4096 * 1024 / 1e15)
    assert 4096 * 1024 * 2.0 / 2e12 in found.terms


def test_experts_without_a_gate_have_two_matrices_not_three() -> None:
    sizes = {"tokens": 4096, "hidden": 2048, "intermediate": 512, "experts": 64, "experts_per_token": 8}
    gated = basis.experts(GPU, ExpertsCall(**sizes)).terms[0]
    assert basis.experts(GPU, ExpertsCall(**sizes, gated=False)).terms[0] == pytest.approx(gated * 2 / 3)


def test_beside_a_chunk_a_decoding_sequence_adds_terms_that_it_has_not_alone() -> None:
    shape = {"cached_tokens": 0, "decodes": 8, "decode_tokens": 1024, "heads": 8, "kv_heads": 2, "head_size": 64}
    beside = basis.mixed(GPU, MixedAttentionCall(chunk_tokens=256, **shape)).terms
    alone = basis.mixed(GPU, MixedAttentionCall(chunk_tokens=0, **shape)).terms
    assert any(one > 0 and other == 0 for one, other in zip(beside, alone, strict=True))


class _Numpy:
    maximum, minimum, ceil, log, where = (
        staticmethod(function) for function in (np.maximum, np.minimum, np.ceil, np.log, np.where)
    )


@pytest.mark.parametrize("name", ["prefill", "decode", "mixed"])
def test_floats_and_columns_agree(name: str) -> None:
    rng = np.random.default_rng(1)
    names = {
        "prefill": ("sequences", "new_tokens", "cached_tokens"),
        "decode": ("sequences", "cached_tokens"),
        "mixed": ("chunk_tokens", "cached_tokens", "decodes", "decode_tokens"),
    }[name]
    columns = {one: np.floor(np.exp(rng.uniform(0.1, 9, 50))) for one in names}
    columns |= {"heads": np.full(50, 16.0), "kv_heads": np.full(50, 4.0), "head_size": np.full(50, 128.0)}
    columns |= {"window_tokens": rng.choice([0.0, 128.0, 4096.0], 50), "kv_bytes": np.full(50, 2.0)}
    function = getattr(attention_terms, name)
    whole = function(_Numpy(), GPU, **columns)
    for row in range(50):
        one = function(basis.FLOATS, GPU, **{key: float(column[row]) for key, column in columns.items()})
        assert [float(term[row]) for term in whole.terms] == pytest.approx(list(one.terms), rel=1e-12)
        assert [float(value[row]) for value in whole.features] == pytest.approx(list(one.features), abs=1e-12)


@pytest.mark.parametrize("op", list(Op))
def test_every_op_has_terms_and_features(op: Op) -> None:
    assert min(basis.sizes_of(op)) > 5


@pytest.mark.parametrize("new_tokens", [2, 127, 128, 129, 4096])
@pytest.mark.parametrize("cached_tokens", [0, 1, 100_000])
@pytest.mark.parametrize("window_tokens", [0, 1, 128, 1_000_000])
def test_terms_are_finite_and_not_negative(new_tokens: int, cached_tokens: int, window_tokens: int) -> None:
    call = AttentionCall(
        sequences=1,
        new_tokens=new_tokens,
        cached_tokens=cached_tokens,
        heads=1,
        kv_heads=1,
        head_size=64,
        window_tokens=window_tokens,
    )
    found = basis.attention(GPU, call)[1]
    assert all(term >= 0 and math.isfinite(term) for term in found.terms)
    assert all(map(math.isfinite, found.features))


def reads_of_the_kv_cache(decodes: int, decode_tokens: int) -> float:
    """How often 32 heads over 8 KV heads read it beside a chunk, as the feature tells."""
    call = MixedAttentionCall(
        chunk_tokens=16, cached_tokens=0, decodes=decodes, decode_tokens=decode_tokens, heads=32, kv_heads=8,
        head_size=128,
    )  # fmt: skip
    return math.exp(basis.mixed(GPU, call).features[11])


def test_heads_that_share_a_kv_head_read_it_again_where_the_l2_does_not_hold_it() -> None:
    # A KV head has 512 bytes a token; the L2 holds 50 MB of them.
    assert reads_of_the_kv_cache(decodes=128, decode_tokens=512) == 1.0
    assert reads_of_the_kv_cache(decodes=128, decode_tokens=2048) == pytest.approx(4.0)
    # Fewer sequences than multiprocessors: several heads run at once, and share what they read.
    assert reads_of_the_kv_cache(decodes=50, decode_tokens=8192) == pytest.approx(2.0)
    assert reads_of_the_kv_cache(decodes=20, decode_tokens=65536) == 1.0
