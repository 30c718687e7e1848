from typing import Any

import pytest

from simulator.api import natural_tokens
from simulator.settings import simulator_settings


def test_names_of_a_model_and_a_gpu_give_a_server_that_fits() -> None:
    settings = simulator_settings(model="m", architecture="llama-3.1-8b", gpu="L40S")
    assert settings.engine.max_context_tokens == settings.engine.kv_tokens
    assert 100_000 < settings.engine.kv_tokens < 300_000
    assert (
        0.005
        < settings.steps.time_s(prefill_tokens=0, prefill_pairs=0.0, decode_sequences=1, decode_kv_tokens=100)
        < 0.05
    )


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"architecture": "no-such-model"}, "architecture"),
        ({"gpu": "no-such-gpu"}, "gpu"),
        ({"architecture": "llama-3.1-70b"}, "kv_tokens"),
        ({"kv_tokens": 15}, "kv_tokens"),
        ({"kv_tokens": 1600, "max_context_tokens": 1601}, "max_context_tokens"),
        ({"speed": 0.0}, "speed"),
        ({"start_delay_s": -1.0}, "start_delay_s"),
        ({"port": 65536}, "port"),
        ({"tensor_parallel": 3}, "tensor_parallel"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        simulator_settings(**{"model": "m", "architecture": "llama-3.1-8b", "gpu": "L40S", **change})


def test_a_key_is_not_shown() -> None:
    settings = simulator_settings(model="m", architecture="llama-3.1-8b", gpu="L40S", api_key="secret")
    assert "secret" not in repr(settings)


def test_natural_lengths_have_the_statistics_of_the_conversation_trace() -> None:
    lengths = sorted(natural_tokens(index * (2**64 // 10_000)) for index in range(10_000))
    assert lengths[5000] == pytest.approx(130, rel=0.02)
    assert lengths[9000] == pytest.approx(456, rel=0.02)
    assert sum(lengths) / 10_000 == pytest.approx(210, rel=0.02)
