"""`python -m estimator.dataset`, and what never loads the packages that it needs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from estimator.dataset import __main__ as command
from estimator.dataset import aiconfigurator
from estimator.dataset.columns import Columns, Origin
from tests.estimator.dataset import gpu_folder, package
from tests.estimator.dataset.tables import attention, origin


def test_a_line_counts_what_is_kept_and_why_the_rest_is_not() -> None:
    table = attention([1.0, 1.0, np.nan], sequences=[64, 1, 2])
    line = command.line(origin(lent_to=("2",)), table)
    assert (line.rows, line.kept, line.dropped) == (3, 1, {"invalid-latency": 1, "fits-l2": 1})
    assert " ".join(line.text().split()) == "made-up H100 vllm 1* op 3 1 invalid-latency 1, fits-l2 1"


def test_sources_are_read_as_far_as_they_are_there(tmp_path: Path) -> None:
    package.write(tmp_path, "h100_sxm/gemm/vllm/1.0/gemm", package.GEMM)
    assert [one.source for one, _ in command.tables(tmp_path, None)] == ["aiconfigurator"]
    assert list(command.tables(None, None)) == []


def test_the_folder_of_measurements_is_read_after_the_package(tmp_path: Path) -> None:
    gpu_folder.write_batches(tmp_path / "mixed_batches" / "RTX4090_llama")
    assert [one.source for one, _ in command.tables(None, tmp_path)] == ["mixed_batches"] * 4
    gpu_folder.write_steps(tmp_path / "llm_pilot_decode_steps.parquet")
    sources = [one.source for one, _ in command.tables(None, tmp_path)]
    assert sources == ["mixed_batches"] * 4 + ["llm_pilot"]


def test_the_command_prints_every_table_and_their_sum(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tables(installed: Path | None, gpu_folder: Path | None) -> list[tuple[Origin, Columns]]:
        return [(origin(), attention([1.0])), (origin(), attention([1.0, 1.0], sequences=[1, 64]))]

    monkeypatch.setattr(command, "tables", tables)
    assert command.main([]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1].split() == ["all", "3", "2"]
    assert len(out) == 2 + 2 + 1


def test_without_the_package_the_command_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(aiconfigurator, "data_folder", lambda: None)
    assert command.main([]) == 2
    captured = capsys.readouterr()
    first, last = captured.err.splitlines()
    assert first == "without aiconfigurator-core: pip install 'weighbridge[train]'"
    assert last == "no measurements were read"
    assert captured.out == ""


def test_a_folder_without_measurements_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(aiconfigurator, "data_folder", lambda: None)
    assert command.main(["--gpu-folder", str(tmp_path / "typo")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == (
        f"{tmp_path / 'typo'}: neither a folder mixed_batches nor a file llm_pilot_decode_steps.parquet in it"
    )


def test_a_damaged_file_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(aiconfigurator, "data_folder", lambda: None)
    gpu_folder.write_batches(tmp_path / "mixed_batches" / "RTX4090_llama")
    dense = tmp_path / "mixed_batches" / "RTX4090_llama" / "dense.csv"
    dense.write_text("layer,tokens,time_us\nqkv,1.5,3.0\n")
    assert command.main(["--gpu-folder", str(tmp_path)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"{dense}: tokens: 1.5 in row 1 is not a whole number"


def test_what_serves_loads_none_of_it() -> None:
    code = (
        "import sys, gateway.worker, gateway.supervisor, weighbridge.wiring, weighbridge.scaling; print(*sys.modules)"
    )
    run = [sys.executable, "-P", "-c", code]
    loaded = subprocess.run(run, capture_output=True, text=True, timeout=30, check=True).stdout.split()
    assert "gateway.worker" in loaded
    assert not {"numpy", "pandas", "pyarrow", "aiconfigurator_core", "estimator.dataset"} & set(loaded)
