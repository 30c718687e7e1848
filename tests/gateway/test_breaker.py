"""The breaker's transitions, as a table and as properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.breaker import (
    CLOSED,
    FAILURES_TO_OPEN,
    LONGEST_OPEN_S,
    Breaker,
    allows,
    failed,
    sent,
    withdrawn,
)

NOW_S = 100.0
NEAR = Breaker(failures=FAILURES_TO_OPEN - 1)
OPEN = Breaker(failures=5, openings=1, open_until_s=NOW_S + 0.5)
HALF_OPEN = Breaker(failures=5, openings=1, open_until_s=NOW_S - 0.1)
ON_TRIAL = Breaker(failures=5, openings=1, open_until_s=NOW_S - 0.1, on_trial=True)


def fail(breaker: Breaker) -> Breaker:
    return failed(breaker, NOW_S, unreachable=False)


def lose(breaker: Breaker) -> Breaker:
    return failed(breaker, NOW_S, unreachable=True)


@pytest.mark.parametrize(
    ("before", "event", "after"),
    [
        pytest.param(CLOSED, sent, CLOSED, id="closed: sending changes nothing"),
        pytest.param(CLOSED, fail, Breaker(failures=1), id="closed: a failure is counted"),
        pytest.param(
            NEAR, fail, Breaker(failures=5, openings=1, open_until_s=NOW_S + 0.5), id="closed: the fifth failure opens"
        ),
        pytest.param(
            CLOSED, lose, Breaker(failures=1, openings=1, open_until_s=NOW_S + 0.5), id="closed: unreachable opens"
        ),
        pytest.param(OPEN, fail, OPEN, id="open: an older request's failure says nothing new"),
        pytest.param(OPEN, lose, OPEN, id="open: nor does an older dial's"),
        pytest.param(OPEN, withdrawn, OPEN, id="open: an older request's client leaving changes nothing"),
        pytest.param(HALF_OPEN, sent, ON_TRIAL, id="half open: the next request is on trial"),
        pytest.param(ON_TRIAL, withdrawn, HALF_OPEN, id="on trial: its client leaves and another may try"),
        pytest.param(
            ON_TRIAL,
            fail,
            Breaker(failures=6, openings=2, open_until_s=NOW_S + 1.0),
            id="on trial: a failure opens for twice as long",
        ),
        pytest.param(
            ON_TRIAL, lose, Breaker(failures=6, openings=2, open_until_s=NOW_S + 1.0), id="on trial: so does no contact"
        ),
    ],
)
def test_transition(before: Breaker, event, after: Breaker) -> None:  # type: ignore[no-untyped-def]
    assert event(before) == after


@pytest.mark.parametrize(
    ("breaker", "allowed"),
    [
        pytest.param(CLOSED, True, id="closed"),
        pytest.param(NEAR, True, id="closed with failures"),
        pytest.param(OPEN, False, id="open"),
        pytest.param(HALF_OPEN, True, id="half open"),
        pytest.param(ON_TRIAL, False, id="half open with a request on trial"),
    ],
)
def test_a_request_may_be_sent(breaker: Breaker, allowed: bool) -> None:
    assert allows(breaker, NOW_S) is allowed


def test_many_requests_that_fail_at_once_open_it_once() -> None:
    breaker = CLOSED
    for _ in range(50):
        breaker = lose(breaker)
    assert breaker.open_until_s == NOW_S + 0.5


def test_open_periods_double_to_a_bound() -> None:
    breaker, now_s, periods_s = CLOSED, 0.0, []
    for _ in range(20):
        breaker = failed(sent(breaker), now_s, unreachable=True)
        periods_s.append(breaker.open_until_s - now_s)
        now_s = breaker.open_until_s
    assert periods_s[:6] == pytest.approx([0.5, 1.0, 2.0, 4.0, 8.0, 10.0])
    assert max(periods_s) == pytest.approx(LONGEST_OPEN_S)


EVENTS = st.lists(st.tuples(st.sampled_from(["send", "fail", "lose", "withdraw", "serve"]), st.floats(0.0, 3.0)))


@given(EVENTS)
def test_any_history_lets_a_request_through_again_within_the_longest_period(history: list[tuple[str, float]]) -> None:
    breaker, now_s = CLOSED, 0.0
    for event, pause_s in history:
        now_s += pause_s
        if event == "send" and allows(breaker, now_s):
            half_open = breaker.open_until_s > 0.0
            breaker = sent(breaker)
            # At most one request is on trial.
            assert not (half_open and allows(breaker, now_s))
        elif event in ("fail", "lose"):
            breaker = failed(breaker, now_s, unreachable=event == "lose")
        elif event == "withdraw":
            breaker = withdrawn(breaker)
        elif event == "serve":
            breaker = CLOSED
        assert breaker.open_until_s <= now_s + LONGEST_OPEN_S
        assert breaker.open_until_s == 0.0 or breaker.openings > 0
    assert allows(withdrawn(breaker), now_s + LONGEST_OPEN_S)
