"""Ten thousand tickets wait: all are counted, the first go first, and all of them leave."""

from backlog.records import Claimed, PoolName, ReplicaName, TicketId, WorkerId
from backlog.store import Backlog
from backlog.ticket import Offer, Pending
from backlog.turn import Claim, Turn
from tests.backlog.samples import POOL, ticket, worker_report

ME = WorkerId("w1")
TICKETS, BATCH = 10_000, 500


def pending(number: int) -> Pending:
    """The older, the lower its number; every one of ten tenants has as many."""
    one = ticket(f"t{number:05}", owner=ME, tenant=f"tenant{number % 10}")
    return Pending(ticket=one, waited_s=float(TICKETS - number), bound_s=1e6)


async def test_ten_thousand_tickets(backlog: Backlog) -> None:
    offer = Offer(
        replica=ReplicaName("r0"),
        fixed_s=0.0,
        in_flight=0,
        ahead_s=0.0,
        kv_tokens=0,
        known=Claimed(),
    )
    claim = Claim(offers=[offer], budget_s=1e9, contested_s=1e9, kv_capacity_tokens=10**12, most=BATCH)
    for first in range(0, TICKETS, BATCH):
        batch = [pending(number) for number in range(first, first + BATCH)]
        await backlog.turn(POOL, ME, Turn(report=worker_report(ME), enqueue=batch, most_tickets=TICKETS))
    queue = (await backlog.view(PoolName(POOL))).queue
    assert queue.tickets == TICKETS
    assert {line.tickets for line in queue.lines} == {TICKETS // 10}
    order: list[str] = []
    started: list[TicketId] = []
    while True:
        reply = await backlog.turn(POOL, ME, Turn(report=worker_report(ME), start=started, claim=claim))
        assert reply.claims is not None
        if not reply.claims.leases:
            break
        started = [lease.ticket for lease in reply.claims.leases]
        order += started
    # Equal tenants and equal tickets: turns, which is the order of arrival.
    assert order == [f"t{number:05}" for number in range(TICKETS)]
    queue = (await backlog.view(POOL)).queue
    assert (queue.tickets, queue.lines, queue.leases) == (0, (), ())
