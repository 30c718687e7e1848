"""The slow integrator on SLO misses."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.calibrator import SloCalibrator, integrate
from autoscaler.observation import Known, Misses, Observation
from tests.autoscaler.builders import START_S, observation, settings


def missing(ttft: float = 0.0, tpot: float = 0.0) -> Observation:
    misses = Misses(settled=100, ttft_ratio=ttft, tpot_ratio=tpot)
    return replace(observation(), misses=Known(value=misses, age_s=0.0))


@pytest.mark.parametrize(
    ("slack", "miss_ratio", "after"),
    [
        (0.5, 0.005, 0.5),  # on target
        (0.5, 0.0, 0.5 - 3e-4),
        (0.5, 0.01, 0.5 + 3e-4),
        (0.5, 1.0, 0.5 + 15e-4),  # clipped at five
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 1.0),
    ],
)
def test_one_second_of_integration(slack: float, miss_ratio: float, after: float) -> None:
    assert integrate(slack, miss_ratio, settings(), 1.0) == pytest.approx(after)


def test_the_worse_objective_counts() -> None:
    calibrator = SloCalibrator(settings())
    calibrator.calibrate(missing(), START_S)
    assert calibrator.calibrate(missing(ttft=0.0, tpot=0.5), START_S + 10).slack == pytest.approx(0.015)


def test_unknown_misses_leave_the_slack_alone() -> None:
    calibrator = SloCalibrator(settings())
    calibrator.calibrate(missing(), START_S)
    before = calibrator.calibrate(missing(ttft=0.5), START_S + 10)
    assert calibrator.calibrate(observation(unknown_for_s=1.0), START_S + 20) == before


def test_a_long_pause_counts_as_thirty_seconds() -> None:
    calibrator = SloCalibrator(settings())
    calibrator.calibrate(missing(), START_S)
    assert calibrator.calibrate(missing(ttft=0.5), START_S + 9000).slack == pytest.approx(0.045)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-10, 100)), max_size=50))
def test_the_slack_stays_between_zero_and_one(ticks: list[tuple[float, float]]) -> None:
    calibrator = SloCalibrator(settings(slo_gain_per_s=0.01))
    now_s = START_S
    for ratio, pause_s in ticks:
        now_s += pause_s
        assert 0.0 <= calibrator.calibrate(missing(ttft=ratio), now_s).slack <= 1.0
