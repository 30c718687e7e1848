"""The shared queue, script by script, on every Redis of this machine."""

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from backlog.embedded import EmbeddedRedis, find_servers
from backlog.order import LEAD_S, Order
from backlog.records import Claimed, PoolName, QueueLine, ReplicaName, ReplicaState, TicketId, WorkerId
from backlog.store import Backlog, connect
from backlog.ticket import Charges, Offer, Pending, Ticket
from backlog.turn import Claims, Reply, Turn
from tests.backlog import samples
from tests.backlog.claims import ENDLESS_S, ME, OTHER, THIRD, claim, names, offer, ticket
from tests.conftest import leaked_keys

POOL = PoolName("chat")


class Pool:
    """One pool in an empty Redis, with short ways to say things; `raw` is for what a client cannot do."""

    def __init__(self, backlog: Backlog, raw: Redis, prefix: str) -> None:
        self.backlog = backlog
        self.raw = raw
        self._prefix = prefix

    def key(self, name: str) -> str:
        return f"{self._prefix}:{{{POOL}}}:{name}"

    async def turn(self, worker: WorkerId, **parts: Any) -> Reply:
        return await self.backlog.turn(POOL, worker, Turn(**parts))

    async def report(self, *workers: WorkerId, flying: dict[str, float] | None = None) -> list[int | None]:
        turn = [Turn(report=samples.worker_report(worker), flying=flying or {}) for worker in workers]
        return [(await self.backlog.turn(POOL, *one)).owned for one in zip(workers, turn, strict=True)]

    async def enqueue(self, *tickets: Ticket, most: int = 100_000, bound_s: float = ENDLESS_S) -> list[TicketId]:
        """Each worker's tickets in one turn after a report. Gives those that found no place."""
        turned_away: list[TicketId] = []
        for owner in dict.fromkeys(one.owner for one in tickets):
            pending = [Pending(ticket=one, waited_s=0.0, bound_s=bound_s) for one in tickets if one.owner == owner]
            reply = await self.turn(
                owner, report=samples.worker_report(owner), enqueue=pending, most_tickets=most
            )  # fmt: skip
            turned_away += reply.turned_away
        return turned_away

    async def claim(self, worker: WorkerId = ME, *offers: Offer, **changes: Any) -> Claims:
        reply = await self.turn(worker, claim=claim(*offers, **changes))
        assert reply.claims is not None
        return reply.claims

    async def order(self) -> str:
        """Claims everything and names it."""
        return names(await self.claim(ME, offer("all"), most=100_000))

    async def mail(self, worker: WorkerId) -> list[bytes]:
        """What lies there, oldest first, taken out."""
        messages = []
        for _ in range(self.raw.llen(self.key(f"mail:{worker}"))):  # type: ignore[arg-type]
            messages.append(await self.backlog.mail(POOL, worker, wait_s=5.0))
        return [message for message in messages if message is not None]

    async def lines(self) -> tuple[QueueLine, ...]:
        return (await self.backlog.view(POOL)).queue.lines

    def run_out(self, *tickets: str) -> None:
        """As if their leases had been given long ago."""
        self.raw.zadd(self.key("leases"), dict.fromkeys(tickets, 0), xx=True)

    def fall_silent(self, worker: WorkerId) -> None:
        self.raw.zadd(self.key("workers"), {worker: 0}, xx=True)

    def content(self) -> dict[str, Any]:
        """Everything in Redis."""
        read = {
            "zset": lambda key: self.raw.zrange(key, 0, -1, withscores=True),
            "hash": self.raw.hgetall,
            "set": self.raw.smembers,
            "list": lambda key: self.raw.lrange(key, 0, -1),
            "string": self.raw.get,
        }
        return {key: read[self.raw.type(key)](key) for key in sorted(self.raw.keys())}  # type: ignore[no-untyped-call,index]


@pytest.fixture(scope="module", params=find_servers() or [None])
def server(request: pytest.FixtureRequest) -> Iterator[EmbeddedRedis]:
    """Redis 6.2 and 7 have different rules for scripts."""
    if request.param is None:
        pytest.fail("CI must have a Redis server") if os.environ.get("CI") else pytest.skip("no Redis server")
    with EmbeddedRedis.start(server=request.param) as started:
        yield started


@pytest.fixture(params=[Order.FAIR])
async def pool(request: pytest.FixtureRequest, server: EmbeddedRedis) -> AsyncIterator[Pool]:
    backlog = connect(server.url, prefix="wb", timeout_s=20.0, heartbeat_s=60.0, orders={POOL: request.param})
    with Redis.from_url(server.url, decode_responses=True) as raw:
        yield Pool(backlog, raw, "wb")
        await backlog.close()
        leaked = leaked_keys(raw)
        raw.flushall()
    assert not leaked


# Leases


async def test_the_best_ticket_is_leased_whoever_claims(pool: Pool) -> None:
    await pool.enqueue(ticket("later", priority=3), ticket("low", "b", priority=1, owner=OTHER))
    await pool.enqueue(ticket("best", "c", priority=5, owner=THIRD))
    assert names(await pool.claim(ME, most=1)) == "best"
    assert names(await pool.claim(OTHER)) == "later low"


async def test_a_lease_of_another_workers_ticket_is_in_its_mailbox_and_an_own_one_is_not(pool: Pool) -> None:
    await pool.enqueue(ticket("mine"), ticket("theirs", "b", owner=OTHER))
    claims = await pool.claim(ME)
    assert names(claims) == "mine theirs"
    (message,) = [message for message in await pool.mail(OTHER) if message[:1] == b"L"]
    assert pool.backlog.lease_from_mail(POOL, message) == claims.leases[1]
    assert await pool.mail(ME) == []


async def test_a_lease_says_what_its_ticket_said(pool: Pool) -> None:
    await pool.enqueue(ticket("one", gpu_s=0.1 + 0.2, prefill_s=1 / 3, prefill_tokens=123_456, kv_tokens=2**40))
    (lease,) = (await pool.claim()).leases
    assert (lease.gpu_s, lease.prefill_s) == pytest.approx((0.1 + 0.2, 1 / 3), rel=1e-13)
    assert (lease.owner, lease.prefill_tokens, lease.kv_tokens) == (ME, 123_456, 2**40)


async def test_a_lease_that_is_not_started_comes_back_to_its_place_and_is_not_charged(pool: Pool) -> None:
    await pool.enqueue(ticket("first"), ticket("second"), ticket("long", gpu_s=9.0))
    before = await pool.lines()
    assert names(await pool.claim(most=1)) == "first"
    assert (await pool.lines())[0].finish_v == before[0].finish_v + 1.0
    pool.run_out("first")
    await pool.report(OTHER)
    assert await pool.lines() == before
    assert await pool.order() == "first second long"


async def test_a_ticket_that_is_started_after_its_lease_has_run_out_is_charged_once(pool: Pool) -> None:
    await pool.enqueue(*(ticket(f"t{index}", gpu_s=2.0) for index in range(3)))
    await pool.claim(most=2)
    pool.run_out("t0")
    await pool.report(ME)
    assert [(line.tickets, line.finish_v) for line in await pool.lines()] == [(2, 2.0)]
    await pool.turn(ME, start=[TicketId("t0"), TicketId("t1")])
    assert [(line.tickets, line.finish_v) for line in await pool.lines()] == [(1, 4.0)]
    await pool.turn(ME, start=[TicketId("t0"), TicketId("t1")])
    assert [(line.tickets, line.finish_v) for line in await pool.lines()] == [(1, 4.0)]


async def test_a_lease_that_is_evicted_is_refunded(pool: Pool) -> None:
    await pool.enqueue(ticket("gone", gpu_s=5.0), ticket("next"))
    await pool.claim(most=2)
    await pool.turn(ME, evict=[TicketId("gone"), TicketId("unknown")])
    await pool.enqueue(ticket("later"))
    assert [line.finish_v for line in await pool.lines()] == [1.0]


async def test_a_ticket_that_reached_its_bound_while_leased_is_overdue_when_it_comes_back(pool: Pool) -> None:
    await pool.enqueue(ticket("one", priority=0), bound_s=0.0)
    pool.raw.zadd(pool.key("bounds"), {"one": 4e9})
    await pool.claim()
    await pool.enqueue(ticket("waits", "b", priority=7))
    pool.raw.zadd(pool.key("bounds"), {"one": 0})
    assert names(await pool.claim()) == "waits"
    assert await pool.lines() == ()
    pool.run_out("one")
    await pool.enqueue(*(ticket(f"high{index}", "b", priority=7) for index in range(2)))
    # Its tenant has been given nothing in that band, b has been given `waits`.
    assert await pool.order() == "one high0 high1"


# Workers


async def test_a_dead_owners_ticket_is_skipped_at_once_and_its_tickets_vanish_with_anybodys_report(pool: Pool) -> None:
    await pool.enqueue(*(ticket(f"dead{index}", owner=OTHER) for index in range(3)))
    await pool.enqueue(ticket("alive"), ticket("low", "b", priority=0, owner=OTHER))
    pool.fall_silent(OTHER)
    assert names(await pool.claim(ME, most=1)) == "alive"
    await pool.report(THIRD)
    assert await pool.lines() == ()
    assert [seen.report.worker for seen in (await pool.backlog.view(POOL)).reports] == [THIRD, ME]


async def test_a_worker_that_comes_back_learns_that_its_tickets_are_gone(pool: Pool) -> None:
    await pool.enqueue(ticket("one"), ticket("two"))
    assert await pool.report(ME) == [2]
    pool.fall_silent(ME)
    assert await pool.report(OTHER, ME) == [0, 0]


async def test_a_batch_is_not_applied_again_after_its_worker_seemed_dead(pool: Pool) -> None:
    await pool.enqueue(ticket("waits"))
    batch = Charges(number=1, tenants={("a", 3): (1.0, 5.0)})
    await pool.turn(ME, charges=batch)
    pool.fall_silent(ME)
    await pool.report(OTHER)
    await pool.turn(ME, charges=batch)
    await pool.enqueue(ticket("again"))
    assert [line.finish_v for line in await pool.lines()] == [5.0]


async def test_tickets_of_a_worker_that_never_reports_are_dropped_as_those_of_a_dead_one(pool: Pool) -> None:
    await pool.turn(ME, enqueue=[Pending(ticket=ticket("one"), waited_s=0.0, bound_s=9.0)])
    assert [line.tickets for line in await pool.lines()] == [1]
    pool.fall_silent(ME)
    await pool.report(OTHER)
    assert await pool.lines() == ()


@pytest.mark.parametrize("stays", [False, True])
async def test_who_leaves_takes_its_tickets_along(pool: Pool, stays: bool) -> None:
    await pool.enqueue(ticket("mine"), ticket("leased", gpu_s=0.5), ticket("theirs", owner=OTHER))
    await pool.claim(OTHER, most=1)
    await (pool.backlog.withdraw if stays else pool.backlog.leave)(POOL, ME)
    assert [(line.tickets, line.finish_v) for line in await pool.lines()] == [(1, 0.0)]
    assert await pool.order() == "theirs"


# Room


async def test_two_workers_with_the_same_stale_view_do_not_fill_a_replica_twice(pool: Pool) -> None:
    await pool.enqueue(*(ticket(f"t{index}", prefill_s=0.1, kv_tokens=100) for index in range(9)))
    await pool.report(OTHER)
    stale = claim(offer(in_flight=1), budget_s=0.25)
    first = (await pool.turn(ME, claim=stale)).claims
    second = (await pool.turn(OTHER, claim=stale)).claims
    assert first is not None
    assert second is not None
    # 0, 0.1 and 0.2 s ahead are within the budget.
    assert (names(first), first.why, names(second), second.why) == ("t0 t1 t2", "room", "", "room")


async def test_a_replica_that_looks_empty_is_not_when_others_have_claimed_it(pool: Pool) -> None:
    await pool.enqueue(*(ticket(f"t{index}", prefill_s=0.1, kv_tokens=0) for index in range(4)))
    tight = claim(offer(), budget_s=0.05)
    counts = [len(claims.leases) for _ in range(2) if (claims := (await pool.turn(ME, claim=tight)).claims)]
    assert counts == [1, 0]
    seen = (await pool.backlog.view(POOL)).queue.claimed[ReplicaName("r0")]
    assert seen == Claimed(prefill_s=0.1, kv_tokens=0, requests=1)
    aware = offer(known=seen)
    assert names(await pool.claim(ME, aware, budget_s=0.05)) == "t1"


async def test_workers_with_stale_views_claim_no_more_requests_than_a_replica_has_slots(pool: Pool) -> None:
    await pool.enqueue(*(ticket(f"t{index}", prefill_s=0.0, kv_tokens=0) for index in range(6)))
    await pool.report(OTHER)
    await pool.turn(ME, charges=Charges(number=1, replicas={ReplicaName("r1"): Claimed(requests=2)}))
    stale = claim(offer("r0", in_flight=1), offer("r1"), max_in_flight=3)
    first = (await pool.turn(ME, claim=stale)).claims
    second = (await pool.turn(OTHER, claim=stale)).claims
    assert first is not None
    assert second is not None
    assert ([lease.replica for lease in first.leases], first.why) == (["r0", "r0", "r1"], "room")
    assert (second.leases, second.why) == ((), "room")
    seen = (await pool.backlog.view(POOL)).queue.claimed
    assert {name: claimed.requests for name, claimed in seen.items()} == {"r0": 2, "r1": 3}
    aware = [offer(name, in_flight=2, known=claimed) for name, claimed in seen.items()]
    assert len((await pool.claim(OTHER, *aware, max_in_flight=3)).leases) == 2


async def test_work_that_was_claimed_without_a_number_is_one_request(pool: Pool) -> None:
    await pool.enqueue(ticket("one"), ticket("two"))
    await pool.turn(ME, charges=Charges(number=1, replicas={ReplicaName("r0"): Claimed(prefill_s=0.5, kv_tokens=7)}))
    assert names(await pool.claim(ME, offer(), max_in_flight=2)) == "one"


async def test_the_replica_with_the_least_score_takes_a_ticket_and_is_further_away_then(pool: Pool) -> None:
    await pool.enqueue(*(ticket(f"t{index}", prefill_s=0.2, crowd_s=0.01) for index in range(4)))
    claims = await pool.claim(ME, offer("far", fixed_s=0.3), offer("near"), offer("busy", in_flight=25))
    assert [lease.replica for lease in claims.leases] == ["near", "near", "busy", "far"]


async def test_tenants_that_compete_find_less_room(pool: Pool) -> None:
    room = {"budget_s": 0.25, "contested_s": 0.1}
    await pool.enqueue(ticket("a1"), ticket("a2"), ticket("b1", "b"))
    assert names(await pool.claim(ME, offer(in_flight=1, ahead_s=0.2), **room)) == ""
    assert names(await pool.claim(ME, offer(in_flight=1, ahead_s=0.05), **room, most=2)) == "a1 b1"
    assert names(await pool.claim(ME, offer(in_flight=1, ahead_s=0.2), **room)) == "a2"


async def test_a_ticket_that_does_not_fit_holds_what_comes_after_it(pool: Pool) -> None:
    await pool.enqueue(ticket("large", kv_tokens=900), ticket("small", kv_tokens=1))
    tight = {"kv_capacity_tokens": 1000}
    assert (await pool.claim(ME, offer(in_flight=1, kv_tokens=500), **tight)).why == "room"
    assert names(await pool.claim(ME, offer(in_flight=1, kv_tokens=99), **tight)) == "large small"


async def test_a_ticket_too_large_for_any_replica_goes_to_an_empty_one(pool: Pool) -> None:
    await pool.enqueue(ticket("huge", kv_tokens=5000))
    assert names(await pool.claim(ME, offer(), kv_capacity_tokens=1000)) == "huge"


async def test_a_draining_replica_gets_nothing_whatever_the_worker_knows(pool: Pool) -> None:
    await pool.enqueue(ticket("one"), ticket("two"))
    await pool.backlog.publish_replicas(POOL, [samples.replica("r0", ReplicaState.DRAINING), samples.replica("r1")])
    assert (await pool.claim(ME, offer("r0"))).why == "room"
    claims = await pool.claim(ME, offer("r0"), offer("r1", fixed_s=9.0), most=1)
    assert [lease.replica for lease in claims.leases] == ["r1"]
    await pool.backlog.publish_replicas(POOL, [samples.replica("r0"), samples.replica("r1")])
    assert [lease.replica for lease in (await pool.claim(ME, offer("r0"))).leases] == ["r0"]


async def test_what_was_claimed_for_a_replica_is_forgotten_when_it_leaves_the_list(pool: Pool) -> None:
    kept = Claimed(prefill_s=1.5, kv_tokens=7, requests=2)
    sent = {ReplicaName("r0"): kept, ReplicaName("r1"): Claimed(prefill_s=0.5, requests=1)}
    await pool.turn(ME, charges=Charges(number=1, replicas=sent))
    await pool.backlog.publish_replicas(POOL, [samples.replica("r0")])
    assert (await pool.backlog.view(POOL)).queue.claimed == {"r0": kept}


async def test_a_replica_that_failed_on_a_ticket_is_used_only_when_there_is_no_other(pool: Pool) -> None:
    await pool.enqueue(ticket("one", avoid=(ReplicaName("r0"),)), ticket("two", avoid=(ReplicaName("r0"),)))
    claims = await pool.claim(ME, offer("r0"), offer("r1", fixed_s=9.0), most=1)
    assert [lease.replica for lease in claims.leases] == ["r1"]
    assert [lease.replica for lease in (await pool.claim(ME, offer("r0"))).leases] == ["r0"]


# Limits of a tenant


async def test_a_tenant_at_its_concurrency_limit_waits_while_others_go_on(pool: Pool) -> None:
    await pool.enqueue(*(ticket(f"a{index}", concurrent_gpu_s=3.0) for index in range(4)), ticket("b", "b", 9.0))
    claims = await pool.claim()
    assert (names(claims), claims.held, claims.why) == ("a0 b a1 a2", ("a",), "held")
    # What has been sent is in the report; what is leased counts as well.
    await pool.turn(ME, report=samples.worker_report(ME), flying={"a": 1.0}, start=[TicketId("a0"), TicketId("a1")])
    assert names(await pool.claim()) == "a3"


async def test_a_lease_without_a_limit_counts_against_its_tenants_limit(pool: Pool) -> None:
    await pool.enqueue(ticket("limited0", gpu_s=0.1, concurrent_gpu_s=2.0), ticket("free", gpu_s=1.0))
    await pool.enqueue(ticket("limited1", gpu_s=1.5, concurrent_gpu_s=2.0))
    claims = await pool.claim()
    assert (names(claims), claims.held) == ("limited0 free", ("a",))


async def test_work_of_a_dead_worker_does_not_count_against_its_tenants_limit(pool: Pool) -> None:
    await pool.report(OTHER, flying={"a": 9.0})
    await pool.enqueue(ticket("one", concurrent_gpu_s=2.0))
    assert (await pool.claim()).held == ("a",)
    pool.fall_silent(OTHER)
    assert names(await pool.claim()) == "one"


async def test_a_ticket_above_the_limit_runs_alone(pool: Pool) -> None:
    await pool.enqueue(
        ticket("large", gpu_s=5.0, concurrent_gpu_s=2.0), ticket("larger", gpu_s=6.0, concurrent_gpu_s=2.0)
    )
    await pool.report(ME, flying={"a": 0.1})
    assert (await pool.claim()).held == ("a",)
    await pool.report(ME)
    claims = await pool.claim()
    assert (names(claims), claims.held) == ("large", ("a",))


async def test_a_tenant_that_is_ahead_of_its_prefill_pace_waits_while_others_go_on(pool: Pool) -> None:
    facts = {"prefill_s": 0.9, "prefill_pace": 0.5}
    await pool.enqueue(*(ticket(f"a{index}", **facts) for index in range(4)), ticket("b", "b", 9.0))
    claims = await pool.claim()
    # One second's worth is there to begin with, and the bucket may go into debt once.
    assert (names(claims), claims.held) == ("a0 b", ("a",))
    level, at_us = pool.raw.hget(pool.key("paces"), "a").split()  # type: ignore[union-attr]
    assert float(level) == pytest.approx(-0.4)
    pool.raw.hset(pool.key("paces"), "a", f"{level} {float(at_us) - 0.9e6:.0f}")
    assert names(await pool.claim()) == "a1"


# A queue that begins to wait, or is full


async def test_the_others_are_woken_when_the_queue_stops_being_empty(pool: Pool) -> None:
    await pool.report(ME, OTHER, THIRD)
    pool.fall_silent(THIRD)
    await pool.enqueue(ticket("one"))
    await pool.enqueue(ticket("two"))
    assert (await pool.mail(ME), await pool.mail(OTHER), await pool.mail(THIRD)) == ([], [b"W"], [])


async def test_the_others_are_woken_when_a_lease_comes_back_to_an_empty_queue(pool: Pool) -> None:
    await pool.report(OTHER)
    await pool.enqueue(ticket("one"))
    await pool.claim()
    await pool.mail(OTHER)
    pool.raw.hset(pool.key("virtual"), "woken", 0)
    pool.run_out("one")
    await pool.report(ME)
    assert (await pool.mail(ME), await pool.mail(OTHER)) == ([], [b"W"])


async def test_in_a_full_queue_the_longest_line_gives_way_and_the_owner_is_told(pool: Pool) -> None:
    await pool.enqueue(*(ticket(f"a{index}", owner=OTHER) for index in range(4)))
    assert await pool.enqueue(ticket("b0", "b"), most=4) == []
    assert await pool.mail(OTHER) == [b"Ea3"]
    assert await pool.enqueue(ticket("b1", "b"), ticket("b2", "b"), most=4) == ["b2"]
    assert [message[:1] + message[1:] for message in await pool.mail(OTHER)] == [b"Ea2"]
    # A tenant's own tickets do not push out each other.
    assert await pool.enqueue(ticket("a4", owner=OTHER), most=4) == ["a4"]
    assert await pool.order() == "a0 b0 a1 b1"


async def test_in_a_full_queue_a_lower_band_gives_way_first(pool: Pool) -> None:
    await pool.enqueue(*(ticket(f"a{index}", priority=4) for index in range(3)), ticket("low", "b", priority=1))
    assert await pool.enqueue(ticket("new", "c", priority=2), most=4) == ["low"]
    assert await pool.enqueue(ticket("no", "c", priority=1), most=4) == ["no"]
    assert await pool.order() == "a0 a1 a2 new"


async def test_a_ticket_that_the_queue_knows_keeps_its_place_in_a_full_one(pool: Pool) -> None:
    await pool.enqueue(ticket("a0"), ticket("a1"), ticket("b0", "b"))
    assert await pool.enqueue(ticket("b0", "b", gpu_s=3.0), most=3) == []
    assert [(line.tenant, line.tickets, line.gpu_s) for line in await pool.lines()] == [("a", 2, 2.0), ("b", 1, 3.0)]


async def test_a_leased_ticket_that_comes_back_in_a_batch_counts_in_its_line(pool: Pool) -> None:
    await pool.enqueue(*(ticket(f"a{index}") for index in range(4)))
    await pool.claim(most=1)
    await pool.enqueue(ticket("b0", "b"))
    assert await pool.enqueue(ticket("c0", "c"), ticket("a0"), ticket("c1", "c"), most=4) == ["a3", "a0"]


async def test_a_batch_that_fills_the_queue_turns_away_its_own_longest_line(pool: Pool) -> None:
    flood = [ticket(f"a{index}") for index in range(5)]
    assert await pool.enqueue(*flood, ticket("b0", "b"), ticket("b1", "b"), most=4) == ["a4", "a3", "a2"]


# Order


async def test_an_overdue_ticket_competes_in_the_highest_band_by_its_tenants_turn(pool: Pool) -> None:
    await pool.enqueue(*(ticket(f"high{index}", "b", priority=7) for index in range(3)))
    await pool.enqueue(*(ticket(f"late{index}", "c", priority=0) for index in range(2)), bound_s=0.0)
    await pool.enqueue(ticket("low", "c", priority=0))
    assert await pool.order() == "high0 late0 high1 late1 high2 low"


@pytest.mark.parametrize(
    ("pool", "expected"),
    [(Order.FAIR, "short early middle late"), (Order.SHORTEST, "short middle early late"),
     (Order.FCFS, "early middle short late")],
    indirect=["pool"],
)  # fmt: skip
async def test_the_order_is_that_of_the_pool(pool: Pool, expected: str) -> None:
    for name, tenant, gpu_s in (("early", "b", 3.0), ("middle", "c", 2.0), ("short", "a", 1.0), ("late", "d", 4.0)):
        await pool.enqueue(ticket(name, tenant, gpu_s))
    assert await pool.order() == expected


@pytest.mark.parametrize("pool", [Order.SHORTEST, Order.FCFS], indirect=True)
async def test_an_overdue_ticket_of_any_tenant_goes_before_those_that_are_not(pool: Pool) -> None:
    await pool.enqueue(ticket("one"), ticket("two", "b"))
    await pool.enqueue(ticket("late", "c", gpu_s=9.0, priority=0), bound_s=0.0)
    assert await pool.order() == "late one two"


async def test_ten_thousand_tickets_go_in_turn_and_leave_nothing(pool: Pool) -> None:
    waiting = [ticket(f"{index:05}", f"t{index % 100:02}", owner=(ME, OTHER)[index % 2]) for index in range(10_000)]
    for first in range(0, 10_000, 2000):
        await pool.enqueue(*waiting[first : first + 2000])
    assert sum(line.tickets for line in await pool.lines()) == 10_000
    taken: list[str] = []
    while leases := (await pool.claim(ME, offer(), most=1000)).leases:
        await pool.turn(ME, start=[lease.ticket for lease in leases])
        taken += [lease.ticket for lease in leases]
    # Each tenant in its turn, each tenant's own in the order of arrival. All of one owner arrived before the other's.
    assert len(set(taken)) == 10_000
    assert all({int(one) % 100 for one in taken[at : at + 100]} == set(range(100)) for at in range(0, 10_000, 100))
    left = {key.split(":")[2] for key in pool.raw.keys()}  # noqa: SIM118
    assert left == {"workers", "worker", "virtual", "claimed", "counted", "mail"}


async def test_a_tenant_that_is_owed_goes_first_for_at_most_the_bound(pool: Pool) -> None:
    await pool.enqueue(*(ticket(f"{tenant}{index:02}", tenant) for tenant in "ab" for index in range(30)))
    # Virtual time of 9; a is owed 4 GPU-seconds.
    await pool.claim(most=20)
    await pool.turn(ME, charges=Charges(number=1, tenants={("a", 3): (1.0, -4.0)}))
    assert names(await pool.claim(most=6)) == "a10 a11 a12 a13 a14 b10"
    # Owed more than the bound, measured from virtual time.
    await pool.turn(ME, charges=Charges(number=2, tenants={("b", 3): (1.0, -500.0)}))
    taken = names(await pool.claim(most=16)).split()
    assert "".join(one[0] for one in taken) == "b" * int(LEAD_S) + "bababa"


@pytest.mark.parametrize("pool", [Order.SHORTEST, Order.FCFS], indirect=True)
async def test_a_tenant_with_an_overdue_ticket_competes_with_that_one_alone(pool: Pool) -> None:
    await pool.enqueue(ticket("again", "b", first=True))
    await pool.enqueue(ticket("first", "a", first=True))
    await pool.enqueue(ticket("overdue", "b"), bound_s=0.0)
    assert await pool.order() == "first overdue again"


# Repetition, names, loss


async def test_a_turn_that_is_repeated_changes_nothing(pool: Pool) -> None:
    await pool.enqueue(ticket("sent", gpu_s=2.0), ticket("gone"), ticket("stays", "b"))
    await pool.claim(most=2)
    turn = {
        "report": samples.worker_report(ME),
        "flying": {"a": 2.0},
        "start": [TicketId("sent")],
        "evict": [TicketId("gone")],
        "charges": Charges(
            number=3,
            tenants={("b", 3): (2.0, 4.0)},
            replicas={ReplicaName("r0"): Claimed(prefill_s=0.5, kv_tokens=10, requests=1)},
        ),
    }
    await pool.turn(ME, **turn)
    once = pool.content()
    await pool.turn(ME, **turn)
    workers = pool.key("workers")
    assert pool.content() | {workers: None} == once | {workers: None}


async def test_a_batch_that_is_enqueued_twice_waits_once(pool: Pool) -> None:
    await pool.enqueue(ticket("one"), ticket("two", "b"))
    before = await pool.lines()
    await pool.claim(most=1)
    await pool.enqueue(ticket("one"), ticket("two", "b"))
    assert await pool.lines() == before
    assert await pool.order() == "one two"


async def test_names_may_hold_any_characters(pool: Pool) -> None:
    strange: Sequence[str] = ["a:b", "overdue", "3:x y", "名前 \n\t\"'\\", "{x}", "%s %d", "now:3", "é" * 50]
    workers = [WorkerId(f"{name}#") for name in strange]
    replicas = [offer(f"p:{name}") for name in strange]
    await pool.enqueue(
        *(ticket(f"{name} ticket", name, owner=worker) for name, worker in zip(strange, workers, strict=True)),
    )  # fmt: skip
    assert {line.tenant for line in await pool.lines()} == set(strange)
    claims = await pool.claim(ME, *(replace(one, fixed_s=index / 1000) for index, one in enumerate(replicas)))
    assert {lease.ticket for lease in claims.leases} == {f"{name} ticket" for name in strange}
    for worker, name in zip(workers, strange, strict=True):
        (message,) = [one for one in await pool.mail(worker) if one[:1] == b"L"]
        assert pool.backlog.lease_from_mail(POOL, message).ticket == f"{name} ticket"
    claimed = (await pool.backlog.view(POOL)).queue.claimed
    assert claimed.keys() == {lease.replica for lease in claims.leases} == {one.replica for one in replicas}


LOST = ["tickets", "line:3:a", "band:3", "owned:me", "bounds", "leases", "leased", "virtual", "sums", "claimed",
        "counted", "line:overdue:b", "band:overdue", "workers"]  # fmt: skip


@pytest.mark.parametrize("lost", LOST)
async def test_after_the_loss_of_a_key_owners_miss_their_tickets_and_all_of_them_go_once(lost: str, pool: Pool) -> None:
    """What a Redis does that may evict keys."""
    waiting = [ticket("a0"), ticket("a1"), ticket("leased", gpu_s=0.5), ticket("late", "b", priority=0, owner=OTHER)]
    await pool.enqueue(*waiting[:3])
    await pool.claim(most=1)
    await pool.enqueue(waiting[3], bound_s=0.0)
    await pool.claim(ME, offer("full", in_flight=1), budget_s=-1.0, contested_s=-1.0)
    assert pool.raw.delete(pool.key(lost)) == 1
    gone: list[TicketId] = []
    for _ in range(4):
        known = [sum(one.owner == owner for one in waiting) for owner in (ME, OTHER)]
        if await pool.report(ME, OTHER) != known:
            await pool.backlog.leave(POOL, ME)
            await pool.backlog.leave(POOL, OTHER)
            await pool.enqueue(*waiting)
        leases = (await pool.claim(ME, offer("all"))).leases
        gone += [lease.ticket for lease in leases]
        await pool.turn(ME, start=[lease.ticket for lease in leases])
        waiting = [one for one in waiting if one.id not in gone]
        pool.run_out("leased")
    assert sorted(gone) == ["a0", "a1", "late", "leased"]
    assert pool.raw.exists(*(pool.key(name) for name in ("tickets", "leases", "leased", "sums", "bounds"))) == 0
