"""Tickets of three workers, and claims for them with plenty of everything."""

from typing import Any

from backlog.records import Claimed, ReplicaName, TicketId, WorkerId
from backlog.ticket import Offer, Ticket
from backlog.turn import Claim, Claims

ME, OTHER, THIRD = WorkerId("me"), WorkerId("other"), WorkerId("third")
ENDLESS_S = 1e6


def ticket(name: str, tenant: str = "a", gpu_s: float = 1.0, **changes: Any) -> Ticket:
    facts: dict[str, Any] = {"prefill_s": 0.01, "prefill_tokens": 10, "kv_tokens": 20, "owner": ME}
    return Ticket(id=TicketId(name), tenant=tenant, gpu_s=gpu_s, **facts | changes)


def offer(replica: str = "r0", **changes: Any) -> Offer:
    facts: dict[str, Any] = dict.fromkeys(("fixed_s", "in_flight", "ahead_s", "kv_tokens"), 0)
    facts["known"] = Claimed()
    return Offer(replica=ReplicaName(replica), **facts | changes)


def claim(*offers: Offer, **changes: Any) -> Claim:
    facts: dict[str, Any] = {"budget_s": ENDLESS_S, "contested_s": ENDLESS_S, "kv_capacity_tokens": 10**9}
    return Claim(offers=offers or [offer()], **facts | changes)


def names(claims: Claims) -> str:
    return " ".join(lease.ticket for lease in claims.leases)
