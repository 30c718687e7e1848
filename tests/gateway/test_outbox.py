"""The outbox against a Redis that remembers, over any history of answers and losses; and its letters one by one."""

from collections import defaultdict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from backlog.records import Claimed, TicketId
from backlog.ticket import Ticket
from gateway.outbox import Letter, Outbox
from tests.gateway.builders import ticket

AMOUNTS = st.integers(-40, 40)


class OutboxAgainstRedis(RuleBasedStateMachine):
    """Requests wait, leave and are sent while letters are answered, lost on the way there, or on the way back.

    Charges are whole numbers, so that their sums are exact.
    """

    waiting = Bundle("waiting")

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox()
        self.here: dict[TicketId, Ticket] = {}
        """What waits in the worker."""
        self.redis: set[TicketId] = set()
        """What waits in Redis."""
        self.charged: dict[tuple[str, int], float] = defaultdict(float)
        self.burdened: dict[str, Claimed] = defaultdict(Claimed)
        self.booked: dict[tuple[str, int], float] = defaultdict(float)
        self.given: dict[str, Claimed] = defaultdict(Claimed)
        self.told: dict[str, Claimed] = defaultdict(Claimed)
        """Of `given`, what `answered` said."""
        self.numbers: list[int] = []
        self.batches: dict[int, object] = {}
        self.letter: Letter | None = None
        self.created = 0

    # The worker

    @rule(target=waiting)
    def enqueue(self) -> TicketId:
        self.created += 1
        one = ticket(f"me:{self.created}")
        self.here[one.id] = one
        self.outbox.enqueue(one, 0.0, 15.0)
        return one.id

    @rule(name=consumes(waiting))
    def withdraw(self, name: TicketId) -> None:
        if self.here.pop(name, None) is not None:
            self.outbox.withdraw(name)

    @rule(name=consumes(waiting))
    def started(self, name: TicketId) -> None:
        # A lease comes for what Redis has, and by then the worker may have heard nothing of its letter.
        if name in self.redis and name in self.here:
            del self.here[name]
            self.outbox.started(name)

    @rule(name=waiting)
    def enqueue_again(self, name: TicketId) -> None:
        if name in self.here:
            self.outbox.enqueue(self.here[name], 0.0, 15.0)

    @rule(tenant=st.sampled_from("ab"), priority=st.integers(0, 1), gpu_s=AMOUNTS)
    def sent(self, tenant: str, priority: int, gpu_s: float) -> None:
        self.charged[tenant, priority] += gpu_s
        self.outbox.sent(tenant, priority, 1.0, gpu_s)

    @rule(replica=st.sampled_from(["r0", "r1"]), prefill_s=AMOUNTS, kv_tokens=AMOUNTS)
    def burden(self, replica: str, prefill_s: float, kv_tokens: int) -> None:
        self.burdened[replica] += Claimed(prefill_s=prefill_s, kv_tokens=kv_tokens, requests=1)
        self.outbox.burdened(replica, prefill_s, kv_tokens)

    # The letters

    @rule()
    def write(self) -> None:
        if self.letter is not None:
            return
        letter = self.letter = self.outbox.write(0.0)
        assert len({pending.ticket.id for pending in letter.enqueue}) == len(letter.enqueue)
        if letter.charges is not None:
            batch = (dict(letter.charges.tenants), dict(letter.charges.replicas))
            # The same number is always the same batch, and a new one is the next.
            assert self.batches.setdefault(letter.charges.number, batch) == batch
            assert letter.charges.number == max(self.batches)
            assert sorted(self.batches) == list(range(1, len(self.batches) + 1))
        assert not self.outbox.urgent

    @rule()
    def arrives(self) -> None:
        """The part of an exchange that Redis sees. The answer may still be lost, and the letter may come twice."""
        if self.letter is None:
            return
        self.redis -= {*self.letter.start, *self.letter.evict}
        self.redis |= {pending.ticket.id for pending in self.letter.enqueue}
        charges = self.letter.charges
        if charges is not None and charges.number not in self.numbers:
            self.numbers.append(charges.number)
            for payer, (_, gpu_s) in charges.tenants.items():
                self.booked[payer] += gpu_s
            for replica, sent in charges.replicas.items():
                self.given[replica] += sent

    @rule()
    def answered(self) -> None:
        if self.letter is None:
            return
        self.arrives()
        for replica, sent in self.outbox.answered(()).items():
            self.told[replica] += sent
        self.letter = None

    @rule()
    def lost(self) -> None:
        """What follows a loss: the worker is forgotten there, and begins anew."""
        if self.letter is None:
            return
        self.outbox.lost()
        self.outbox.reset()
        self.letter = None
        self.redis.clear()
        for one in self.here.values():
            self.outbox.enqueue(one, 0.0, 15.0)

    # What always holds

    @invariant()
    def numbers_grow(self) -> None:
        assert self.numbers == sorted(set(self.numbers))

    @rule()
    def after_one_more_turn_redis_has_what_waits_and_every_charge_once(self) -> None:
        if self.letter is not None:
            self.answered()
        self.write()
        self.answered()
        assert self.redis == self.here.keys() == self.outbox.known
        # One more batch: what was charged while another one was under way.
        self.write()
        self.answered()
        assert _some(self.booked) == _some(self.charged)
        assert _some(self.given) == _some(self.burdened) == _some(self.told)
        assert self.outbox.empty

    def teardown(self) -> None:
        self.after_one_more_turn_redis_has_what_waits_and_every_charge_once()


def _some(sums: dict) -> dict:  # type: ignore[type-arg]
    return {key: value for key, value in sums.items() if value not in (0, Claimed())}


TestOutboxAgainstRedis = OutboxAgainstRedis.TestCase
TestOutboxAgainstRedis.settings = settings(max_examples=60, stateful_step_count=40)


def test_a_letter_says_how_long_each_ticket_has_waited() -> None:
    outbox = Outbox()
    outbox.enqueue(ticket("a"), 3.0, 15.0)
    outbox.enqueue(ticket("b"), 9.0, 7.0)
    told = [(one.ticket.id, one.waited_s, one.bound_s) for one in outbox.write(8.0).enqueue]
    assert told == [("a", 5.0, 15.0), ("b", 0.0, 7.0)]


def test_what_left_before_it_was_told_is_not_told_at_all() -> None:
    outbox = Outbox()
    outbox.enqueue(ticket("a"), 0.0, 15.0)
    outbox.withdraw(TicketId("a"))
    assert outbox.empty
    assert outbox.write(0.0) == Letter()


@pytest.mark.parametrize("heard", [False, True], ids=["its letter is under way", "its letter was answered"])
def test_what_was_told_and_leaves_is_evicted(heard: bool) -> None:
    outbox = Outbox()
    outbox.enqueue(ticket("a"), 0.0, 15.0)
    outbox.write(0.0)
    if heard:
        outbox.answered(())
    outbox.withdraw(TicketId("a"))
    assert outbox.urgent
    if not heard:
        outbox.answered(())
    assert outbox.write(0.0).evict == ["a"]
    outbox.answered(())
    assert outbox.known == set()


def test_a_known_ticket_that_is_enqueued_again_and_leaves_is_evicted() -> None:
    outbox = Outbox()
    outbox.enqueue(ticket("a"), 0.0, 15.0)
    outbox.write(0.0)
    outbox.answered(())
    outbox.enqueue(ticket("a"), 0.0, 15.0)
    outbox.withdraw(TicketId("a"))
    letter = outbox.write(0.0)
    assert (letter.enqueue, letter.evict) == ([], ["a"])


def test_a_lease_ends_with_a_report_that_has_its_work() -> None:
    outbox = Outbox()
    outbox.enqueue(ticket("a"), 0.0, 15.0)
    outbox.write(0.0)
    outbox.answered(())
    outbox.started(TicketId("a"))
    assert outbox.write(0.0, report=False).start == []
    outbox.answered(())
    assert outbox.known == {"a"}
    assert outbox.write(0.0, report=True).start == ["a"]
    outbox.answered(())
    assert outbox.known == set()


def test_a_lost_batch_is_repeated_with_its_number_and_what_was_charged_since_is_the_next() -> None:
    outbox = Outbox()
    outbox.sent("a", 3, 2.0, 1.0)
    first = outbox.write(0.0).charges
    outbox.lost()
    outbox.sent("a", 3, 2.0, 5.0)
    outbox.reset()
    assert outbox.write(0.0).charges == first
    outbox.answered(())
    second = outbox.write(0.0).charges
    assert first is not None
    assert second is not None
    assert (first.number, first.tenants) == (1, {("a", 3): (2.0, 1.0)})
    assert (second.number, second.tenants) == (2, {("a", 3): (2.0, 5.0)})
    outbox.answered(())
    assert outbox.write(0.0).charges is None


def test_charges_alone_are_not_urgent() -> None:
    outbox = Outbox()
    outbox.sent("a", 3, 1.0, 1.0)
    assert not outbox.urgent
    assert not outbox.empty


def test_a_ticket_that_was_turned_away_or_dropped_is_not_known() -> None:
    outbox = Outbox()
    for name in "abc":
        outbox.enqueue(ticket(name), 0.0, 15.0)
    assert outbox.enqueuing_gpu_s == 3.0
    outbox.write(0.0)
    assert outbox.enqueuing_gpu_s == 0.0
    outbox.answered((TicketId("b"),))
    outbox.gone(TicketId("c"))
    assert outbox.known == {"a"}


def test_a_ticket_that_is_enqueued_again_while_its_letter_is_under_way_and_leaves_is_evicted() -> None:
    outbox = Outbox()
    outbox.enqueue(ticket("a"), 0.0, 15.0)
    outbox.write(0.0)
    outbox.enqueue(ticket("a"), 0.0, 15.0)
    outbox.withdraw(TicketId("a"))
    outbox.answered(())
    letter = outbox.write(0.0)
    assert (letter.enqueue, letter.evict) == ([], ["a"])
