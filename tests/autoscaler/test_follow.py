"""Only changes that happened count for the rate limits of later decisions."""

import pytest

from autoscaler.decide import DecisionState, Mark
from autoscaler.follow import as_seen

OLD = Mark(at_s=990.0, replicas=2)
NOW_S = 1000.0


@pytest.mark.parametrize(
    ("previous", "present", "ups", "last_down_at_s"),
    [
        pytest.param(None, 4, (OLD,), 900.0, id="nothing was seen before"),
        pytest.param(4, 4, (OLD,), 900.0, id="no change was seen"),
        pytest.param(4, 7, (OLD, Mark(at_s=NOW_S, replicas=3)), 900.0, id="the leader added three"),
        pytest.param(4, 3, (OLD,), NOW_S, id="the leader removed one"),
    ],
)
def test_changes_that_were_seen_replace_the_one_that_was_only_decided(
    previous: int | None, present: int, ups: tuple[Mark, ...], last_down_at_s: float
) -> None:
    before = DecisionState(ups=(OLD,), last_down_at_s=900.0)
    wanted = Mark(at_s=NOW_S, replicas=5)
    after = DecisionState(ups=(OLD, wanted), last_down_at_s=NOW_S, last_known_at_s=NOW_S)
    seen = as_seen(before, after, previous=previous, present=present, now_s=NOW_S)
    assert seen == DecisionState(ups=ups, last_down_at_s=last_down_at_s, last_known_at_s=NOW_S)


def test_marks_that_a_decision_forgot_stay_forgotten() -> None:
    before = DecisionState(ups=(OLD,))
    assert as_seen(before, DecisionState(), previous=1, present=1, now_s=NOW_S).ups == ()
