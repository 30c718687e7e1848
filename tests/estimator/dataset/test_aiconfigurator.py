"""The installed package's layout, in small: made-up files and reuse marks. Its real tables have a file of their own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from estimator.dataset import aiconfigurator, plain_yaml
from estimator.dataset.columns import Columns, Origin
from estimator.dataset.table import Attention, Experts, Latent, Matmul
from tests.estimator.dataset.package import ATTENTION, GEMM, MLA, MOE, write


def only(folder: Path) -> tuple[Origin, Columns]:
    ((origin, table),) = aiconfigurator.load(folder)
    return origin, table


def test_attention_has_seconds_and_no_window_where_the_file_has_none(tmp_path: Path) -> None:
    write(tmp_path, "h100_sxm/attention/vllm/1.0/generation_attention", ATTENTION)
    origin, table = only(tmp_path)
    assert (origin.gpu, origin.engine, origin.version, origin.op) == ("H100", "vllm", "1.0", "generation_attention")
    assert isinstance(table, Attention)
    assert table.latency_s.tolist() == [0.00025]
    assert (table.new_tokens.tolist(), table.cached_tokens.tolist(), table.window_tokens.tolist()) == ([1], [511], [0])
    assert table.kv_type.equal("fp8").all()


def test_as_many_kv_heads_as_heads_may_be_written_as_none(tmp_path: Path) -> None:
    write(tmp_path, "h100_sxm/attention/vllm/1.0/context_attention", ATTENTION | {"num_key_value_heads": 0})
    _, table = only(tmp_path)
    assert isinstance(table, Attention)
    assert table.kv_heads.tolist() == [32]


def test_every_kind_of_operation_has_its_table(tmp_path: Path) -> None:
    write(tmp_path, "h100_sxm/gemm/sglang/1.0/gemm", GEMM)
    write(tmp_path, "h100_sxm/mla/sglang/1.0/generation_mla", MLA)
    write(tmp_path, "h100_sxm/mla/vllm/1.0/mla_context_module", MLA | {"gemm_type": "nvfp4", "model": "DeepSeek-V3"})
    write(tmp_path, "h100_sxm/moe/trtllm/1.0/moe", MOE)
    gemm, kernel, module, moe = (table for _, table in aiconfigurator.load(tmp_path))
    assert isinstance(gemm, Matmul)
    assert (gemm.tokens.tolist(), gemm.outputs.tolist(), gemm.inputs.tolist()) == ([1], [2], [3])
    assert isinstance(kernel, Latent)
    assert kernel.projections.equal("none").all()
    assert isinstance(module, Latent)
    assert module.projections.equal("nvfp4").all()
    assert isinstance(moe, Experts)
    assert (moe.tensor_parallel.tolist(), moe.expert_parallel.tolist()) == ([6], [7])


@pytest.mark.parametrize(
    ("changes", "gated"),
    [
        pytest.param({}, True, id="plain"),
        pytest.param({"kernel_source": "moe_torch_flow_nongated"}, False, id="the kernel says so"),
        pytest.param(
            {"hidden_size": 2688, "inter_size": 1856, "topk": 6, "num_experts": 128}, False, id="a Nemotron's sizes"
        ),
        pytest.param({"hidden_size": 2688, "inter_size": 1856, "topk": 8, "num_experts": 128}, True, id="but one"),
    ],
)
def test_experts_without_a_gate_are_told_by_kernel_or_by_sizes(
    tmp_path: Path, changes: dict[str, object], gated: bool
) -> None:
    write(tmp_path, "h100_sxm/moe/trtllm/1.0/moe", MOE | changes)
    _, table = only(tmp_path)
    assert isinstance(table, Experts)
    assert table.gated.tolist() == [gated]


def test_other_operations_and_engines_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "h100_sxm/comm/vllm/1.0/custom_allreduce", GEMM)
    write(tmp_path, "h100_sxm/gemm/mlc/1.0/gemm", GEMM)
    assert list(aiconfigurator.load(tmp_path)) == []


def test_chosen_operations_are_loaded_alone(tmp_path: Path) -> None:
    write(tmp_path, "h100_sxm/gemm/vllm/1.0/gemm", GEMM)
    write(tmp_path, "h100_sxm/moe/vllm/1.0/moe", MOE)
    assert [origin.op for origin, _ in aiconfigurator.load(tmp_path, frozenset({"moe"}))] == ["moe"]


def test_reuse_marks_both_the_borrower_and_the_lender(tmp_path: Path) -> None:
    for version in ("1.0", "1.1", "2.0"):
        write(tmp_path, f"b200_sxm/moe/vllm/{version}/moe", MOE | {"version": version})
    marks = (
        "schema_version: 1\nreuse:\n- table: moe_perf\n  from_version: 2.0\n- table: gemm_perf\n  from_version: 1.1\n"
    )
    (tmp_path / "b200_sxm/moe/vllm/1.0/reuse.yaml").write_text(marks.replace("2.0", "'2.0'"))
    one, other, newest = (origin for origin, _ in aiconfigurator.load(tmp_path))
    assert (one.borrowed_from, one.lent_to) == ("2.0", ())
    assert (other.borrowed_from, other.lent_to) == (None, ())
    assert (newest.borrowed_from, newest.lent_to) == (None, ("1.0",))
    assert [origin.shared_between_versions for origin in (one, other, newest)] == [True, False, True]


def test_versions_in_marks_are_text(tmp_path: Path) -> None:
    for version in ("0.10", "0.9"):
        write(tmp_path, f"b200_sxm/moe/vllm/{version}/moe", MOE | {"version": version})
    marks = tmp_path / "b200_sxm/moe/vllm/0.9/reuse.yaml"
    marks.write_text("reuse:\n- {table: moe_perf, from_version: 0.10}\n")
    lender, borrower = (origin for origin, _ in aiconfigurator.load(tmp_path))
    assert (lender.version, lender.lent_to) == ("0.10", ("0.9",))
    assert (borrower.version, borrower.borrowed_from) == ("0.9", "0.10")


def test_marks_are_read_once_for_all_tables_of_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for op in ("gemm", "moe"):
        for version in ("1.0", "1.1"):
            write(tmp_path, f"b200_sxm/moe/vllm/{version}/{op}", {"gemm": GEMM, "moe": MOE}[op] | {"version": version})
    (tmp_path / "b200_sxm/moe/vllm/1.0/reuse.yaml").write_text("reuse:\n- {table: moe_perf, from_version: 1.1}\n")
    read: list[Path] = []

    def read_yaml(path: Path) -> Mapping[str, Any]:
        read.append(path)
        return plain_yaml.read_yaml(path)

    monkeypatch.setattr(aiconfigurator, "read_yaml", read_yaml)
    assert len(list(aiconfigurator.load(tmp_path))) == 4
    assert len(read) == 1


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        pytest.param("reuse: 1\n", "reuse.yaml: no list under reuse", id="no list"),
        pytest.param("reuse:\n- {table: moe_perf}\n", "reuse.yaml: no text under from_version", id="no version"),
        pytest.param("reuse:\n- moe_perf\n", "reuse.yaml: no text under table", id="no mapping"),
        pytest.param("- reuse\n", "reuse.yaml: not a mapping", id="a list"),
        pytest.param("reuse: [\n", "reuse.yaml: not YAML", id="not YAML"),
    ],
)
def test_a_damaged_mark_is_an_error_that_names_its_file(tmp_path: Path, marks: str, message: str) -> None:
    write(tmp_path, "b200_sxm/moe/vllm/1.0/moe", MOE)
    (tmp_path / "b200_sxm/moe/vllm/1.0/reuse.yaml").write_text(marks)
    with pytest.raises(ValueError, match=message):
        list(aiconfigurator.load(tmp_path))


def test_whole_numbers_may_be_written_as_floats(tmp_path: Path) -> None:
    write(tmp_path, "h100_sxm/gemm/vllm/1.0/gemm", GEMM | {"m": 16.0})
    _, table = only(tmp_path)
    assert isinstance(table, Matmul)
    assert (table.tokens.tolist(), table.tokens.dtype.kind) == ([16], "i")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(2.5, "m: 2.5 in row 2 is not a whole number", id="a fraction"),
        pytest.param(float("nan"), "m: nan in row 2 is not a whole number", id="not a number"),
        pytest.param(float("-inf"), "m: -inf in row 2 is not a whole number", id="infinite"),
        pytest.param(1e300, "m: 1e.300 in row 2 is not a whole number", id="no integer holds it"),
    ],
)
def test_a_count_that_is_not_whole_is_an_error_that_names_file_column_and_value(
    tmp_path: Path, value: float, message: str
) -> None:
    write(tmp_path, "h100_sxm/gemm/vllm/1.0/gemm", GEMM | {"m": 1.0}, GEMM | {"m": value})
    with pytest.raises(ValueError, match=f"gemm_perf.parquet: {message}"):
        list(aiconfigurator.load(tmp_path))


@pytest.mark.parametrize("column", ["m", "latency"])
def test_text_where_numbers_are_meant_is_an_error(tmp_path: Path, column: str) -> None:
    write(tmp_path, "h100_sxm/gemm/vllm/1.0/gemm", GEMM | {column: "many"})
    with pytest.raises(ValueError, match=f"gemm_perf.parquet: {column} holds object, not numbers"):
        list(aiconfigurator.load(tmp_path))


def test_a_missing_column_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "h100_sxm/gemm/vllm/1.0/gemm", {name: value for name, value in GEMM.items() if name != "n"})
    with pytest.raises(ValueError, match=r"gemm_perf\.parquet: no column n"):
        list(aiconfigurator.load(tmp_path))


def test_a_latency_without_a_value_is_not_a_number(tmp_path: Path) -> None:
    write(tmp_path, "h100_sxm/gemm/vllm/1.0/gemm", GEMM, GEMM | {"latency": None})
    _, table = only(tmp_path)
    assert [latency_s == latency_s for latency_s in table.latency_s.tolist()] == [True, False]


@pytest.mark.parametrize("column", ["m", "gemm_dtype"])
def test_any_other_missing_value_is_an_error_that_names_file_and_column(tmp_path: Path, column: str) -> None:
    write(tmp_path, "h100_sxm/gemm/vllm/1.0/gemm", GEMM, GEMM | {column: None})
    with pytest.raises(ValueError, match=f"gemm_perf.parquet: {column} lacks a value in 1 rows"):
        list(aiconfigurator.load(tmp_path))
