"""The GPU registry and its names."""

from dataclasses import replace

import pytest

from estimator.accelerator import ACCELERATORS, accelerator_aliases, find_accelerator
from tests.estimator.shapes import L40S


@pytest.mark.parametrize(
    ("name", "registered"),
    [
        ("L40S", "L40S"),
        ("nvidia-l40s", "L40S"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTXPRO6000"),
        ("NVIDIA A100-SXM4-80GB", "A100-80"),
        ("A100", "A100-80"),
        ("NVIDIA A100-SXM4-40GB", "A100-40"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("h100-sxm", "H100"),
        ("H200", "H200"),
        ("GB200", "GB200"),
        ("NVIDIA A10G", "A10G"),
        ("AMD Instinct MI300X", "MI300X"),
    ],
)
def test_a_gpu_is_found_by_the_names_in_use(name: str, registered: str) -> None:
    assert find_accelerator(name) is ACCELERATORS[registered]


@pytest.mark.parametrize("name", ["", "nvidia", "H1000", "GTX 1080", "L400"])
def test_an_unknown_gpu_is_not_guessed(name: str) -> None:
    assert find_accelerator(name) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory_bytes_per_s", 0.0),
        ("bf16_flops_per_s", float("nan")),
        ("matmul_efficiency", 1.2),
        ("attention_efficiency", 0.0),
        ("mixed_kv_ratio", 0.9),
        ("step_overhead_s", -1e-6),
    ],
)
def test_an_impossible_rate_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        replace(L40S, **{field: value})


@pytest.mark.parametrize("name", list(ACCELERATORS))
def test_a_gpu_is_found_by_its_other_names(name: str) -> None:
    assert all(find_accelerator(alias) is ACCELERATORS[name] for alias in accelerator_aliases(name))


def test_other_names_are_listed_at_their_gpu() -> None:
    assert accelerator_aliases("A100-80") == ("A100", "A100-80GB")
    assert accelerator_aliases("H100") == ()
