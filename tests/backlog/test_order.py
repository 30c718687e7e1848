from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlog.order import LEAD_S, PATIENCE, Order, Queue, key_s
from backlog.records import BANDS, TicketId, WorkerId
from backlog.ticket import DEFAULT_PRIORITY, Ticket


def ticket(
    name: str, tenant: str = "a", gpu_s: float = 1.0, *, weight: float = 1.0, priority: int = 3, first: bool = False
) -> Ticket:
    return Ticket(
        id=TicketId(name),
        owner=WorkerId("w"),
        tenant=tenant,
        priority=priority,
        tenant_weight=weight,
        gpu_s=gpu_s,
        prefill_s=gpu_s / 2,
        prefill_tokens=100,
        kv_tokens=100,
        first=first,
    )


def queue_of(*tickets: Ticket, order: Order = Order.FAIR) -> Queue:
    """Ticket i has arrived at i ms, so arrival decides only between equal weights."""
    queue = Queue(order)
    for index, one in enumerate(tickets):
        queue.add(one, index / 1000)
    return queue


def serve(queue: Queue, most: int | None = None) -> list[Ticket]:
    """Take heads until nothing waits, or `most` of them."""
    taken: list[Ticket] = []
    while (most is None or len(taken) < most) and (head := queue.head()) is not None:
        taken.append(queue.take(head.id))
    return taken


def names(tickets: list[Ticket]) -> str:
    return " ".join(one.id for one in tickets)


def given_gpu_s(tickets: list[Ticket]) -> Counter[str]:
    given: Counter[str] = Counter()
    for one in tickets:
        given[one.tenant] += one.gpu_s
    return given


# Bands


def test_the_highest_band_goes_first_whatever_the_tenants_have_been_given() -> None:
    queue = queue_of(
        ticket("low", priority=0), ticket("top", priority=BANDS - 1, gpu_s=9.0), ticket("mid", "b", priority=5)
    )
    queue.charge("a", 1.0, 100.0, BANDS - 1)
    assert names(serve(queue)) == "top mid low"


def test_tenants_of_a_low_band_share_by_gpu_seconds_while_a_high_band_is_busy() -> None:
    queue = Queue()
    for index in range(300):
        queue.add(ticket(f"h{index}", "high", priority=6), 0.0)
        queue.add(ticket(f"s{index}", "small", 0.1, priority=1), 0.0)
        queue.add(ticket(f"l{index}", "large", 1.0, priority=1), 0.0)
    low = []
    for index in range(110):
        for _ in range(2):
            queue.take(TicketId(f"h{2 * index + _}"))
        lowest = queue.head(skip={"high"})
        assert lowest is not None
        low.append(queue.take(lowest.id))
    given = given_gpu_s(low)
    assert given["small"] == pytest.approx(given["large"], abs=1.0)


def test_a_tenant_that_comes_late_to_a_low_band_is_not_behind_by_what_a_high_band_was_given() -> None:
    queue = queue_of(*(ticket(f"h{index}", "high", priority=6) for index in range(50)), ticket("b", "b"))
    serve(queue, 50)
    queue.add(ticket("c1", "c", 0.5), 1.0)
    queue.add(ticket("c2", "c", 0.5), 1.0)
    assert names(serve(queue)) == "b c1 c2"


# Tenants


def test_tenants_of_weights_one_and_three_take_turns_a_b_b_b() -> None:
    waiting = [ticket(f"a{index}", "a") for index in range(2)]
    waiting += [ticket(f"b{index}", "b", weight=3.0) for index in range(6)]
    assert "".join(one.tenant for one in serve(queue_of(*waiting))) == "abbbabbb"


sizes = st.lists(st.floats(0.001, 50.0), min_size=1, max_size=25)
weights = st.floats(0.1, 10.0)


@given(a=sizes, b=sizes, weight_a=weights, weight_b=weights, order_in=st.randoms(use_true_random=False))
def test_backlogged_tenants_differ_by_at_most_one_largest_ticket_over_its_weight(
    a: list[float], b: list[float], weight_a: float, weight_b: float, order_in: object
) -> None:
    waiting = [ticket(f"a{index:02}", "a", gpu_s, weight=weight_a) for index, gpu_s in enumerate(a)]
    waiting += [ticket(f"b{index:02}", "b", gpu_s, weight=weight_b) for index, gpu_s in enumerate(b)]
    order_in.shuffle(waiting)  # type: ignore[attr-defined]
    queue = queue_of(*waiting)
    bound = max(max(a) / weight_a, max(b) / weight_b)
    left = Counter(one.tenant for one in waiting)
    given = {"a": 0.0, "b": 0.0}
    while left["a"] and left["b"]:
        (taken,) = serve(queue, 1)
        left[taken.tenant] -= 1
        given[taken.tenant] += taken.gpu_s / taken.tenant_weight
        assert abs(given["a"] - given["b"]) <= bound * (1 + 1e-9)


@given(idle_gpu_s=st.floats(0.01, 1000.0))
def test_a_tenant_that_was_idle_gets_no_credit_for_it(idle_gpu_s: float) -> None:
    queue = queue_of(*(ticket(f"a{index:02}", "a", idle_gpu_s / 20) for index in range(20)))
    serve(queue)
    for index in range(20):
        queue.add(ticket(f"a{index:02}", "a"), 1.0)
        queue.add(ticket(f"b{index:02}", "b"), 1.0)
    given = given_gpu_s(serve(queue, 20))
    # Only the last of a's earlier tickets had not passed when b came.
    assert given["b"] - given["a"] <= idle_gpu_s / 20 + 1.0


def test_a_tenant_that_begins_to_wait_starts_at_virtual_time() -> None:
    queue = queue_of(*(ticket(f"a{index}", "a") for index in range(9)))
    serve(queue, 5)
    queue.add(ticket("b", "b"), 1.0)
    assert queue.bands[3].now_v == 4.0
    assert queue.bands[3].finish_v == {"a": 5.0, "b": 4.0}


@pytest.mark.parametrize("order", list(Order))
def test_ties_are_decided_by_names(order: Order) -> None:
    queue = Queue(order)
    for name, tenant in (("2", "b"), ("1", "b"), ("4", "a"), ("3", "a")):
        queue.add(ticket(name, tenant), 5.0)
    assert names(serve(queue)) == {Order.FAIR: "3 1 4 2"}.get(order, "3 4 1 2")


def test_tenants_that_are_skipped_wait_and_the_others_go() -> None:
    queue = queue_of(ticket("a", "a", priority=5), ticket("b", "b"), ticket("c", "c", priority=1))
    assert (queue.head() or 0) == ticket("a", "a", priority=5)
    assert (queue.head({"a"}) or 0) == ticket("b", "b")
    assert (queue.head({"a", "b"}) or 0) == ticket("c", "c", priority=1)
    assert queue.head({"a", "b", "c"}) is None


def test_a_tenant_that_was_held_by_its_own_limit_is_owed_a_bounded_amount() -> None:
    queue = Queue()
    for index in range(200):
        queue.add(ticket(f"a{index:03}", "a"), 0.0)
        queue.add(ticket(f"b{index:03}", "b"), 0.0)
    for _ in range(100):
        other = queue.head({"a"})
        assert other is not None
        queue.take(other.id)
    given = given_gpu_s(serve(queue, 40))
    assert given["a"] - given["b"] == pytest.approx(LEAD_S, abs=2.0)


# Inside a tenant


@given(st.lists(st.tuples(st.floats(0.0, 60.0), st.floats(0.0, 10.0)), min_size=1, max_size=20))
def test_a_ticket_is_overtaken_only_by_what_arrives_within_ten_times_its_own_weight(
    tickets: list[tuple[float, float]],
) -> None:
    queue = Queue()
    arrived = {}
    for index, (at_s, gpu_s) in enumerate(tickets):
        queue.add(ticket(f"{index:02}", "a", gpu_s), at_s)
        arrived[TicketId(f"{index:02}")] = at_s
    gone: list[Ticket] = serve(queue)
    for place, one in enumerate(gone):
        for earlier in gone[:place]:
            assert arrived[earlier.id] <= arrived[one.id] + PATIENCE * one.gpu_s + 1e-9


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        pytest.param(Order.FCFS, "long-a short-b short-a", id="fcfs goes by arrival alone"),
        pytest.param(Order.SHORTEST, "short-b short-a long-a", id="shortest goes by arrival and weight"),
        pytest.param(Order.FAIR, "short-a short-b long-a", id="fair lets tenants take turns, shorter work first"),
    ],
)
def test_each_order_has_its_own_head(order: Order, expected: str) -> None:
    queue = Queue(order)
    queue.add(ticket("long-a", "a", 2.0), 0.0)
    queue.add(ticket("short-b", "b", 0.2), 1.0)
    queue.add(ticket("short-a", "a", 0.1), 3.0)
    assert names(serve(queue)) == expected


@pytest.mark.parametrize("order", list(Order))
def test_a_ticket_that_was_sent_before_goes_ahead_of_its_tenant(order: Order) -> None:
    queue = queue_of(ticket("a"), ticket("b", gpu_s=50.0, first=True), order=order)
    assert names(serve(queue)) == "b a"


def test_a_short_ticket_yields_nothing_to_a_longer_one_that_came_ten_seconds_per_gpu_second_later() -> None:
    assert key_s(Order.FAIR, ticket("a", gpu_s=1.0), 0.0) == key_s(Order.FAIR, ticket("b", gpu_s=0.0), 10.0)
    assert key_s(Order.FCFS, ticket("a", gpu_s=1.0), 2.0) == 2.0


# Past the wait bound


def test_a_ticket_past_its_bound_goes_to_the_head_of_its_tenant() -> None:
    queue = queue_of(ticket("a0", gpu_s=0.1), ticket("a1"), ticket("a2", gpu_s=9.0), ticket("a3", gpu_s=8.0))
    queue.promote(TicketId("a3"))
    queue.promote(TicketId("a2"))
    assert names(serve(queue)) == "a2 a3 a0 a1"


def test_a_ticket_past_its_bound_competes_in_the_highest_band_where_anyone_waits() -> None:
    queue = queue_of(
        *(ticket(f"b{index}", "b", priority=5) for index in range(3)),
        ticket("low", "a", priority=1),
        ticket("later", "a", priority=1),
    )
    queue.promote(TicketId("low"))
    assert queue.band_of(TicketId("low")) == 5
    assert queue.band_of(TicketId("later")) == 1
    assert queue.contested(5)
    assert names(serve(queue)) == "low b0 b1 b2 later"


def test_tickets_past_their_bound_do_not_overtake_other_tenants() -> None:
    queue = queue_of(*(ticket(f"f{index:02}", "flood") for index in range(40)))
    serve(queue, 10)
    for index in range(10, 40):
        queue.promote(TicketId(f"f{index:02}"))
    for index in range(10):
        queue.add(ticket(f"n{index}", "neighbour"), 1.0)
    given = given_gpu_s(serve(queue, 20))
    assert given["neighbour"] == 10.0


def test_a_low_band_does_not_starve_past_its_bound_and_still_gets_no_more_than_its_turns() -> None:
    queue = Queue()
    for index in range(50):
        queue.add(ticket(f"h{index:02}", "high", priority=6), 0.0)
        queue.add(ticket(f"l{index:02}", "low", priority=0), 0.0)
    assert given_gpu_s(serve(queue, 10)) == {"high": 10.0}
    for index in range(50):
        queue.promote(TicketId(f"l{index:02}"))
    assert given_gpu_s(serve(queue, 20)) == {"high": 10.0, "low": 10.0}


def test_the_last_tickets_are_served_when_all_of_them_are_past_their_bound() -> None:
    queue = queue_of(ticket("a", "a", priority=0), ticket("b", "b", priority=2))
    queue.promote(TicketId("a"))
    queue.promote(TicketId("b"))
    assert queue.band_of(TicketId("a")) == 2
    assert queue.head({"b"}) == ticket("a", "a", priority=0)
    assert names(serve(queue)) == "a b"


def test_a_ticket_past_its_bound_is_charged_in_the_band_where_it_won_when_all_above_are_at_a_limit() -> None:
    held = {"high"}
    queue = queue_of(
        ticket("h", "high", priority=6), ticket("m", "other", priority=4), ticket("l", "low", 5.0, priority=1)
    )
    queue.promote(TicketId("l"))
    assert queue.head(held) == ticket("l", "low", 5.0, priority=1)
    assert queue.band_of(TicketId("l"), held) == 4
    queue.take(TicketId("l"), held)
    assert queue.bands[4].finish_of("low") == 5.0
    assert queue.bands[6].finish_of("low") == 0.0
    queue.promote(TicketId("h"))
    assert queue.band_of(TicketId("h"), {"high", "other"}) == 6, "nobody competes, so it stays where it waits"


@pytest.mark.parametrize("order", [Order.FCFS, Order.SHORTEST])
def test_without_fairness_a_ticket_past_its_bound_goes_first_of_all(order: Order) -> None:
    queue = queue_of(ticket("a", "a", 0.1, priority=5), ticket("b", "b", 9.0, priority=2), order=order)
    queue.promote(TicketId("b"))
    assert names(serve(queue)) == "b a"


def test_a_second_promotion_changes_nothing_and_an_unknown_ticket_has_none() -> None:
    queue = queue_of(ticket("a0"), ticket("a1"))
    queue.promote(TicketId("a1"))
    queue.promote(TicketId("a1"))
    assert names(serve(queue)) == "a1 a0"
    with pytest.raises(KeyError):
        queue.promote(TicketId("a1"))


# Entering and leaving


def test_a_ticket_that_is_added_again_is_replaced() -> None:
    queue = queue_of(ticket("x", "a"), ticket("y", "a"), ticket("x", "b", 2.0, priority=6))
    assert len(queue) == 2
    assert list(queue) == [ticket("y", "a"), ticket("x", "b", 2.0, priority=6)]
    assert names(serve(queue)) == "x y"


def test_a_ticket_is_removed_once_and_uncharged() -> None:
    queue = queue_of(ticket("x"), ticket("y"))
    queue.promote(TicketId("x"))
    assert queue.remove(TicketId("x"))
    assert not queue.remove(TicketId("x"))
    assert TicketId("x") not in queue
    assert TicketId("y") in queue
    assert queue.bands[3].finish_v == {"a": 0.0}
    assert queue.remove(TicketId("y"))
    assert queue.head() is None
    assert len(queue) == 0


def test_tenants_compete_only_in_one_band_and_only_where_they_take_turns() -> None:
    waiting = (ticket("a", "a"), ticket("b", "b"), ticket("c", "c", priority=4))
    assert [queue_of(*waiting).contested(band) for band in (3, 4, 5)] == [True, False, False]
    assert not queue_of(*waiting, order=Order.SHORTEST).contested(3)


# Work outside the queue, and corrections


def test_work_outside_the_queue_makes_a_tenant_wait_its_turn() -> None:
    queue = queue_of(ticket("a", "a"), *(ticket(f"b{index}", "b") for index in range(5)))
    queue.charge("a", 2.0, 7.0)
    assert names(serve(queue)) == "b0 b1 b2 b3 a b4"


@given(st.lists(st.floats(0.0, 1e6), max_size=10))
def test_work_outside_the_queue_puts_a_tenant_ahead_by_a_bounded_amount(charges: list[float]) -> None:
    queue = queue_of(ticket("x", "x"))
    for gpu_s in charges:
        queue.charge("a", 1.0, gpu_s)
    assert queue.bands[3].finish_of("a") <= queue.bands[3].now_v + LEAD_S
    serve(queue)
    for gpu_s in charges:
        queue.charge("a", 1.0, gpu_s)
    assert queue.bands[3].finish_of("a") <= queue.bands[3].now_v + LEAD_S


def test_a_correction_does_not_forgive_what_the_tenants_own_ticket_took_it_ahead_by() -> None:
    queue = queue_of(ticket("a", "a", 5 * LEAD_S), ticket("b", "b"))
    serve(queue, 1)
    queue.charge("a", 1.0, 0.5)
    assert queue.bands[3].finish_v["a"] == 5 * LEAD_S
    queue.charge("a", 1.0, -0.5)
    assert queue.bands[3].finish_v["a"] == 5 * LEAD_S - 0.5


def test_a_refund_gives_a_waiting_tenant_its_turns_back_though_virtual_time_has_passed() -> None:
    queue = Queue()
    for index in range(60):
        queue.add(ticket(f"a{index:02}", "a"), 0.0)
        queue.add(ticket(f"b{index:02}", "b"), 0.0)
    serve(queue, 40)
    queue.charge("a", 1.0, -6.0)
    assert given_gpu_s(serve(queue, 20)) == {"a": 13.0, "b": 7.0}


def test_a_refund_is_gone_when_its_tenant_stops_waiting() -> None:
    queue = queue_of(ticket("a", "a"), *(ticket(f"b{index}", "b") for index in range(9)))
    serve(queue, 4)
    queue.charge("a", 1.0, -6.0)
    queue.add(ticket("a2", "a"), 1.0)
    assert queue.bands[3].finish_v["a"] == queue.bands[3].now_v


@given(refund=st.floats(0.0, 1e6))
def test_a_refund_brings_a_tenant_forward_by_a_bounded_amount(refund: float) -> None:
    queue = Queue()
    for index in range(60):
        queue.add(ticket(f"a{index:02}", "a"), 0.0)
        queue.add(ticket(f"b{index:02}", "b"), 0.0)
    serve(queue, 40)
    queue.charge("a", 1.0, -refund)
    given = given_gpu_s(serve(queue, 30))
    assert given["a"] - given["b"] <= LEAD_S + 2.0


@pytest.mark.parametrize("ratio", [0.1, 10.0])
def test_tenants_whose_prices_are_wrong_are_given_their_share_by_corrections(ratio: float) -> None:
    queue = Queue()
    for index in range(900):
        queue.add(ticket(f"a{index:03}", "a", 0.1), 0.0)
        queue.add(ticket(f"b{index:03}", "b", 0.1 * ratio), 0.0)
    used: Counter[str] = Counter()
    running: list[Ticket] = []
    for turn in range(1100):
        (taken,) = serve(queue, 1)
        # What is charged wrongly for the first ones is made good over the turns that follow.
        used[taken.tenant] += 0.1 if turn > 500 else 0.0
        running.append(taken)
        if len(running) > 20:
            ended = running.pop(0)
            queue.charge(ended.tenant, 1.0, 0.1 - ended.gpu_s)
    assert used["b"] / used["a"] == pytest.approx(1.0, abs=0.1)


def test_virtual_time_follows_work_while_nobody_waits() -> None:
    queue = Queue()
    queue.charge("a", 1.0, 100.0)
    assert queue.bands[DEFAULT_PRIORITY].now_v == 90.0
    queue.add(ticket("b", "b"), 0.0)
    assert queue.bands[DEFAULT_PRIORITY].finish_v == {"a": 100.0, "b": 90.0}


# Everything at once, against an implementation that sorts all tickets each time


class Naive:
    """The same order by the definition: no lines, no state but the tags."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.waiting: dict[str, tuple[Ticket, float, bool]] = {}
        self.now: dict[int, float] = defaultdict(float)
        self.finish: dict[tuple[int, str], float] = defaultdict(float)

    def tenants(self, band: int) -> set[str]:
        return {one.tenant for one, _, _ in self.waiting.values() if one.priority == band}

    def start(self, band: int, tenant: str) -> float:
        owed = LEAD_S if tenant in self.tenants(band) else 0.0
        return max(self.finish[band, tenant], self.now[band] - owed)

    def add(self, one: Ticket, at_s: float) -> None:
        self.waiting.pop(one.id, None)
        if one.tenant not in self.tenants(one.priority):
            self.finish[one.priority, one.tenant] = self.start(one.priority, one.tenant)
        self.waiting[one.id] = (one, at_s, False)

    def order_of(self, skip: frozenset[str]) -> list[Ticket]:
        eligible = [entry for entry in self.waiting.values() if entry[0].tenant not in skip]
        if not eligible:
            return []
        top = max(one.priority for one, _, _ in eligible)

        def key(entry: tuple[Ticket, float, bool]) -> tuple[float, str, float, str]:
            one, at_s, overdue = entry
            own = at_s - 1e9 if overdue else key_s(self.order, one, at_s)
            turn = self.start(top, one.tenant) if self.order is Order.FAIR else own
            return turn, one.tenant, own, one.id

        competing = [entry for entry in eligible if entry[2] or entry[0].priority == top]
        overdue = {entry[0].tenant for entry in competing if entry[2]}
        competing = [entry for entry in competing if entry[2] or entry[0].tenant not in overdue]
        return [one for one, _, _ in sorted(competing, key=key)]

    def take(self, name: str, skip: frozenset[str] = frozenset()) -> None:
        one, _, overdue = self.waiting[name]
        others = [other.priority for other, _, _ in self.waiting.values() if other.tenant not in skip]
        band = max(others) if overdue else one.priority
        start = self.start(band, one.tenant)
        del self.waiting[name]
        self.now[band] = max(self.now[band], start)
        self.finish[band, one.tenant] = start + one.gpu_s / one.tenant_weight

    def charge(self, tenant: str, weight: float, gpu_s: float, band: int) -> None:
        finish = self.start(band, tenant) if gpu_s > 0 else self.finish[band, tenant]
        charged = finish + gpu_s / weight
        if self.tenants(band):
            charged = min(charged, max(finish, self.now[band] + LEAD_S))
        else:
            self.now[band] = max(self.now[band], charged - LEAD_S)
        self.finish[band, tenant] = charged


tenant_names = st.sampled_from("abc")
ticket_names = st.sampled_from([f"t{index}" for index in range(12)])
bands = st.sampled_from([0, 3, BANDS - 1])
amounts = st.sampled_from([0.0, 0.25, 1.0, 4.0, 30.0])
skips = st.frozensets(tenant_names, max_size=2)
actions = st.one_of(
    st.tuples(st.just("add"), ticket_names, tenant_names, bands, amounts, st.integers(0, 100), st.booleans()),
    st.tuples(st.just("remove"), ticket_names),
    st.tuples(st.just("promote"), st.integers(0, 11)),
    st.tuples(st.just("take"), skips),
    st.tuples(st.just("take any"), st.integers(0, 11)),
    st.tuples(st.just("charge"), tenant_names, bands, amounts, st.sampled_from([-1, 1])),
)
WEIGHT_OF = {"a": 1.0, "b": 2.0, "c": 0.5}


@given(order=st.sampled_from(Order), history=st.lists(actions, max_size=40), skip=skips)
@settings(max_examples=300, deadline=None)
def test_every_history_gives_what_sorting_everything_gives(
    order: Order, history: list[tuple[object, ...]], skip: frozenset[str]
) -> None:
    queue, naive = Queue(order), Naive(order)
    for kind, *rest in history:
        before = [band.now_v for band in queue.bands]
        if kind == "add":
            name, tenant, band, gpu_s, at_s, first = rest
            one = ticket(str(name), str(tenant), gpu_s, priority=band, first=first)  # type: ignore[arg-type]
            one = replace(one, tenant_weight=WEIGHT_OF[one.tenant])
            queue.add(one, float(at_s))  # type: ignore[arg-type]
            naive.add(one, float(at_s))  # type: ignore[arg-type]
        elif kind == "remove":
            assert queue.remove(TicketId(str(rest[0]))) == (naive.waiting.pop(str(rest[0]), None) is not None)
        elif kind == "charge":
            tenant, band, gpu_s, sign = rest
            charge = (str(tenant), WEIGHT_OF[str(tenant)], gpu_s * sign, band)  # type: ignore[operator]
            queue.charge(*charge)  # type: ignore[arg-type]
            naive.charge(*charge)  # type: ignore[arg-type]
        elif kind == "take":
            head = queue.head(rest[0])  # type: ignore[arg-type]
            if head is not None:
                assert head == naive.order_of(rest[0])[0]  # type: ignore[arg-type]
                assert queue.take(head.id, rest[0]) == head  # type: ignore[arg-type]
                naive.take(head.id, rest[0])  # type: ignore[arg-type]
        elif naive.waiting:
            name = sorted(naive.waiting)[rest[0] % len(naive.waiting)]  # type: ignore[operator]
            if kind == "promote":
                queue.promote(TicketId(name))
                naive.waiting[name] = (*naive.waiting[name][:2], True)
            else:
                assert queue.take(TicketId(name)) == naive.waiting[name][0]
                naive.take(name)
        assert all(band.now_v >= old for band, old in zip(queue.bands, before, strict=True))
        expected = naive.order_of(skip)
        heads = [queue.head(skip) for _ in range(2)]
        assert heads == [expected[0] if expected else None] * 2, "looking at the head changes nothing"
        assert {one.id for one in queue} == set(naive.waiting)
        assert len(queue) == len(naive.waiting)
        for number, band in enumerate(queue.bands):
            assert band.now_v == naive.now[number]
            assert queue.contested(number) == (order is Order.FAIR and len(_competing(naive, number)) > 1)
            assert not [line for line in band.lines.values() if not line]


def _competing(naive: Naive, band: int) -> set[str]:
    overdue = {one.tenant for one, _, overdue in naive.waiting.values() if overdue}
    return naive.tenants(band) | overdue
