"""What a worker would have done differently, had it known what its next view shows. Pure.

On the idle path a request does not wait for Redis. The price is counted here: requests that went past somebody who
waited elsewhere, and replicas that were given work by two workers at once.
"""

from collections.abc import Mapping

from gateway.pick import Load, ahead_s


class Rivals:
    """The dispatches on the idle path since the last view."""

    def __init__(self) -> None:
        self._sent: list[tuple[float, str, float]] = []

    def sent(self, replica: str, prefill_s: float, now_s: float) -> None:
        """One more dispatch, with its prefill."""
        self._sent.append((now_s, replica, prefill_s))

    def judge(
        self, loads: Mapping[str, Load], *, waiting_age_s: float | None, budget_s: float, now_s: float
    ) -> tuple[int, int]:
        """Requests sent while somebody waited, and replicas over their budget before the last one was sent to them.

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
            over += load is not None and load.in_flight > 1 and ahead_s(load, now_s) - prefill_s > budget_s
        return passed, over
