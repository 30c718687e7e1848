"""A circuit breaker per replica, as values: closed, open until an instant, or half open with one request on trial."""

from dataclasses import dataclass, replace

FAILURES_TO_OPEN = 5
FIRST_OPEN_S = 0.5
LONGEST_OPEN_S = 10.0
TRIAL_S = 1.0
"""A request on trial that is neither refused nor broken off after this makes room for another, answered or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """`failures` counts in a row. `open_until_s` is on the caller's monotonic clock; 0 means closed."""

    failures: int = 0
    openings: int = 0
    open_until_s: float = 0.0
    on_trial: bool = False


CLOSED = Breaker()


def allows(breaker: Breaker, now_s: float) -> bool:
    """Whether a request may be sent: always when closed, once when the open period has passed."""
    if breaker.open_until_s == 0.0:
        return True
    return now_s >= breaker.open_until_s and not breaker.on_trial


def sent(breaker: Breaker) -> Breaker:
    """A request goes out; while half open it is the one on trial."""
    return breaker if breaker.open_until_s == 0.0 else replace(breaker, on_trial=True)


def failed(breaker: Breaker, now_s: float, *, unreachable: bool) -> Breaker:
    """After a failure. An unreachable replica opens at once, others after five failures in a row.

    The open period doubles from 0.5 s to 10 s, so that a replica that is coming back is tried within seconds. A
    failure while it is open changes nothing: that request was under way, and ten of them are one event.
    """
    if now_s < breaker.open_until_s:
        return breaker
    failures = breaker.failures + 1
    if not (unreachable or breaker.open_until_s > 0.0 or failures >= FAILURES_TO_OPEN):
        return replace(breaker, failures=failures)
    period_s = min(FIRST_OPEN_S * 2.0**breaker.openings, LONGEST_OPEN_S)
    return Breaker(failures=failures, openings=min(breaker.openings + 1, 8), open_until_s=now_s + period_s)


def withdrawn(breaker: Breaker) -> Breaker:
    """The request on trial ended without saying anything about the replica (its client left)."""
    return replace(breaker, on_trial=False) if breaker.on_trial else breaker
