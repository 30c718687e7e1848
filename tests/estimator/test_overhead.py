"""What a step takes besides its kernels, in numbers by hand."""

import pytest

from estimator.accelerator import ACCELERATORS
from estimator.models import MODELS
from estimator.overhead import all_reduce_latency_s, state_s
from tests.estimator.shapes import LLAMA_8B

H100 = ACCELERATORS["H100"]
LINEAR = next(model for model in MODELS.values() if model.state_bytes)


def test_two_all_reduces_a_layer_wait_for_the_link() -> None:
    assert all_reduce_latency_s(LLAMA_8B, H100, 2) == pytest.approx(64 * H100.link_latency_s)
    assert all_reduce_latency_s(LLAMA_8B, H100, 8) == all_reduce_latency_s(LLAMA_8B, H100, 2) > 0.0


def test_one_gpu_reduces_nothing() -> None:
    assert all_reduce_latency_s(LLAMA_8B, H100, 1) == 0.0


def test_states_are_read_and_written_by_all_gpus_together() -> None:
    once = 2 * LINEAR.state_bytes / (H100.memory_bytes_per_s * H100.kv_read_efficiency)
    assert state_s(LINEAR, H100, 1) == pytest.approx(once)
    assert state_s(LINEAR, H100, 4) == pytest.approx(once / 4)


def test_without_linear_layers_there_is_no_state() -> None:
    assert state_s(LLAMA_8B, H100, 1) == 0.0
