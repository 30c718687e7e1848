"""One scalar per replica: what teaches it, where it settles, when it raises an alarm."""

from dataclasses import replace
from math import inf, log, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator.calibrate import (
    LEAST,
    MOST,
    SURE_PERIODS,
    UNKNOWN,
    Drift,
    LearnRule,
    Period,
    Scalar,
    checked,
    drift_of,
    learn,
    mixed_ratio,
    newcomer,
    pool_ratio,
    teaches,
)

RULE = LearnRule(planning_batch=40)
FULL = Period(busy_s=10.0, attributed_s=10.0, sequences=40.0)


def after(*ratios: float, scalar: Scalar = UNKNOWN) -> Scalar:
    for ratio in ratios:
        scalar = learn(scalar, replace(FULL, attributed_s=10.0 / ratio), RULE)
    return scalar


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, True, id="well filled"),
        pytest.param({"sequences": 30.0}, True, id="just filled"),
        pytest.param({"sequences": 29.9}, False, id="below the fill"),
        pytest.param({"sequences": 1.0, "attributed_s": 0.4}, False, id="a lone decode"),
        pytest.param({"busy_s": 7.9}, False, id="too short"),
        pytest.param({"attributed_s": 0.0}, False, id="nothing seen yet"),
    ],
)
def test_only_well_filled_periods_teach(changes: dict[str, float], expected: bool) -> None:
    period = replace(FULL, **changes)
    assert teaches(period, RULE) is expected
    assert (learn(UNKNOWN, period, RULE) is UNKNOWN) is not expected


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.5, 3.0])
def test_a_steady_replica_is_known_after_a_few_minutes(ratio: float) -> None:
    assert after(*[ratio] * 6).ratio == pytest.approx(ratio, rel=0.05)
    assert after(*[ratio] * 80).ratio == pytest.approx(ratio, rel=0.001)


def test_up_and_down_by_the_same_factor_cancel() -> None:
    assert after(*[2.0, 0.5] * 40).ratio == pytest.approx(1.0, abs=0.04)


def test_one_odd_period_moves_a_known_replica_little() -> None:
    known = after(*[1.2] * 40)
    assert after(4.0, scalar=known).ratio < 1.08 * known.ratio


@given(st.lists(st.floats(1e-3, 1e3), max_size=30))
def test_it_stays_in_bounds_and_can_be_stored(ratios: list[float]) -> None:
    scalar = after(*ratios)
    assert scalar.ratio * 1.000001 >= LEAST
    assert scalar.ratio <= MOST * 1.000001
    assert checked(scalar) == scalar
    assert scalar.periods == len(ratios)


def test_too_few_periods_raise_no_alarm() -> None:
    assert drift_of(after(*[3.0] * (SURE_PERIODS - 1))) is None
    assert drift_of(after(*[3.0] * SURE_PERIODS)) is Drift.OUT_OF_BAND


@pytest.mark.parametrize("ratio", [1.0, 1.3, 0.8])
def test_a_replica_near_its_price_raises_no_alarm(ratio: float) -> None:
    assert drift_of(after(*[ratio] * 60)) is None


def test_a_replica_that_slows_down_raises_an_alarm_before_it_leaves_the_band() -> None:
    slowed = after(*[1.0] * 60, *[1.4] * 4)
    assert drift_of(slowed) is Drift.MOVING
    assert drift_of(after(*[1.4] * 100, scalar=slowed)) is None


def test_a_scalar_beside_the_band_does_not_ring_again_and_again() -> None:
    outside, inside, clear = (Scalar(log_ratio=log(r), quick_log_ratio=log(r), periods=40) for r in (1.51, 1.49, 1.3))
    assert drift_of(inside) is None
    assert drift_of(inside, drift_of(outside)) is Drift.OUT_OF_BAND
    assert drift_of(clear, drift_of(outside)) is None


def test_a_pool_is_the_geometric_mean_of_those_that_have_shown_something() -> None:
    one, other = Scalar(log_ratio=log(2.0), periods=9), Scalar(log_ratio=log(0.5), periods=9)
    assert pool_ratio([one, other]) == pytest.approx(1.0)
    assert pool_ratio([one, UNKNOWN]) == pytest.approx(2.0)
    assert pool_ratio([]) == 1.0


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        pytest.param([], 1.0, id="none"),
        pytest.param([0.3, 0.3, 0.3], 0.3, id="equal"),
        pytest.param([1.0, 2.0], 4 / 3, id="two"),
        pytest.param([1.0, 1.0, 3.0], 9 / 7, id="three"),
    ],
)
def test_a_mixed_pool_takes_what_its_equally_busy_replicas_take(ratios: list[float], expected: float) -> None:
    assert mixed_ratio(ratios) == pytest.approx(expected, rel=1e-15)


@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=8))
def test_a_mixed_pool_is_between_its_fastest_and_its_slowest(ratios: list[float]) -> None:
    assert min(ratios) * (1 - 1e-12) <= mixed_ratio(ratios) <= max(ratios) * (1 + 1e-12)


def test_a_newcomer_is_taken_for_one_of_the_others_and_then_speaks_for_itself() -> None:
    start = newcomer([Scalar(log_ratio=log(2.0), periods=9)])
    assert (start.ratio, start.periods) == (pytest.approx(2.0), 0)
    assert after(*[1.0] * 60, scalar=start).ratio == pytest.approx(1.0, rel=0.03)


@pytest.mark.parametrize("value", [nan, inf, -inf, log(MOST) + 0.1, log(LEAST) - 0.1])
@pytest.mark.parametrize("name", ["log_ratio", "quick_log_ratio"])
def test_a_stored_number_that_cannot_be_is_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        checked(replace(UNKNOWN, **{name: value}))
    with pytest.raises(ValueError, match="periods"):
        checked(replace(UNKNOWN, periods=-1))


def test_a_replica_half_as_fast_takes_two_seconds_for_one() -> None:
    assert Scalar(log_ratio=log(2.0)).ratio == pytest.approx(2.0)
    assert after(2.0).ratio == pytest.approx(2.0**0.8)
