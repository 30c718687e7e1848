"""The rules that Weighbridge is compared with do what their documentation says."""

from dataclasses import dataclass
from typing import cast

import pytest

from weighbridge.backtest.pool import SimulatedPool
from weighbridge.backtest.rule import HpaRule, KedaRule, Rule, StaticRule, concurrency


@dataclass
class Seen:
    """What a rule looks at."""

    desired: int
    concurrency: int = 0
    waiting: int = 0


def ask(rule: Rule, seen: Seen, now_s: float) -> int:
    return rule.desired(cast(SimulatedPool, seen), now_s)


def hpa(target: float = 10, *, least: int = 1, most: int = 24) -> HpaRule:
    return HpaRule(metric=concurrency, target=target, min_replicas=least, max_replicas=most)


@pytest.mark.parametrize(
    ("present", "metric", "expected"),
    [
        pytest.param(2, 31, 4, id="ceil of metric over target"),
        pytest.param(4, 43, 4, id="within 10 percent above"),
        pytest.param(4, 45, 5, id="just over 10 percent"),
        pytest.param(4, 36, 4, id="within 10 percent below"),
        pytest.param(1, 200, 5, id="at most four more"),
        pytest.param(6, 240, 12, id="at most double"),
        pytest.param(20, 900, 24, id="at most the bound"),
        pytest.param(4, 1, 4, id="not down before the window is over"),
    ],
)
def test_one_sync_of_an_hpa(present: int, metric: int, expected: int) -> None:
    assert ask(hpa(), Seen(desired=present, concurrency=metric), 0.0) == expected


def test_an_hpa_goes_down_to_the_highest_recommendation_of_300_s() -> None:
    rule, seen = hpa(), Seen(desired=8, concurrency=80)
    assert ask(rule, seen, 0.0) == 8
    seen.concurrency = 50
    assert ask(rule, seen, 15.0) == 8
    seen.concurrency = 20
    assert {ask(rule, seen, 30.0 + 15 * sync) for sync in range(17)} == {8}
    assert ask(rule, seen, 301.0) == 5
    seen.desired = 5
    assert ask(rule, seen, 316.0) == 2


def test_an_hpa_keeps_its_minimum() -> None:
    rule = hpa(least=3)
    assert ask(rule, Seen(desired=3), 0.0) == 3
    assert ask(rule, Seen(desired=3), 1000.0) == 3


def test_keda_counts_only_what_waits() -> None:
    rule = KedaRule(target=5, min_replicas=1, max_replicas=24)
    assert ask(rule, Seen(desired=2, concurrency=500, waiting=0), 0.0) == 2
    assert ask(rule, Seen(desired=2, concurrency=500, waiting=23), 15.0) == 5


def test_keda_goes_to_zero_after_its_cooldown_and_back_when_something_waits() -> None:
    rule = KedaRule(target=5, min_replicas=0, max_replicas=24)
    assert ask(rule, Seen(desired=1, waiting=3), 0.0) == 1
    assert ask(rule, Seen(desired=1), 285.0) == 1
    assert ask(rule, Seen(desired=1), 300.0) == 0
    assert ask(rule, Seen(desired=0), 315.0) == 0
    assert ask(rule, Seen(desired=0, waiting=40), 330.0) == 1


def test_a_static_rule_is_static() -> None:
    rule = StaticRule(7)
    assert [ask(rule, Seen(desired=7, concurrency=load, waiting=load), load) for load in (0, 9, 999)] == [7, 7, 7]
