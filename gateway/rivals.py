"""What a worker would have done differently, had it known what its next view shows. Pure.

On the idle path a request does not wait for Redis. The price is counted here: requests that went past somebody who
waited elsewhere, and replicas that were given work by two workers at once.
"""

from collections.abc import Mapping

from gateway.pick import Load, PickRule, ahead_s


class Rivals:
    """The dispatches on the idle path since the last view."""

    def __init__(self) -> None:
        self._sent: list[tuple[float, str, float]] = []

    def sent(self, replica: str, prefill_s: float, now_s: float) -> None:
        """One more dispatch, with its prefill."""
        self._sent.append((now_s, replica, prefill_s))

    def judge(
        self, loads: Mapping[str, Load], *, waiting_age_s: float | None, rule: PickRule, now_s: float
    ) -> tuple[int, int]:
        """Requests sent while somebody waited, and replicas that had no room before the last one was sent to them.

        No room: over the budget of prefill, or without a free slot.

        `loads` contain what the view shows; `waiting_age_s` is how long somebody had waited when it was read.
        """
        passed, last_s = 0, dict[str, float]()
        for at_s, replica, prefill_s in self._sent:
            last_s[replica] = prefill_s
            passed += waiting_age_s is not None and now_s - at_s < waiting_age_s
        self._sent.clear()
        over = 0
        for replica, prefill_s in last_s.items():
            load = loads.get(replica)
            if load is None or load.in_flight <= 1:
                continue
            slots_over = rule.max_in_flight is not None and load.in_flight > rule.max_in_flight
            over += slots_over or ahead_s(load, now_s) - prefill_s > rule.dispatch_prefill_s
        return passed, over
