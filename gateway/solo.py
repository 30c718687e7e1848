"""What a worker may send while Redis is away: its share of every replica, its share of its tenants' limits. Pure."""

from collections.abc import Mapping
from dataclasses import replace

from backlog.ticket import Ticket
from gateway.pick import PickRule


class Solo:
    """`share` is one over the number of workers that were alive when Redis was last heard: all do the same."""

    def __init__(self) -> None:
        self.share = 1.0
        self._levels: dict[str, tuple[float, float]] = {}
        """Tenant -> level of its bucket of prefill seconds, and when that was."""

    def rule(self, rule: PickRule, *, away: bool) -> PickRule:
        """The pool's rule, while Redis is `away` for this worker's part of every replica."""
        if not away or self.share == 1.0:
            return rule
        return replace(
            rule,
            dispatch_prefill_s=rule.dispatch_prefill_s * self.share,
            kv_capacity_tokens=max(1, int(rule.kv_capacity_tokens * self.share)),
            max_in_flight=None if rule.max_in_flight is None else max(1, int(rule.max_in_flight * self.share)),
        )

    def allows(self, ticket: Ticket, flying: Mapping[str, float], now_s: float) -> bool:
        """Whether the ticket's tenant is within its limits. `flying`: GPU-seconds in flight here, by tenant."""
        if self.paced_s(ticket, now_s) > 0.0:
            return False
        if ticket.concurrent_gpu_s is None:
            return True
        flying_gpu_s = flying.get(ticket.tenant, 0.0)
        # A ticket above the limit runs alone.
        return flying_gpu_s <= 0.0 or flying_gpu_s + ticket.gpu_s <= ticket.concurrent_gpu_s * self.share

    def paced_s(self, ticket: Ticket, now_s: float) -> float:
        """How long the ticket's tenant is held by its prefill pace from now on; 0 when it is not."""
        if ticket.prefill_pace is None:
            return 0.0
        return max(0.0, -self._level(ticket, now_s) / (ticket.prefill_pace * self.share))

    def sent(self, ticket: Ticket, now_s: float) -> None:
        """A ticket was sent: its prefill is taken from its tenant's bucket, which may go into debt."""
        if ticket.prefill_pace is not None:
            self._levels[ticket.tenant] = (self._level(ticket, now_s) - ticket.prefill_s, now_s)

    def _level(self, ticket: Ticket, now_s: float) -> float:
        assert ticket.prefill_pace is not None
        pace = ticket.prefill_pace * self.share
        level_s, at_s = self._levels.get(ticket.tenant, (pace, now_s))
        return min(pace, level_s + pace * max(0.0, now_s - at_s))
