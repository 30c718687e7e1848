"""`python -m estimator.train` as a process, on small tables: two write the same bytes; a wrong folder is refused."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the [train] extra")

from estimator.kernels.model import Op
from estimator.kernels.weights import CARD, read_card, read_sets
from estimator.train import __main__ as command
from tests.estimator.dataset import gpu_folder, package

ROOT = Path(__file__).parents[3]


def write_tables(folder: Path) -> None:
    """A package of measurements whose one table has 20 shapes of matrix products, at made-up times."""
    rng = np.random.default_rng(0)
    rows = [
        package.GEMM | {"m": tokens, "n": 256 * size, "k": 512, "latency": float(rng.uniform(0.1, 0.2) * tokens)}
        for size in range(1, 21)
        for tokens in (1, 16, 256)
    ]
    (folder / "aiconfigurator_core").mkdir()
    (folder / "aiconfigurator_core" / "__init__.py").touch()
    package.write(folder / "aiconfigurator_core/systems/data", "h100_sxm/gemm/vllm/1.0/gemm", *rows)


def train(python_path: Path, *arguments: str, hash_seed: str) -> subprocess.CompletedProcess[str]:
    """The command as a shell starts it, with the made-up package found before the installed one."""
    return subprocess.run(
        [sys.executable, "-m", "estimator.train", "--steps", "5", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{python_path}{os.pathsep}{ROOT}", "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.timeout(240)
def test_two_runs_train_the_same_bytes_whatever_the_number_of_processes(tmp_path: Path) -> None:
    write_tables(tmp_path)
    gpu_folder.write_batches(tmp_path / "gpu" / "mixed_batches" / "RTX4090_llama")
    for name, number in {"first": "1", "second": "2"}.items():
        options = ("--gpu-folder", str(tmp_path / "gpu"), "--output", str(tmp_path / name), "--processes", number)
        run = train(tmp_path, *options, hash_seed=number)
        assert run.returncode == 0, run.stderr
    first, second = contents(tmp_path / "first"), contents(tmp_path / "second")
    assert first == second
    assert {CARD, "h100-vllm.safetensors", "rtx4090-vllm.safetensors", "pooled-sglang.safetensors"} <= first.keys()
    card = read_card(tmp_path / "first")
    assert (Op.MATMUL, "fp8") in read_sets(tmp_path / "first", "h100-vllm.safetensors", card)
    note = card["files"]["h100-vllm.safetensors"]["sets"]["matmul/fp8"]
    assert (note["rows"], note["test_rows"]) == (60, 15)


def test_a_folder_without_mixed_batches_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--gpu-folder", str(tmp_path / "typo"), "--output", str(tmp_path / "out")]) == 2
    assert "no folder mixed_batches in it" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", ["0", "-1", "two"])
def test_a_number_of_processes_that_is_none_is_refused(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--processes", number])
    assert f"{number!r} is not a number of processes" in capsys.readouterr().err
