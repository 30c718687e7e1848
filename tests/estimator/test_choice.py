"""Learned kernels where there are weights; a damaged file leaves the analytic step, and says so."""

import shutil
from pathlib import Path

import pytest

from estimator.accelerator import ACCELERATORS
from estimator.choice import choose_step
from estimator.engine import Engine
from estimator.kernels.weights import FOLDER
from estimator.price import WeightSource
from estimator.step import StepModel
from tests.estimator.shapes import LLAMA_8B

H100 = ACCELERATORS["H100"]


@pytest.mark.parametrize("engine", list(Engine))
def test_a_measured_gpu_has_its_own_kernels(engine: Engine) -> None:
    choice = choose_step(LLAMA_8B, H100, engine=engine)
    assert (choice.source, choice.fit, choice.reason) == (WeightSource.LEARNED, "measured", "")


def test_a_gpu_that_nobody_measured_has_pooled_ones() -> None:
    choice = choose_step(LLAMA_8B, ACCELERATORS["MI300X"])
    assert (choice.source, choice.fit) == (WeightSource.LEARNED, "pooled")


def test_a_truncated_file_leaves_the_analytic_step_with_the_reason(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    damaged = tmp_path / "h100-vllm.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    choice = choose_step(LLAMA_8B, H100, folder=tmp_path)
    assert isinstance(choice.step, StepModel)
    assert (choice.source, choice.fit) == (WeightSource.ANALYTIC, "")
    assert "h100-vllm.safetensors" in choice.reason


def test_a_wrong_number_of_gpus_is_an_error_and_no_reason() -> None:
    with pytest.raises(ValueError, match="tensor_parallel"):
        choose_step(LLAMA_8B, H100, tensor_parallel=3)
