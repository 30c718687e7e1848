"""What the installed measurements hold: counts that training relies on. A new version of the package changes them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from estimator.dataset import aiconfigurator, demand
from estimator.dataset.columns import Columns, Origin
from estimator.dataset.defect import Reason
from estimator.dataset.table import Attention, Experts, Latent
from estimator.dataset.verdict import judge_table
from estimator.engine import Engine
from estimator.hardware import HARDWARE

ATTENTION = frozenset({"context_attention", "generation_attention"})
LATENT = frozenset({"context_mla", "generation_mla", "mla_context_module", "mla_generation_module"})


def folder() -> Path:
    found = aiconfigurator.data_folder()
    assert found is not None
    return found


def load(*ops: str) -> Iterator[tuple[Origin, Columns]]:
    return aiconfigurator.load(folder(), frozenset(ops))


def test_attention_rows_are_dropped_for_these_reasons() -> None:
    dropped: Counter[tuple[str, Reason]] = Counter()
    too_fast = {}
    rows: Counter[str] = Counter()
    for origin, table in load(*ATTENTION):
        counts = judge_table(origin, table).counts()
        rows[origin.op] += len(table)
        dropped.update({(origin.op, reason): count for reason, count in counts.items()})
        if Reason.FASTER_THAN_MEMORY in counts:
            too_fast[origin.gpu, origin.engine] = counts[Reason.FASTER_THAN_MEMORY]
    assert rows == {"context_attention": 1_383_024, "generation_attention": 1_362_375}
    assert too_fast == {("A100-80", "trtllm"): 351, ("H100", "sglang"): 23, ("L40S", "sglang"): 7}
    assert dropped["context_attention", Reason.REPEATED_SHAPE] == 165_947
    assert dropped["generation_attention", Reason.FITS_L2] == 1_131_383
    assert not any(reason is Reason.INVALID_LATENCY for _, reason in dropped)
    assert not any(reason is Reason.FASTER_THAN_ARITHMETIC for _, reason in dropped)


def test_most_decode_rows_of_every_table_fit_the_l2() -> None:
    for origin, table in load("generation_attention"):
        fits = judge_table(origin, table).because(Reason.FITS_L2).mean()
        assert 0.67 <= fits <= 0.93, origin


def test_every_engine_is_there_for_every_gpu_but_the_b60() -> None:
    engines: dict[str, set[str]] = {}
    for origin, table in load(*ATTENTION):
        assert isinstance(table, Attention)
        engines.setdefault(origin.gpu, set()).add(origin.engine)
    assert engines.pop("B60") == {"vllm"}
    assert set(map(frozenset, engines.values())) == {frozenset(Engine)}
    assert len(engines) == 9


def test_tables_that_versions_share_are_marked() -> None:
    marked = {(one.gpu, one.engine, one.version) for one, _ in load(*ATTENTION) if one.shared_between_versions}
    assert marked == {("B200", "vllm", "0.22.0"), ("B200", "vllm", "0.24.0"), ("B60", "vllm", "0.20.0")}


def test_latent_attention_repeats_shapes_and_beats_no_peak() -> None:
    reasons: Counter[Reason] = Counter()
    modules = fits = 0
    for origin, table in load(*LATENT):
        assert isinstance(table, Latent)
        verdict = judge_table(origin, table)
        reasons.update(verdict.counts())
        module = ~table.projections.equal("none")
        modules += int((module & demand.decodes(table)).sum())
        fits += int((module & verdict.because(Reason.FITS_L2)).sum())
    assert set(reasons) == {Reason.REPEATED_SHAPE, Reason.FITS_L2}
    assert (modules, fits) == (130_617, 68_555)


def test_no_experts_compute_beyond_the_peak_and_few_tokens_reread_the_l2() -> None:
    rows = ungated = 0
    too_fast: Counter[str] = Counter()
    for origin, table in load("moe"):
        assert isinstance(table, Experts)
        verdict = judge_table(origin, table)
        assert not verdict.because(Reason.FASTER_THAN_ARITHMETIC).any(), origin
        beyond = verdict.because(Reason.FASTER_THAN_MEMORY)
        assert (table.tokens[beyond] <= 2).all(), origin
        too_fast[origin.gpu] += int(beyond.sum())
        rows += len(table)
        ungated += int((~table.gated).sum())
    assert (rows, ungated) == (3_592_729, 442_871)
    # The GPUs whose L2 is largest beside their memory bandwidth.
    assert +too_fast == {"L40S": 629, "RTXPRO6000": 119}


def test_one_matmul_table_of_the_h100_beats_the_peaks() -> None:
    found = {}
    for origin, table in load("gemm"):
        if origin.gpu == "H100":
            found[origin.engine, origin.version] = dict(judge_table(origin, table).counts())
    assert {key: counts for key, counts in found.items() if counts} == {
        ("sglang", "0.5.6.post2"): {Reason.FASTER_THAN_ARITHMETIC: 70, Reason.FASTER_THAN_MEMORY: 139}
    }


def test_every_type_and_gpu_that_occurs_is_known() -> None:
    origins = set()
    for origin, table in aiconfigurator.load(folder()):
        origins.add(origin)
        assert origin.gpu in HARDWARE
        for field in fields(table):
            if field.name in {"arithmetic", "kv_type", "weight_type"}:
                kinds = getattr(table, field.name)
                assert (demand.stored_bytes(kinds) * 8 <= demand.arithmetic_bits(kinds)).all(), origin
    assert {origin.op for origin in origins} == aiconfigurator.OPS
