"""One pool's conversation with Redis: turn by turn against a backlog that remembers, and its mailbox."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import structlog

from backlog.records import Claimed, Lease, PoolName, PoolView, QueueView, TicketId, WorkerId
from backlog.store import BacklogUnavailable
from backlog.turn import Claims, PoolScripts, Reply, Turn
from gateway.outcome import Outcome
from gateway.publish import MISSING_S, QUIET_S, Publisher
from tests.gateway.builders import ME, OTHER, POOL, lease, line, pool, record, report, share, view, weight
from tests.gateway.guests import Guest, busy

PUBLISH_S = 0.0625


class Memory:
    """A backlog that knows the tickets it was told, and says what the test has put into it."""

    def __init__(self) -> None:
        self.tickets: set[TicketId] = set()
        self.turns: list[Turn] = []
        self.leaves = 0
        self.withdrawals = 0
        self.away: str | None = None
        self.broken: Exception | None = None
        self.lose_answer = False
        self.claims = Claims(why="empty", held=(), leases=())
        self.turned_away: tuple[TicketId, ...] = ()
        self.view: PoolView = view(report(ME))
        self.mailbox: asyncio.Queue[bytes] = asyncio.Queue()

    async def turn(self, name: PoolName, worker: WorkerId, turn: Turn) -> Reply:
        assert (name, worker) == (POOL, ME)
        self._check()
        self.turns.append(turn)
        owned = len(self.tickets)
        self.tickets -= {*turn.start, *turn.evict}
        self.tickets |= {pending.ticket.id for pending in turn.enqueue}
        self.tickets -= {*self.turned_away}
        if self.lose_answer:
            raise BacklogUnavailable("no answer")
        return Reply(
            owned=owned if turn.report is not None else None,
            turned_away=self.turned_away,
            claims=self.claims if turn.claim is not None else None,
            view=self.view if turn.look else None,
        )

    async def leave(self, name: PoolName, worker: WorkerId) -> None:
        assert (name, worker) == (POOL, ME)
        self._check()
        self.leaves += 1
        self.tickets.clear()

    async def withdraw(self, name: PoolName, worker: WorkerId) -> None:
        assert (name, worker) == (POOL, ME)
        self._check()
        self.withdrawals += 1
        self.tickets.clear()

    async def mail(self, name: PoolName, worker: WorkerId, *, wait_s: float) -> bytes | None:
        assert (name, worker) == (POOL, ME)
        self._check()
        return await self.mailbox.get()

    def lease_from_mail(self, name: PoolName, message: bytes) -> Lease:
        return PoolScripts(name, prefix="wb", heartbeat_s=1.0).lease_from_mail(message)

    def _check(self) -> None:
        if self.away is not None:
            raise BacklogUnavailable(self.away)
        if self.broken is not None:
            raise self.broken


class Talk:
    """A pool, its publisher, the backlog, and a clock that the test moves."""

    def __init__(self, *, replicas: int = 1, **changes: Any) -> None:
        self.now_s = 100.0
        self.urgent = asyncio.Event()
        self.backlog = Memory()
        self.pool = pool(replicas=replicas, urgent=self.urgent.set, **changes)
        self.publisher = Publisher(
            self.pool,
            self.backlog,  # type: ignore[arg-type]
            clock=lambda: self.now_s,
            wall_clock=lambda: self.now_s + 1000.0,
            started_at_s=7.0,
            publish_s=PUBLISH_S,
            urgent=self.urgent,
        )

    async def turn(self, *, after_s: float = 0.0) -> Turn | None:
        """The turn that was made after a pause, if one was made and arrived."""
        self.now_s += after_s
        before = len(self.backlog.turns)
        await self.publisher.turn()
        assert len(self.backlog.turns) <= before + 1
        return self.backlog.turns[-1] if len(self.backlog.turns) > before else None

    async def say(self, *, after_s: float = 0.0) -> Turn:
        made = await self.turn(after_s=after_s)
        assert made is not None
        return made

    def wait(self, **changes: Any) -> Guest:
        return Guest(self.pool, arrived_at_s=self.now_s, **changes).wait()


@pytest.fixture
async def talk() -> Talk:
    """A conversation after its first turn, with no room anywhere."""
    one = Talk()
    busy(one.pool.replicas["r0"], prefill_s=1e6)
    await one.say()
    return one


# What is said, and when


async def test_the_first_turn_begins_anew_reports_and_looks() -> None:
    talk = Talk()
    assert not talk.pool.connected
    first = await talk.say()
    assert (talk.backlog.withdrawals, talk.pool.connected) == (1, True)
    assert first.report is not None
    assert (first.report.worker, first.report.started_at_s, first.look) == (ME, 7.0, True)
    assert (talk.publisher.heard_at_s, talk.publisher.error) == (100.0, None)


async def test_the_view_is_heard(talk: Talk) -> None:
    talk.backlog.view = view(report(OTHER, running={"r0": share(in_flight=3)}), queue=QueueView(lines=(line(2, 8.0),)))
    await talk.say(after_s=QUIET_S)
    assert talk.pool.waiting_elsewhere == 2
    assert talk.pool.replicas["r0"].ledger.load.in_flight == 1 + 3


@pytest.mark.parametrize(
    ("change", "after_s", "said"),
    [
        pytest.param("", 0.9 * QUIET_S, False, id="nothing new"),
        pytest.param("", QUIET_S, True, id="nothing new for long"),
        pytest.param("changed", 0.9 * PUBLISH_S, False, id="a change too early"),
        pytest.param("changed", PUBLISH_S, True, id="a change"),
        pytest.param("elsewhere", PUBLISH_S, True, id="somebody waits elsewhere"),
        pytest.param("report_now", 0.0, True, id="a change that others must know of"),
    ],
)
async def test_a_report_is_sent_when_there_is_news(talk: Talk, change: str, after_s: float, said: bool) -> None:
    if change == "elsewhere":
        talk.pool.waiting_elsewhere = 1
    elif change:
        setattr(talk.pool, change, True)
    made = await talk.turn(after_s=after_s)
    assert (made is not None) is said
    if made is not None:
        assert made.report is not None
        assert made.look
        assert (talk.pool.changed, talk.pool.report_now) == (False, False)


async def test_who_waits_is_told_at_once_without_a_report(talk: Talk) -> None:
    guest = talk.wait()
    assert talk.urgent.is_set()
    made = await talk.say()
    assert [pending.ticket for pending in made.enqueue] == [guest.ticket]
    assert (made.report, made.look) == (None, False)
    assert guest.seat is not None
    talk.pool.leave(guest.seat, talk.now_s)
    assert (await talk.say()).evict == [guest.ticket.id]
    assert await talk.turn() is None


@pytest.mark.parametrize("has_room", [False, True])
@pytest.mark.parametrize("waits", [False, True])
async def test_a_claim_is_made_when_somebody_waits_and_a_replica_has_room(has_room: bool, waits: bool) -> None:
    talk = Talk()
    if not has_room:
        busy(talk.pool.replicas["r0"], prefill_s=1e6)
    await talk.say()
    if waits:
        talk.wait()
    made = await talk.say(after_s=QUIET_S)
    assert (made.claim is not None) is (has_room and waits)


async def test_a_lease_is_sent_and_told_in_the_next_turn() -> None:
    talk = Talk()
    await talk.say()
    guest = talk.wait()
    talk.backlog.claims = Claims(why="empty", held=(), leases=(lease(guest.ticket.id),))
    await talk.say()
    assert (guest.sent_to, guest.leased) == ("r0", True)
    made = await talk.say(after_s=PUBLISH_S)
    assert (made.start, made.claim) == ([guest.ticket.id], None)
    assert talk.pool.outbox.known == talk.backlog.tickets == set()


async def test_the_lease_of_the_same_turn_is_not_counted_twice() -> None:
    talk = Talk()
    await talk.say()
    guest = talk.wait()
    given = lease(guest.ticket.id)
    talk.backlog.claims = Claims(why="empty", held=(), leases=(given,))
    talk.backlog.view = view(report(ME), queue=QueueView(leases=(given,)))
    await talk.say(after_s=QUIET_S)
    assert talk.pool.replicas["r0"].ledger.load.in_flight == 1


async def test_what_was_sent_without_a_lease_is_known_in_the_next_offers() -> None:
    talk = Talk()
    await talk.say()
    talk.pool.sent(Guest(talk.pool, weight=weight(0.05)), talk.pool.replicas["r0"], leased=False)  # type: ignore[arg-type]
    talk.wait()
    made = await talk.say()
    assert made.report is None
    assert made.charges is not None
    sent = Claimed(prefill_s=0.05, kv_tokens=1100, requests=1)
    assert made.charges.replicas == {"r0": sent}
    claim = talk.pool.claim(talk.now_s)
    assert claim is not None
    assert claim.offers[0].known == sent


async def test_a_ticket_without_a_place_is_refused(talk: Talk) -> None:
    guest, stays = talk.wait(), talk.wait()
    talk.backlog.turned_away = (guest.ticket.id,)
    await talk.say()
    assert guest.refusal is not None
    assert guest.refusal.outcome is Outcome.BACKLOG_FULL
    assert stays.refusal is None
    assert talk.pool.outbox.known == {stays.ticket.id}


# Redis goes and comes back


async def test_an_outage_is_said_once_and_the_worker_goes_on_alone(talk: Talk) -> None:
    guest = talk.wait()
    await talk.say()
    talk.pool.replicas["r0"].ledger = pool(replicas=1).replicas["r0"].ledger
    talk.backlog.away = "connection refused"
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            assert await talk.turn(after_s=QUIET_S) is None
    assert [(log["event"], log["cause"]) for log in logs] == [
        ("redis unavailable, serving from the last view", "connection refused")
    ]
    assert (talk.publisher.error, talk.pool.connected) == ("connection refused", False)
    assert (guest.sent_to, guest.leased) == ("r0", False)


async def test_when_redis_is_back_it_is_told_everything_anew(talk: Talk) -> None:
    stays, leaves = talk.wait(), talk.wait()
    await talk.say()
    talk.backlog.away = "connection refused"
    await talk.turn(after_s=QUIET_S)
    assert leaves.seat is not None
    talk.pool.leave(leaves.seat, talk.now_s)
    comes = talk.wait()
    talk.backlog.away = None
    with structlog.testing.capture_logs() as logs:
        made = await talk.say()
    assert [log["event"] for log in logs] == ["redis is back"]
    assert (talk.backlog.withdrawals, talk.publisher.error, talk.pool.connected) == (2, None, True)
    assert {pending.ticket.id for pending in made.enqueue} == {stays.ticket.id, comes.ticket.id}
    assert talk.backlog.tickets == talk.pool.outbox.known == {stays.ticket.id, comes.ticket.id}
    # Leaving has dropped the report: without one the others would not see what runs here.
    assert made.report is not None


async def test_a_batch_of_charges_whose_answer_was_lost_is_sent_again_with_its_number(talk: Talk) -> None:
    talk.pool.outbox.sent("blue", 3, 1.0, 2.0)
    talk.backlog.lose_answer = True
    lost = await talk.say(after_s=QUIET_S)
    talk.backlog.lose_answer = False
    talk.pool.outbox.sent("blue", 3, 1.0, 5.0)
    again, more = await talk.say(after_s=QUIET_S), await talk.say(after_s=QUIET_S)
    assert lost.charges is not None
    assert again.charges == lost.charges
    assert more.charges is not None
    assert (more.charges.number, dict(more.charges.tenants)) == (2, {("blue", 3): (1.0, 5.0)})


async def test_an_enqueued_ticket_whose_letter_was_lost_is_enqueued_again(talk: Talk) -> None:
    guest = talk.wait()
    talk.backlog.lose_answer = True
    await talk.say()
    talk.backlog.lose_answer = False
    assert [pending.ticket for pending in (await talk.say()).enqueue] == [guest.ticket]


@pytest.mark.parametrize("lost", [True, False], ids=["tickets are lost", "tickets have stayed"])
async def test_a_redis_that_knows_other_tickets_for_a_second_is_told_everything_anew(talk: Talk, lost: bool) -> None:
    guest = talk.wait()
    await talk.say()
    if lost:
        talk.backlog.tickets.clear()
    else:
        talk.backlog.tickets.add(TicketId("me:ghost"))
    with structlog.testing.capture_logs() as logs:
        await talk.say(after_s=QUIET_S)
        assert not logs
        assert talk.backlog.withdrawals == 1
        await talk.say(after_s=MISSING_S)
        assert [log["log_level"] for log in logs] == ["warning"]
        made = await talk.say()
    assert (talk.backlog.withdrawals, talk.backlog.tickets) == (2, {guest.ticket.id})
    assert made.report is not None
    await talk.say(after_s=QUIET_S)
    await talk.say(after_s=MISSING_S)
    assert talk.backlog.withdrawals == 2


async def test_a_difference_that_passes_is_nothing(talk: Talk) -> None:
    talk.backlog.tickets.add(TicketId("me:ghost"))
    await talk.say(after_s=QUIET_S)
    talk.backlog.tickets.clear()
    await talk.say(after_s=QUIET_S)
    talk.backlog.tickets.add(TicketId("me:ghost"))
    await talk.say(after_s=QUIET_S)
    await talk.say(after_s=0.9 * MISSING_S)
    assert (talk.pool.connected, talk.backlog.withdrawals) == (True, 1)


@pytest.mark.parametrize("by_mail", [False, True])
async def test_a_lease_for_a_ticket_that_has_left_is_answered_with_its_withdrawal(by_mail: bool) -> None:
    """A Redis that failed over has it from an older time. It hides a ticket that Redis lost: their numbers agree."""
    talk = Talk()
    await talk.say()
    ghost = lease("me:ghost")
    if by_mail:
        async with running(talk):
            talk.backlog.mailbox.put_nowait(b"L" + msgspec.json.encode(ghost))
            await until(lambda: len(talk.backlog.turns) > 1)
        assert [turn.evict for turn in talk.backlog.turns[1:]] == [["me:ghost"]]
    else:
        talk.wait()
        talk.backlog.claims = Claims(why="room", held=(), leases=(ghost,))
        await talk.say()
        assert (await talk.say()).evict == ["me:ghost"]


async def test_leaving_a_redis_that_is_away_is_said() -> None:
    talk = Talk()
    await talk.publisher.leave()
    assert talk.backlog.leaves == 1
    talk.backlog.away = "gone"
    with structlog.testing.capture_logs() as logs:
        await talk.publisher.leave()
    assert [(log["event"], log["cause"]) for log in logs] == [("could not leave the backlog", "gone")]


# The mailbox


@asynccontextmanager
async def running(talk: Talk) -> AsyncIterator[None]:
    """The publisher at work. Time does not pass for it: it makes turns when it is urgent."""
    async with asyncio.timeout(10.0):
        task = asyncio.create_task(talk.publisher.run())
        yield
        talk.publisher.stop()
        await task


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.001)


async def test_a_lease_in_the_mail_sends_its_request(talk: Talk) -> None:
    guest = talk.wait()
    await talk.say()
    async with running(talk):
        talk.backlog.mailbox.put_nowait(b"L" + msgspec.json.encode(lease(guest.ticket.id)))
        await until(lambda: guest.sent_to is not None)
    assert (guest.sent_to, guest.leased) == ("r0", True)


async def test_an_eviction_in_the_mail_refuses_its_request(talk: Talk) -> None:
    guest, stays = talk.wait(), talk.wait()
    await talk.say()
    async with running(talk):
        talk.backlog.mailbox.put_nowait(b"E" + guest.ticket.id.encode())
        await until(lambda: guest.refusal is not None)
    assert guest.refusal is not None
    assert (guest.refusal.outcome, stays.refusal) == (Outcome.BACKLOG_FULL, None)


async def test_a_call_in_the_mail_makes_the_worker_look(talk: Talk) -> None:
    turns = len(talk.backlog.turns)
    talk.backlog.view = view(report(ME), queue=QueueView(lines=(line(2),)))
    async with running(talk):
        talk.backlog.mailbox.put_nowait(b"W")
        await until(lambda: talk.pool.waiting_elsewhere == 2)
    assert len(talk.backlog.turns) > turns


async def test_a_letter_that_cannot_be_read_is_said_and_the_next_one_is_read(talk: Talk) -> None:
    guest = talk.wait()
    await talk.say()
    with structlog.testing.capture_logs() as logs:
        async with running(talk):
            talk.backlog.mailbox.put_nowait(b"E\xff")
            talk.backlog.mailbox.put_nowait(b"E" + guest.ticket.id.encode())
            await until(lambda: guest.refusal is not None)
    assert [log["event"] for log in logs] == ["mail could not be read"]


async def test_a_fault_of_ours_does_not_end_the_conversation() -> None:
    talk = Talk(replicas=0)
    talk.backlog.broken = KeyError("a bug")
    talk.backlog.mailbox.put_nowait(b"W")
    with structlog.testing.capture_logs() as logs:
        async with running(talk):
            await until(lambda: any(log["event"] == "exchange with redis failed" for log in logs))
            talk.backlog.broken = None
            talk.backlog.view = view(report(ME), replicas=(record(),))
            await until(lambda: "r0" in talk.pool.replicas)
    assert talk.backlog.turns
