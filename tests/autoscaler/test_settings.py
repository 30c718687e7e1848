"""Contradicting settings are refused, all of them at once."""

import pytest

from autoscaler.settings import SettingsError
from tests.autoscaler.builders import settings


def test_defaults_are_sound() -> None:
    assert settings().utilization == 0.9


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"min_replicas": 3, "max_replicas": 2}, "min_replicas <= max_replicas"),
        ({"max_replicas": 0, "min_replicas": 0, "fallback_replicas": 0}, "max_replicas >= 1"),
        ({"utilization": 0.0}, "utilization"),
        ({"utilization": 1.1}, "utilization"),
        ({"drain_s": 0}, "drain_s"),
        ({"polling_s": 31.0}, "polling_s <= average_s / 2"),
        ({"stale_after_s": 121.0}, "stale_after_s <= fallback_after_s"),
        ({"fallback_replicas": 11}, "fallback_replicas <= max_replicas"),
        ({"up_max": 0}, "up_max"),
        ({"wake_s": 0.6}, "wake_s"),
        ({"target_miss_ratio": 0.0}, "target_miss_ratio"),
    ],
)
def test_a_broken_relation_is_named(changes: dict[str, object], rule: str) -> None:
    with pytest.raises(SettingsError, match=rule.replace("/", "/")):
        settings(**changes)


def test_every_broken_rule_is_reported() -> None:
    with pytest.raises(SettingsError) as caught:
        settings(utilization=2.0, drain_s=-1.0, beta=-1.0)
    assert len(caught.value.errors) == 3


def test_scaling_down_waits_for_a_full_window() -> None:
    assert settings(warmup_s=180.0, window_s=300.0).down_after_s == 300.0
