"""How long a call is remembered, and what becomes of a stream that nobody reads."""

import pytest

from gateway.plugin.calls import HAND_OVER_S, REMEMBER_S, Calls


class Visit:
    """As much of one as the table of calls looks at."""

    def __init__(self) -> None:
        self.model, self.task = "llama", None
        self.settled = self.taken = False
        self.settled_at_s: float | None = None
        self.flight: object = object()
        self.replica: object = object()

    def settle(self, at_s: float) -> None:
        self.settled, self.settled_at_s, self.flight = True, at_s, None


@pytest.fixture
def calls() -> Calls:
    return Calls()


def test_a_call_is_forgotten_some_time_after_its_end(calls: Calls) -> None:
    visit = Visit()
    calls.add("a", visit)  # type: ignore[arg-type]
    calls.forget(1e9)
    assert len(calls) == 1
    visit.settle(100.0)
    calls.forget(100.0 + REMEMBER_S)
    assert calls.last("a") is visit  # type: ignore[comparison-overlap]
    calls.forget(100.1 + REMEMBER_S)
    assert len(calls) == 0


def test_a_stream_that_nobody_reads_is_given_up(calls: Calls) -> None:
    read, unread = Visit(), Visit()
    for name, visit in (("read", read), ("unread", unread)):
        calls.add(name, visit)  # type: ignore[arg-type]
        calls.hand_over(visit, 10.0)  # type: ignore[arg-type]
    calls.taken_over(read)  # type: ignore[arg-type]
    assert list(calls.abandoned(10.0 + HAND_OVER_S)) == []
    assert list(calls.abandoned(10.1 + HAND_OVER_S)) == [unread]
    assert list(calls.abandoned(99.0 + HAND_OVER_S)) == []


def test_the_visit_that_was_sent_stands_for_the_call(calls: Calls) -> None:
    sent, refused = Visit(), Visit()
    refused.replica = None
    calls.add("a", sent)  # type: ignore[arg-type]
    calls.add("a", refused)  # type: ignore[arg-type]
    assert calls.last("a") is sent  # type: ignore[comparison-overlap]
    assert calls.last("b") is None


def test_a_stream_that_is_read_before_it_is_handed_over_is_not_given_up(calls: Calls) -> None:
    visit = Visit()
    calls.taken_over(visit)  # type: ignore[arg-type]
    calls.hand_over(visit, 100.0)  # type: ignore[arg-type]
    assert list(calls.abandoned(100.1 + HAND_OVER_S)) == []
