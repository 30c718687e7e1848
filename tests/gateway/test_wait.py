"""The wait estimate: what the order really takes first, time to drain it, and learning from its error."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backlog.order import Order, Queue
from backlog.records import BANDS, QueueLine, QueueView, ReplicaState, TicketId, WorkerId
from backlog.ticket import Ticket
from gateway.stats import PoolStats
from gateway.wait import (
    MEASURABLE_S,
    DrainRate,
    WaitEstimate,
    ahead_gpu_s,
    estimate,
    pending_ready_in_s,
    record_wait,
    wait_s,
)
from tests.gateway.builders import record

TENANTS = "abcde"
WEIGHTS = {"a": 1.0, "b": 3.0, "c": 0.5, "d": 2.0}
"""Of e nothing is said, so that it weighs 1."""


def line(tenant: str, gpu_s: float, tickets: int, *, priority: int = 3, finish_v: float = 0.0) -> QueueLine:
    return QueueLine(priority=priority, tenant=tenant, tickets=tickets, gpu_s=gpu_s, finish_v=finish_v)


def ahead(
    queue: QueueView,
    tenant: str = "a",
    priority: int = 3,
    order: Order = Order.FAIR,
    *,
    finish_v: float | None = None,
) -> float:
    return ahead_gpu_s(
        queue,
        order=order,
        tenant=tenant,
        tenant_weight=WEIGHTS.get(tenant, 1.0),
        weights=WEIGHTS,
        priority=priority,
        finish_v=finish_v,
    )


# Work ahead


@pytest.mark.parametrize(
    ("lines", "finish_v", "expected_gpu_s"),
    [
        pytest.param((line("a", 6.0, 6), line("b", 30.0, 30)), None, 24.5, id="by weight, and half a ticket"),
        pytest.param((line("a", 6.0, 6), line("b", 5.0, 5)), None, 11.0, id="no more than waits"),
        pytest.param((line("a", 6.0, 6), line("b", 30.0, 30, finish_v=4.0)), None, 12.5, id="from where b stands"),
        pytest.param((line("a", 6.0, 6), line("b", 30.0, 30, finish_v=6.0)), None, 6.0, id="b was given enough"),
        pytest.param((line("b", 30.0, 30, finish_v=5.0),), 7.0, 6.5, id="nothing waits of a, which was given more"),
        pytest.param((line("b", 30.0, 30, finish_v=5.0),), 5.1, 1.0, id="nothing waits of a: b's turn"),
        pytest.param((line("b", 30.0, 30, finish_v=5.0),), 4.0, 0.0, id="nothing waits of a: its turn"),
        pytest.param((line("b", 30.0, 30, finish_v=5.0),), None, 0.0, id="nothing known of a: its turn"),
        pytest.param((line("b", 30.0, 30, finish_v=-2.0),), None, 6.5, id="nothing known of a, b is owed work"),
        pytest.param((line("b", 99.0, 99, finish_v=-500.0),), None, 30.5, id="b is owed no more than the bound"),
        pytest.param(
            (line("a", 6.0, 6, finish_v=-500.0), line("b", 99.0, 99, finish_v=-8.0)),
            None,
            18.5,
            id="a is owed no more than the bound",
        ),
        pytest.param((line("a", 9.0, 3, priority=2),), None, 0.0, id="lower bands go later"),
        pytest.param((line("e", 9.0, 3, priority=7),), None, 9.0, id="higher bands go first"),
        pytest.param(
            (line("a", 4.0, 4, priority=5), line("a", 1.0, 1), line("b", 30.0, 30)), None, 8.5, id="bands are apart"
        ),
    ],
)
def test_work_ahead_in_fair_order(lines: tuple[QueueLine, ...], finish_v: float | None, expected_gpu_s: float) -> None:
    assert ahead(QueueView(lines=lines), finish_v=finish_v) == pytest.approx(expected_gpu_s)


def test_a_heavy_tenant_has_less_of_others_ahead() -> None:
    assert ahead(QueueView(lines=(line("a", 30.0, 30), line("b", 6.0, 6))), "b") == pytest.approx(6.0 + 2.5)


@pytest.mark.parametrize("order", [Order.FCFS, Order.SHORTEST])
def test_other_orders_put_all_of_the_band_and_of_higher_ones_ahead(order: Order) -> None:
    lines = (line("a", 1.0, 1), line("b", 2.0, 2), line("b", 4.0, 2, priority=4), line("e", 8.0, 1, priority=2))
    assert ahead(QueueView(lines=lines), order=order) == 7.0


_orders = st.sampled_from(Order)
_priorities = st.integers(0, 7)
_tenants = st.sampled_from(TENANTS)


@st.composite
def queue_views(draw: st.DrawFn) -> QueueView:
    places = draw(st.lists(st.tuples(_priorities, _tenants), max_size=12, unique=True))
    return QueueView(
        now_v=tuple(draw(st.lists(st.floats(0.0, 50.0), min_size=BANDS, max_size=BANDS))),
        lines=tuple(
            line(
                tenant,
                draw(st.just(0.0) | st.floats(1e-3, 60.0)),
                draw(st.integers(1, 9)),
                priority=priority,
                finish_v=draw(st.floats(0.0, 50.0)),
            )
            for priority, tenant in places
        ),
    )


@given(queue_views(), _orders, _tenants, _priorities)
def test_work_ahead_is_between_what_must_and_what_can_go_first(
    queue: QueueView, order: Order, tenant: str, priority: int
) -> None:
    must_gpu_s = sum(x.gpu_s for x in queue.lines if x.priority > priority)
    must_gpu_s += sum(x.gpu_s for x in queue.lines if x.priority == priority and x.tenant == tenant)
    can_gpu_s = sum(x.gpu_s for x in queue.lines if x.priority >= priority)
    found_gpu_s = ahead(queue, tenant, priority, order)
    assert found_gpu_s >= 0.0
    assert must_gpu_s - 1e-9 <= found_gpu_s <= can_gpu_s + 1e-9


@given(_orders, _tenants, _priorities, st.none() | st.floats(0.0, 50.0))
def test_nothing_is_ahead_in_an_empty_queue(order: Order, tenant: str, priority: int, finish_v: float | None) -> None:
    assert ahead(QueueView(), tenant, priority, order, finish_v=finish_v) == 0.0


@given(queue_views(), _orders, _tenants, _priorities, st.integers(0, 99), st.integers(1, 5))
def test_more_work_of_others_in_the_band_never_leaves_less_ahead(
    queue: QueueView, order: Order, tenant: str, priority: int, which: int, more: int
) -> None:
    assume(queue.lines)
    grown = queue.lines[which % len(queue.lines)]
    assume(grown.priority <= priority and grown.tenant != tenant)
    size_gpu_s = grown.gpu_s / grown.tickets
    larger = replace(grown, tickets=grown.tickets + more, gpu_s=grown.gpu_s + more * size_gpu_s)
    after = replace(queue, lines=tuple(larger if x is grown else x for x in queue.lines))
    assert ahead(queue, tenant, priority, order) <= ahead(after, tenant, priority, order) + 1e-9


@given(queue_views(), _orders, _tenants, _priorities, _priorities)
def test_a_higher_priority_never_has_more_ahead(
    queue: QueueView, order: Order, tenant: str, one: int, other: int
) -> None:
    low, high = sorted((one, other))
    assert ahead(queue, tenant, high, order) <= ahead(queue, tenant, low, order) + 1e-9


@dataclass
class Backlog:
    """A queue that has been running for a while; all tickets of a tenant have one size."""

    queue: Queue
    sizes_gpu_s: dict[str, float]
    added: int = 0

    def add(self, tenant: str, priority: int) -> TicketId:
        self.added += 1
        ticket = Ticket(
            id=TicketId(f"{self.added:04}"), owner=WorkerId("w"), tenant=tenant, priority=priority,
            tenant_weight=WEIGHTS.get(tenant, 1.0), gpu_s=self.sizes_gpu_s[tenant],
            prefill_s=0.0, prefill_tokens=0, kv_tokens=0,
        )  # fmt: skip
        self.queue.add(ticket, float(self.added))
        return ticket.id

    def take(self) -> Ticket:
        head = self.queue.head()
        assert head is not None
        return self.queue.take(head.id)

    def taken_before(self, ticket: TicketId) -> float:
        """GPU-seconds that go before a ticket if nothing else arrives."""
        taken_gpu_s = 0.0
        while (taken := self.take()).id != ticket:
            taken_gpu_s += taken.gpu_s
        return taken_gpu_s

    def view(self) -> QueueView:
        waiting: dict[tuple[int, str], list[float]] = {}
        for ticket in self.queue:
            waiting.setdefault((ticket.priority, ticket.tenant), []).append(ticket.gpu_s)
        lines = tuple(
            line(t, sum(sizes), len(sizes), priority=p, finish_v=self.queue.bands[p].finish_of(t))
            for (p, t), sizes in waiting.items()
        )
        return QueueView(now_v=tuple(band.now_v for band in self.queue.bands), lines=lines)


@st.composite
def backlogs(draw: st.DrawFn, order: Order | None = None) -> Backlog:
    backlog = Backlog(
        Queue(draw(_orders) if order is None else order),
        {tenant: draw(st.sampled_from([0.1, 0.5, 1.0, 2.5, 7.0])) for tenant in TENANTS},
    )
    tickets = st.tuples(_tenants, st.integers(2, 4))
    earlier = draw(st.lists(tickets, max_size=15))
    for tenant, priority in earlier:
        backlog.add(tenant, priority)
    for _ in range(draw(st.integers(0, len(earlier)))):
        backlog.take()
    for tenant, priority in draw(st.lists(tickets, max_size=40)):
        backlog.add(tenant, priority)
    return backlog


@given(backlogs(Order.FAIR), _tenants, st.integers(2, 4), st.booleans())
def test_fair_order_takes_what_is_estimated_to_a_ticket_of_each_other_tenant(
    backlog: Backlog, tenant: str, priority: int, known: bool
) -> None:
    band = [x for x in backlog.view().lines if x.priority == priority]
    finish_v = backlog.queue.bands[priority].finish_of(tenant)
    found_gpu_s = ahead(backlog.view(), tenant, priority, finish_v=finish_v if known else None)
    others = [x.tenant for x in band if x.tenant != tenant]
    bound_gpu_s = sum(backlog.sizes_gpu_s[other] for other in others)
    if not known and others and len(others) == len(band):
        lead_v = finish_v - backlog.queue.bands[priority].now_v
        bound_gpu_s += sum(lead_v * WEIGHTS.get(other, 1.0) for other in others)
    assert found_gpu_s == pytest.approx(backlog.taken_before(backlog.add(tenant, priority)), abs=bound_gpu_s + 1e-9)


@given(backlogs(Order.FCFS), _tenants, st.integers(2, 4))
def test_first_come_first_served_takes_exactly_what_is_estimated(backlog: Backlog, tenant: str, priority: int) -> None:
    found_gpu_s = ahead(backlog.view(), tenant, priority, Order.FCFS)
    assert found_gpu_s == pytest.approx(backlog.taken_before(backlog.add(tenant, priority)))


# Time


@pytest.mark.parametrize(
    ("work_gpu_s", "gpus", "ready", "pending", "rate", "expected_s"),
    [
        pytest.param(12.0, 1, 3, [], 1.0, 4.0, id="the work over the replicas"),
        pytest.param(12.0, 2, 3, [], 1.0, 2.0, id="over their GPUs"),
        pytest.param(12.0, 1, 3, [], 0.5, 8.0, id="at the rate they drain it"),
        pytest.param(0.0, 1, 1, [], 1.0, 0.0, id="nothing ahead"),
        pytest.param(30.0, 1, 1, [10.0], 1.0, 20.0, id="one that joins"),
        pytest.param(30.0, 1, 1, [40.0], 1.0, 30.0, id="one that joins too late"),
        pytest.param(30.0, 1, 0, [20.0, 10.0], 1.0, 30.0, id="two that join, in any order"),
        pytest.param(0.0, 1, 0, [20.0, 10.0], 1.0, 10.0, id="no replica yet: the first one"),
        pytest.param(0.0, 1, 0, [], 1.0, None, id="no replica in sight, nothing ahead"),
        pytest.param(5.0, 1, 0, [], 1.0, None, id="no replica in sight"),
    ],
)
def test_wait(
    work_gpu_s: float, gpus: int, ready: int, pending: list[float], rate: float, expected_s: float | None
) -> None:
    found_s = wait_s(work_gpu_s, gpus=gpus, ready=ready, pending_ready_in_s=pending, rate=rate)
    assert found_s == (None if expected_s is None else pytest.approx(expected_s))


_work = st.floats(0.0, 1e4)
_gpus = st.integers(1, 8)
_ready = st.integers(0, 9)
_pending = st.lists(st.floats(0.0, 600.0), max_size=5)
_rates = st.floats(DrainRate.LEAST, DrainRate.MOST)


def _known_wait_s(work_gpu_s: float, gpus: int, ready: int, pending: Sequence[float], rate: float) -> float:
    found_s = wait_s(work_gpu_s, gpus=gpus, ready=ready, pending_ready_in_s=pending, rate=rate)
    assert found_s is not None
    return found_s


@given(_work, _gpus, _ready, _pending, _rates, st.floats(0.0, 600.0))
def test_more_work_never_shortens_the_wait_and_more_capacity_never_lengthens_it(
    work_gpu_s: float, gpus: int, ready: int, pending: list[float], rate: float, joins_in_s: float
) -> None:
    assume(ready or pending)
    found_s = _known_wait_s(work_gpu_s, gpus, ready, pending, rate)
    slack_s = 1e-9 * (1.0 + found_s)
    assert 0.0 <= found_s <= _known_wait_s(work_gpu_s + 1.0, gpus, ready, pending, rate) + slack_s
    assert _known_wait_s(work_gpu_s, gpus, ready + 1, pending, rate) <= found_s + slack_s
    assert _known_wait_s(work_gpu_s, gpus, ready, [*pending, joins_in_s], rate) <= found_s + slack_s
    assert _known_wait_s(work_gpu_s, gpus + 1, ready, pending, rate) <= found_s + slack_s
    assert _known_wait_s(work_gpu_s, gpus, ready, [0.5 * p for p in pending], rate) <= found_s + slack_s


@given(_work, _gpus, _ready, _pending, _rates, st.floats(0.0, 1e-3))
def test_a_little_more_work_is_a_little_more_wait(
    work_gpu_s: float, gpus: int, ready: int, pending: list[float], rate: float, more_gpu_s: float
) -> None:
    assume(ready or pending)
    before_s = _known_wait_s(work_gpu_s, gpus, ready, pending, rate)
    after_s = _known_wait_s(work_gpu_s + more_gpu_s, gpus, ready, pending, rate)
    # One replica at least serves at any time after the first is ready.
    assert after_s - before_s <= more_gpu_s / (gpus * rate) + 1e-6


@given(_work, _gpus, _ready, _pending, _rates)
def test_exactly_the_work_ahead_is_drained_during_the_wait(
    work_gpu_s: float, gpus: int, ready: int, pending: list[float], rate: float
) -> None:
    assume(ready or pending)
    found_s = _known_wait_s(work_gpu_s, gpus, ready, pending, rate)
    replica_s = ready * found_s + sum(max(found_s - ready_in_s, 0.0) for ready_in_s in pending)
    assert replica_s * gpus * rate == pytest.approx(work_gpu_s, abs=1e-6)


@pytest.mark.parametrize(
    ("age_s", "cold_start_s", "expected_s"),
    [
        pytest.param(0.0, 60.0, 60.0, id="just started"),
        pytest.param(45.0, 60.0, 15.0, id="under way"),
        pytest.param(59.0, 60.0, 6.0, id="about to be ready"),
        pytest.param(500.0, 60.0, 6.0, id="late"),
        pytest.param(10.0, 2.0, 1.0, id="late after a short cold start"),
        pytest.param(-5.0, 60.0, 60.0, id="created on a clock that is ahead"),
    ],
)
def test_a_starting_replica_is_expected_a_cold_start_after_its_creation(
    age_s: float, cold_start_s: float, expected_s: float
) -> None:
    starting = replace(record(state=ReplicaState.STARTING), created_at_s=1000.0)
    assert pending_ready_in_s([starting], cold_start_s, 1000.0 + age_s) == [expected_s]


def test_only_starting_replicas_are_expected() -> None:
    records = [record("r0", ReplicaState.READY), record("r1", ReplicaState.DRAINING)]
    assert pending_ready_in_s(records, 60.0, 10.0) == []


# Replicas that serve, on virtual time


def _start_of(backlog: Backlog, new: TicketId, *, ready: int, pending: Sequence[float], speed: float) -> float:
    """When `new` is dispatched, if each replica runs one ticket at a time at `speed` GPU-seconds per second."""
    free_at_s = [*([0.0] * ready), *pending]
    heapq.heapify(free_at_s)
    while True:
        now_s = free_at_s[0]
        ticket = backlog.take()
        if ticket.id == new:
            return now_s
        heapq.heapreplace(free_at_s, now_s + ticket.gpu_s / speed)


@given(
    backlogs(Order.FCFS), _tenants, st.integers(0, 4), st.lists(st.floats(0.0, 30.0), max_size=3), st.integers(1, 4),
    _rates,
)  # fmt: skip
def test_the_estimate_is_the_wait_but_for_what_still_runs(
    backlog: Backlog, tenant: str, ready: int, pending: list[float], gpus: int, rate: float
) -> None:
    assume(ready or pending)
    work_gpu_s = ahead(backlog.view(), tenant, 2, Order.FCFS)
    new = backlog.add(tenant, 2)
    actual_s = _start_of(backlog, new, ready=ready, pending=pending, speed=gpus * rate)
    running_gpu_s = (ready + len(pending) - 1) * max(backlog.sizes_gpu_s.values())
    # All replicas have been busy until then, so what they have not finished is all the difference there is.
    assert actual_s <= _known_wait_s(work_gpu_s, gpus, ready, pending, rate) + 1e-6
    assert actual_s >= _known_wait_s(max(work_gpu_s - running_gpu_s, 0.0), gpus, ready, pending, rate) - 1e-6


def test_estimates_are_right_once_the_drain_rate_is_learned() -> None:
    drain, stats = DrainRate(), PoolStats()
    ratios = []
    for _ in range(40):
        backlog = Backlog(Queue(Order.FAIR), dict.fromkeys(TENANTS, 0.2))
        for tenant in "abe" * 40:
            backlog.add(tenant, 3)
        told = estimate(
            ahead(backlog.view(), "a"), until_room_gpu_s=0.0, gpus=2, ready=2, pending_ready_in_s=[], rate=drain.rate
        )
        assert told is not None
        actual_s = _start_of(backlog, backlog.add("a", 3), ready=2, pending=[], speed=2 * 0.4)
        record_wait(stats, drain, told, actual_s)
        ratios.append(actual_s / told.wait_s)
    assert ratios[0] == pytest.approx(2.5, rel=0.05)
    assert ratios[-1] == pytest.approx(1.0, rel=0.05)
    assert sum(stats.wait_error_ratio.counts) == 40


# Learning


@pytest.mark.parametrize("true_rate", [0.25, 0.5, 1.0, 2.0, 4.0])
def test_thirty_waits_teach_any_rate_within_the_bounds_to_ten_percent(true_rate: float) -> None:
    drain = DrainRate()
    for _ in range(30):
        drain.observe(10.0 / drain.rate, 10.0 / true_rate, rate=drain.rate)
    assert drain.rate == pytest.approx(true_rate, rel=0.1)


def test_estimates_made_long_before_do_not_make_it_overshoot() -> None:
    drain = DrainRate()
    for _ in range(200):
        drain.observe(10.0, 20.0, rate=1.0)
        assert 0.5 - 1e-9 <= drain.rate <= 1.0
    assert drain.rate == pytest.approx(0.5, rel=1e-3)


@given(st.lists(st.tuples(st.floats(0.0, 1e6), st.floats(0.0, 1e6), _rates)))
def test_one_wait_changes_the_rate_by_seven_percent_and_all_of_them_within_the_bounds(
    waits: list[tuple[float, float, float]],
) -> None:
    drain = DrainRate()
    for estimate_s, actual_s, rate in waits:
        before = drain.rate
        drain.observe(estimate_s, actual_s, rate=rate)
        assert abs(log(drain.rate / before)) <= 0.07
        assert DrainRate.LEAST <= drain.rate <= DrainRate.MOST


def test_an_odd_wait_among_right_ones_is_forgotten() -> None:
    drain = DrainRate()
    drain.observe(1.0, 500.0, rate=1.0)
    assert drain.rate < 0.95
    for _ in range(30):
        drain.observe(10.0 / drain.rate, 10.0, rate=drain.rate)
    assert drain.rate == pytest.approx(1.0, rel=0.01)


def test_a_short_estimate_teaches_nothing() -> None:
    drain = DrainRate()
    drain.observe(MEASURABLE_S / 2, 30.0, rate=1.0)
    assert drain.rate == 1.0


# The metric


@pytest.mark.parametrize(
    ("told_s", "waited_s", "dispatched", "ratio"),
    [
        pytest.param(2.0, 3.0, True, 1.5, id="longer than told"),
        pytest.param(2.0, 1.0, True, 0.5, id="shorter than told"),
        pytest.param(0.0, 3.0, True, 30.0, id="told none: counts as a tenth of a second"),
        pytest.param(2.0, 0.0, True, 0.05, id="waited none: counts as a tenth of a second"),
        pytest.param(0.01, 0.09, True, None, id="neither is worth measuring"),
        pytest.param(2.0, 30.0, False, 15.0, id="evicted after more than told"),
        pytest.param(60.0, 30.0, False, None, id="evicted before the wait was over"),
    ],
)
def test_the_error_of_an_estimate(told_s: float, waited_s: float, dispatched: bool, ratio: float | None) -> None:
    stats = PoolStats()
    record_wait(stats, DrainRate(), WaitEstimate(told_s, rate=1.0, steady=True), waited_s, dispatched=dispatched)
    assert sum(stats.wait_error_ratio.counts) == (ratio is not None)
    assert stats.wait_error_ratio.sum == pytest.approx(ratio or 0.0)
    assert stats.waits_unknown == 0


@pytest.mark.parametrize(("waited_s", "counted"), [(5.0, 1), (0.05, 0)])
def test_a_wait_without_an_estimate_is_counted_apart(waited_s: float, counted: int) -> None:
    stats, drain = PoolStats(), DrainRate()
    record_wait(stats, drain, None, waited_s)
    assert (stats.waits_unknown, sum(stats.wait_error_ratio.counts), drain.rate) == (counted, 0, 1.0)


@pytest.mark.parametrize(("pending", "learns"), [([], True), ([40.0], False)])
def test_a_cold_start_in_the_estimate_does_not_teach_the_drain_rate(pending: list[float], learns: bool) -> None:
    stats, drain = PoolStats(), DrainRate()
    told = estimate(10.0, until_room_gpu_s=0.0, gpus=1, ready=1, pending_ready_in_s=pending, rate=1.0)
    record_wait(stats, drain, told, 40.0)
    assert sum(stats.wait_error_ratio.counts) == 1
    assert (drain.rate < 1.0) is learns


@pytest.mark.parametrize(("until_room_gpu_s", "learns"), [(10.0, True), (11.0, False)])
def test_an_estimate_of_what_runs_does_not_teach_the_drain_rate(until_room_gpu_s: float, learns: bool) -> None:
    stats, drain = PoolStats(), DrainRate()
    told = estimate(10.0, until_room_gpu_s=until_room_gpu_s, gpus=1, ready=1, pending_ready_in_s=[], rate=1.0)
    assert told is not None
    assert told.wait_s == until_room_gpu_s
    record_wait(stats, drain, told, 40.0)
    assert (drain.rate < 1.0) is learns


def test_there_is_no_estimate_without_a_replica_in_sight() -> None:
    assert estimate(10.0, until_room_gpu_s=0.0, gpus=1, ready=0, pending_ready_in_s=[], rate=1.0) is None
