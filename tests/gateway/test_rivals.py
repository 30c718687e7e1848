"""What the idle path costs: who was passed by, and which replicas two workers filled at once."""

from dataclasses import replace

import pytest

from gateway.pick import Load, PickRule
from gateway.rivals import Rivals
from tests.gateway.builders import RULE

NOW_S = 100.0


def judged(
    rivals: Rivals, *loads: Load, waiting_age_s: float | None = None, rule: PickRule | None = None
) -> tuple[int, int]:
    found = {load.name: load for load in loads}
    return rivals.judge(found, waiting_age_s=waiting_age_s, rule=RULE if rule is None else rule, now_s=NOW_S)


@pytest.mark.parametrize(
    ("waiting_age_s", "passed"),
    [
        pytest.param(None, 0, id="nobody waits"),
        pytest.param(0.5, 0, id="whoever waits came later"),
        pytest.param(1.5, 1, id="somebody waited when the second one was sent"),
        pytest.param(9.0, 2, id="somebody waited all the time"),
    ],
)
def test_a_dispatch_is_out_of_order_when_somebody_waited_already(waiting_age_s: float | None, passed: int) -> None:
    rivals = Rivals()
    rivals.sent("r0", 0.1, NOW_S - 2.0)
    rivals.sent("r0", 0.1, NOW_S - 1.0)
    assert judged(rivals, waiting_age_s=waiting_age_s) == (passed, 0)


@pytest.mark.parametrize(
    ("in_flight", "prefill_s", "over"),
    [
        pytest.param(2, 0.35, 0, id="at the budget before the last one"),
        pytest.param(2, 0.36, 1, id="over it before the last one"),
        pytest.param(1, 9.0, 0, id="only the last one is there"),
    ],
)
def test_a_replica_is_over_its_budget_by_what_it_had_before_the_last_dispatch(
    in_flight: int, prefill_s: float, over: int
) -> None:
    rivals = Rivals()
    rivals.sent("r0", 0.1, NOW_S)
    load = Load(name="r0", in_flight=in_flight, prefill_s=prefill_s, progressed_at_s=NOW_S)
    idle = Load(name="r1", in_flight=9, prefill_s=9.0, progressed_at_s=NOW_S)
    assert judged(rivals, load, idle) == (0, over)


@pytest.mark.parametrize(
    ("in_flight", "over"),
    [
        pytest.param(3, 0, id="the last slot"),
        pytest.param(4, 1, id="no slot was free"),
    ],
)
def test_a_replica_is_over_its_slots_by_what_it_has(in_flight: int, over: int) -> None:
    rivals = Rivals()
    rivals.sent("r0", 0.1, NOW_S)
    load = Load(name="r0", in_flight=in_flight)
    assert judged(rivals, load, rule=replace(RULE, max_in_flight=3)) == (0, over)


def test_what_was_judged_is_not_judged_again_and_a_replica_that_left_is_not_judged() -> None:
    rivals = Rivals()
    rivals.sent("r0", 0.1, NOW_S - 1.0)
    assert judged(rivals, waiting_age_s=5.0) == (1, 0)
    assert judged(rivals, waiting_age_s=5.0) == (0, 0)
