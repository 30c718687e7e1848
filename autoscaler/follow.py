"""What a decision leaves behind when it was not carried out: by a follower, or by a leader that was refused. Pure.

A state counts replicas added and the last removal, for the rate limits of later decisions. Only changes that happened
may count. So whoever did not make the change takes note of those that it sees.
"""

from dataclasses import replace

from autoscaler.decide import DecisionState, Mark


def as_seen(
    before: DecisionState, after: DecisionState, *, previous: int | None, present: int, now_s: float
) -> DecisionState:
    """`after` with the changes from `previous` to `present` replicas instead of the one that was decided now.

    `before` is the state that the decision began with. `previous` is `None` when nothing was seen yet.
    """
    change = 0 if previous is None else present - previous
    ups = tuple(mark for mark in after.ups if mark in before.ups)
    if change > 0:
        ups = (*ups, Mark(at_s=now_s, replicas=change))
    return replace(after, ups=ups, last_down_at_s=now_s if change < 0 else before.last_down_at_s)
