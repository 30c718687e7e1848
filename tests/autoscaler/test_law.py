"""The law's numbers, and the floors above it."""

import pytest

from autoscaler.calibrator import Calibration
from autoscaler.law import StepName, ceil_replicas, recommend
from autoscaler.observation import Known
from tests.autoscaler.builders import observation, settings

FIXED = Calibration(utilization=0.9)


def recommended(calibration: Calibration = FIXED, desired: int = 2, **changes: object) -> tuple[int, dict[str, int]]:
    seen = observation(desired, **changes)  # type: ignore[arg-type]
    assert isinstance(seen.work, Known)
    steps = recommend(seen.work.value, seen, calibration, settings())
    return steps[-1].after, {step.name: step.after for step in steps}


@pytest.mark.parametrize(
    ("load", "backlog_s", "ready", "replicas"),
    [
        (0.0, 0.0, 1, 0),
        (0.001, 0.0, 1, 1),
        (0.72, 0.0, 1, 2),  # 0.8 + 0.212 = 1.01
        (0.7, 0.0, 1, 1),  # 0.778 + 0.209 = 0.987
        (2.0, 0.0, 2, 3),  # 2.22 + 0.354 = 2.58
        (2.0, 6.6, 2, 3),  # + (6.6 - 0.6) / 20 = 2.88
        (2.0, 9.6, 2, 4),  # + (9.6 - 0.6) / 20 = 3.03
        (0.0, 0.6, 2, 0),  # what two ready replicas normally have outstanding is no backlog
        (0.0, 100.0, 0, 5),
        (100.0, 0.0, 100, 114),
    ],
)
def test_the_law(load: float, backlog_s: float, ready: int, replicas: int) -> None:
    assert recommended(load=load, backlog_s=backlog_s, ready=ready)[0] == replicas


def test_utilization_and_slack_are_inputs() -> None:
    assert recommended(Calibration(utilization=0.5), load=2.0)[0] == 5
    assert recommended(Calibration(utilization=0.9, slack=1.0), load=2.0)[0] == 5


def test_kv_need_is_a_floor() -> None:
    after, steps = recommended(load=0.5, kv_tokens=170_001, in_flight=3)
    assert (after, steps[StepName.LAW], steps[StepName.KV_NEED]) == (3, 1, 3)


def test_kv_need_fills_a_replica_to_its_ratio_exactly() -> None:
    assert recommended(kv_tokens=170_000, in_flight=3)[0] == 2


def test_unknown_load_leaves_the_backlog_to_speak() -> None:
    assert recommended(load=None, backlog_s=40.6)[0] == 2


def test_anything_waiting_wakes_a_pool_at_zero() -> None:
    after, steps = recommended(desired=0, waiting=1)
    assert (after, steps[StepName.LAW], steps[StepName.ACTIVATION]) == (1, 0, 1)


def test_waiting_does_not_activate_a_pool_that_has_replicas() -> None:
    assert recommended(desired=1, waiting=1)[0] == 0


def test_float_noise_buys_no_replica() -> None:
    assert ceil_replicas(0.1 + 0.2 - 0.3 + 3) == 3
    assert ceil_replicas(3.001) == 4
    assert ceil_replicas(-0.5) == 0
