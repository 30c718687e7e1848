"""What one gateway's claim, push-out or first ticket puts into the mailbox of another, over two connections."""

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from redis import Redis

from backlog.keys import mail_stem
from backlog.records import Lease, PoolName, WorkerId
from backlog.store import Backlog, connect
from backlog.ticket import Pending, Ticket
from backlog.turn import Turn
from tests.backlog import samples
from tests.backlog.claims import claim, offer, ticket
from tests.backlog.waiting import until

POOL = PoolName("chat")
A, B = WorkerId("a"), WorkerId("b")
HEARTBEAT_S = 30.0
WAIT_S = 20.0


class Two(NamedTuple):
    """Gateway A, which knows of capacity, and gateway B, which only waits; `raw` and `box` to look at B's mailbox."""

    a: Backlog
    b: Backlog
    raw: Redis
    box: str

    async def enqueue(self, *tickets: Ticket, most: int = 100) -> None:
        """Tickets of one owner, in a turn of its own gateway."""
        owner = tickets[0].owner
        pending = [Pending(ticket=one, waited_s=0.0, bound_s=1e6) for one in tickets]
        turn = Turn(report=samples.worker_report(owner), enqueue=pending, most_tickets=most)
        await (self.a if owner == A else self.b).turn(POOL, owner, turn)

    async def letter(self) -> bytes:
        """B's next message."""
        message = await self.b.mail(POOL, B, wait_s=WAIT_S)
        assert message is not None
        return message

    def assert_it_ends(self) -> None:
        """Nobody has to read B's mailbox: it ends with B's heartbeat."""
        assert 0 < self.raw.pttl(self.box) <= HEARTBEAT_S * 1000  # type: ignore[operator]


@pytest.fixture
async def two(redis_url: str, redis_prefix: str) -> AsyncIterator[Two]:
    a, b = (connect(redis_url, prefix=redis_prefix, heartbeat_s=HEARTBEAT_S) for _ in range(2))
    with Redis.from_url(redis_url) as raw:
        yield Two(a, b, raw, mail_stem(redis_prefix, POOL) + B)
    await a.close()
    await b.close()


async def test_a_lease_that_another_gateway_claims_arrives_at_the_owner_as_it_was_given(two: Two) -> None:
    theirs = ticket("b:1", "blue", 2.5, owner=B, prefill_s=0.25, prefill_tokens=700, kv_tokens=1100)
    await two.enqueue(theirs)
    reply = await two.a.turn(POOL, A, Turn(claim=claim(offer("r7"))))
    two.assert_it_ends()
    message = await two.letter()
    assert message[:1] == b"L"
    lease = two.b.lease_from_mail(POOL, message)
    assert lease == Lease(
        ticket=theirs.id, replica=offer("r7").replica, owner=B,
        prefill_s=0.25, prefill_tokens=700, kv_tokens=1100, gpu_s=2.5,
    )  # fmt: skip
    assert reply.claims is not None
    assert reply.claims.leases == (lease,), "the claiming gateway knows the same"
    assert two.raw.exists(two.box) == 0
    assert (await two.b.view(POOL)).queue.leases == (lease,)


async def test_an_owner_that_is_waiting_for_mail_gets_its_lease(two: Two) -> None:
    await two.enqueue(ticket("b:1", owner=B))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(two.letter(), name="mail of b")
        await asyncio.to_thread(until, lambda: two.raw.info("clients")["blocked_clients"])  # type: ignore[index]
        await two.a.turn(POOL, A, Turn(claim=claim()))
    assert two.b.lease_from_mail(POOL, waiting.result()).ticket == "b:1"


async def test_a_ticket_that_gives_way_to_another_gateways_is_named_to_its_owner(two: Two) -> None:
    await two.enqueue(ticket("b:1", "blue", owner=B), ticket("b:2", "blue", owner=B))
    await two.enqueue(ticket("a:1", "red", owner=A), most=2)
    two.assert_it_ends()
    assert await two.letter() == b"Eb:2"
    assert {line.tenant: line.tickets for line in (await two.b.view(POOL)).queue.lines} == {"blue": 1, "red": 1}


async def test_a_gateway_is_woken_when_something_waits_at_another(two: Two) -> None:
    await two.b.exchange(POOL, samples.worker_report(B))
    await two.enqueue(ticket("a:1", owner=A))
    two.assert_it_ends()
    assert await two.letter() == b"W"
    assert two.raw.exists(two.box) == 0
