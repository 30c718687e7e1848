"""One pool: who gets a replica, who waits, what is asked of the shared queue and what this worker tells."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlog.order import Order, Queue
from backlog.records import QueueView, ReplicaState
from backlog.turn import Claims
from gateway import pick
from gateway.breaker import CLOSED, failed
from gateway.outcome import Outcome, Refusal
from gateway.pool import URGENT_PREFILL_S, Pool
from tests.gateway.builders import (
    ME,
    OTHER,
    decision,
    line,
    pool,
    record,
    report,
    share,
    tenant,
    view,
    weight,
)
from tests.gateway.guests import Guest, busy

READY, STARTING, DRAINING = ReplicaState.READY, ReplicaState.STARTING, ReplicaState.DRAINING


def choices(one: Pool, now_s: float = 0.0, **more: object) -> set[str | None]:
    made = [one.choose(weight(), now_s, avoid=more.get("avoid", ()), salt=salt) for salt in range(20)]  # type: ignore[arg-type]
    return {None if choice is None else choice.replica for choice in made}


# Choosing


@pytest.mark.parametrize(("state", "chosen"), [(READY, True), (STARTING, False), (DRAINING, False)])
def test_only_ready_replicas_are_chosen(state: ReplicaState, chosen: bool) -> None:
    one = pool(replicas=1)
    one.replicas["r0"].state = state
    assert choices(one) == {"r0" if chosen else None}


def test_an_open_breaker_keeps_requests_away_for_its_period() -> None:
    one = pool(replicas=2)
    one.replicas["r0"].breaker = failed(CLOSED, 100.0, unreachable=True)
    assert (choices(one, 100.4), choices(one, 100.6)) == ({"r1"}, {"r0", "r1"})


def test_replicas_that_failed_this_request_are_avoided_while_others_are_usable() -> None:
    one = pool(replicas=2)
    assert choices(one, avoid={"r0"}) == {"r1"}
    busy(one.replicas["r1"])
    assert choices(one, avoid={"r0"}) == {None}
    one.replicas["r1"].state = DRAINING
    assert choices(one, avoid={"r0"}) == {"r0"}


def test_work_that_another_worker_sent_makes_this_one_wait_or_look_elsewhere() -> None:
    one = pool(replicas=2, connected=True)
    one.hear(view(report(running={"r0": share(prefill_s=5.0)})), 0.0)
    assert choices(one) == {"r1"}


@pytest.mark.parametrize(("connected", "chosen"), [(True, "r0"), (False, None)])
def test_alone_a_worker_keeps_to_its_share_of_every_replica(connected: bool, chosen: str | None) -> None:
    one = pool(replicas=1, connected=connected)
    one.hear(view(report(ME), report(OTHER)), 0.0)
    busy(one.replicas["r0"], prefill_s=0.2)
    assert choices(one) == {chosen}


# Admission


def test_only_where_nobody_waits_may_a_request_go_past_the_queue() -> None:
    one = pool(connected=True)
    assert one.idle(tenant())
    one.waiting_elsewhere = 1
    assert not one.idle(tenant())
    one.waiting_elsewhere = 0
    Guest(one).wait()
    assert not one.idle(tenant())


@pytest.mark.parametrize(
    ("limits", "idle"),
    [({"concurrent_gpu_s": 9.0}, False), ({"prefill_pace": 9.0}, False), ({"gpu_s_per_day": 9.0}, True)],
)
def test_a_limit_that_the_order_enforces_is_looked_at_in_the_queue(limits: dict[str, float], idle: bool) -> None:
    assert pool(connected=True).idle(tenant(**limits)) is idle


@pytest.mark.parametrize(("connected", "most"), [(False, 3), (True, 6)])
def test_a_full_pool(connected: bool, most: int) -> None:
    one = pool(max_waiting=3, connected=connected)
    for count in range(most):
        assert not one.full, count
        Guest(one).wait()
    assert one.full


def test_a_ticket_says_what_the_order_and_the_dispatch_depend_on() -> None:
    one = pool(connected=True)
    payer = tenant("blue", weight=3.0, concurrent_gpu_s=8.0, prefill_pace=2.0)
    weighed = weight(0.5, 2.0, input_tokens=900, cached_tokens=300)
    waiting = Guest(one, weight=weighed, payer=payer, priority=5, failed_on={"r1", "r0"}).wait(first=True).ticket
    assert (waiting.owner, waiting.tenant, waiting.tenant_weight, waiting.priority) == (ME, "blue", 3.0, 5)
    assert (waiting.first, waiting.avoid) == (True, ("r0", "r1"))
    assert (waiting.prefill_s, waiting.prefill_tokens, waiting.kv_tokens) == (0.5, 600, 1300)
    assert (waiting.gpu_s, waiting.crowd_s) == (2.5, pick.crowd_s(weighed, one.rule))
    assert (waiting.concurrent_gpu_s, waiting.prefill_pace) == (8.0, 2.0)
    assert Guest(one).wait().ticket.id != waiting.id


# Alone


def test_alone_a_pool_serves_first_come_first_served_and_a_large_one_is_not_overtaken() -> None:
    one, log = pool(replicas=1, kv_capacity_tokens=10_000, order=Order.FCFS), list[str]()
    one.replicas["r0"].ledger.start(weight(0.0, input_tokens=5000), now_s=0.0, ahead_s=0.0, silent=False)
    large = Guest(one, "large", weight=weight(0.0, input_tokens=6000), log=log).wait()
    small = Guest(one, "small", weight=weight(0.0, input_tokens=10), arrived_at_s=1.0, log=log).wait()
    one.pump(1.0)
    assert (large.sent_to, small.sent_to, one.room.count) == (None, None, 2)
    one.fleet.replicas = pool(replicas=1).replicas
    one.pump(1.0)
    assert (log, one.room.count) == (["large", "small"], 0)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.1, 0.3]), st.sampled_from("abc"), st.integers(0, 7)), min_size=1, max_size=12
    ),
    st.integers(1, 3),
    st.sampled_from(Order),
)
def test_alone_any_pool_is_served_in_the_order_of_the_queue(
    waiting: list[tuple[float, str, int]], replicas: int, order: Order
) -> None:
    one, log, model = pool(replicas=replicas, order=order), list[str](), Queue(order)
    for n, (prefill_s, payer, priority) in enumerate(waiting):
        guest = Guest(one, str(n), weight(prefill_s), tenant(payer), priority, arrived_at_s=float(n), log=log).wait()
        model.add(guest.ticket, guest.arrived_at_s)
    expected = []
    while (head := model.head()) is not None:
        expected.append(str(int(head.id.rpartition(":")[2]) - 1))
        model.take(head.id)
    for _ in range(len(waiting)):
        one.pump(20.0)
        assert log == expected[: len(log)]
        one.fleet.replicas = pool(replicas=replicas).replicas
    assert log == expected
    assert one.room.count == 0


def test_alone_a_tenant_at_its_limit_waits_and_the_others_do_not() -> None:
    one = pool(replicas=1)
    payer = tenant("a", concurrent_gpu_s=0.2)
    first, second = (Guest(one, weight=weight(0.0, 0.15), payer=payer).wait() for _ in range(2))
    other = Guest(one, weight=weight(0.0, 9.0), payer=tenant("b")).wait()
    one.pump(0.0)
    assert (first.sent_to, second.sent_to, other.sent_to) == ("r0", None, "r0")
    assert first.leased is False
    one.landed(first)  # type: ignore[arg-type]
    one.pump(0.0)
    assert second.sent_to == "r0"


def test_a_new_replica_gets_what_waits_at_the_next_tick() -> None:
    one = pool()
    guest = Guest(one).wait()
    one.hear(view(replicas=(record("r0", STARTING),)), 0.0)
    one.tick(0.0)
    assert guest.sent_to is None
    one.hear(view(replicas=(record("r0"),)), 0.0)
    one.tick(0.0)
    assert guest.sent_to == "r0"


def test_a_tick_releases_silent_prefill_and_sends_what_fits_then() -> None:
    one = pool(replicas=1)
    one.replicas["r0"].ledger.start(weight(1.0), now_s=0.0, ahead_s=0.0, silent=True)
    guest = Guest(one).wait()
    one.tick(0.5)
    assert guest.sent_to is None
    one.tick(1.0)
    assert guest.sent_to == "r0"


# Giving up


def test_a_tick_evicts_what_waited_too_long_and_says_when_to_come_back() -> None:
    one = pool(replicas=1, max_wait_s=10.0)
    busy(one.replicas["r0"], prefill_s=50.0)
    late = Guest(one).wait()
    patient = Guest(one, weight=weight(1.0, 3.0), arrived_at_s=9.0).wait()
    one.tick(9.9)
    assert late.refusal is None
    one.tick(10.0)
    assert late.refusal is not None
    assert late.refusal.outcome is Outcome.WAIT_EXPIRED
    assert late.refusal.retry_after_s == 39.75
    assert (patient.refusal, one.room.count) == (None, 1)
    assert late.refusal.detail == (
        "pool chat: 1 requests wait for 1 ready replicas (1 answering); the estimated wait is 39.8 s"
    )


def test_without_a_replica_a_request_is_held_through_a_cold_start() -> None:
    one = pool(max_wait_s=10.0, cold_start_s=40.0)
    guest = Guest(one).wait()
    one.tick(49.9)
    assert guest.refusal is None
    one.tick(50.0)
    assert guest.refusal is not None


class Leaving(Guest):
    """Its end makes the pool look for work, as that of every exchange does."""

    def expire(self, refusal: Refusal) -> None:
        super().expire(refusal)
        self.pool.pump(10.0)


@pytest.mark.parametrize("drains", [False, True], ids=["both are late", "all are turned away"])
def test_one_that_is_sent_because_another_left_does_not_expire_too(drains: bool) -> None:
    one = pool(replicas=1, kv_capacity_tokens=10_000, max_wait_s=10.0, order=Order.FCFS)
    one.replicas["r0"].ledger.start(weight(0.0, input_tokens=5000), now_s=0.0, ahead_s=0.0, silent=False)
    large = Leaving(one, weight=weight(0.0, input_tokens=6000)).wait()
    small = Leaving(one, weight=weight(0.0, input_tokens=10)).wait()
    if drains:
        one.turn_away(Refusal(Outcome.DRAINING, "the gateway stops"), 10.0)
    else:
        one.tick(10.0)
    assert large.refusal is not None
    assert (small.sent_to, small.refusal) == ("r0", None)


def test_whoever_waited_for_a_limit_of_its_own_is_told_so() -> None:
    one = pool(replicas=1, max_wait_s=10.0, connected=True)
    busy(one.replicas["r0"], prefill_s=50.0)
    held, other = Guest(one, payer=tenant("blue")).wait(), Guest(one, payer=tenant("red")).wait()
    one.claimed(Claims(why="held", held=("blue",), leases=()), 1.0)
    one.tick(10.0)
    assert held.refusal is not None
    assert other.refusal is not None
    assert (held.refusal.outcome, other.refusal.outcome) == (Outcome.RATE_LIMITED, Outcome.WAIT_EXPIRED)
    assert held.refusal.detail == "tenant blue is at its limit of work in flight or of prefill pace in pool chat"


def test_when_all_are_turned_away_nobody_waits() -> None:
    one = pool(connected=True)
    guests = [Guest(one).wait() for _ in range(3)]
    one.turn_away(Refusal(Outcome.DRAINING, "the gateway stops"), 1.0)
    assert [guest.refusal.outcome for guest in guests if guest.refusal] == [Outcome.DRAINING] * 3
    assert one.room.count == 0


def test_waiting_estimates_use_what_is_known() -> None:
    one = pool(cold_start_s=45.0, connected=True)
    assert one.wait_s(0.0) == 45.0
    six = QueueView(lines=(line(gpu_s=6.0),))
    one.hear(view(replicas=(), decided=decision(cold_start_s=30.0), queue=six), 0.0)
    assert one.wait_s(0.0) == 30.0
    one.hear(view(replicas=(record(),), decided=None, queue=six), 0.0)
    assert one.wait_s(0.0) == 6.0
    Guest(one, weight=weight(1.0, 3.0)).wait()
    assert one.wait_s(0.0) == 10.0


@pytest.mark.parametrize(
    ("connected", "told_s"), [pytest.param(True, 1.0, id="shared"), pytest.param(False, 8.5, id="its half")]
)
def test_where_nobody_waits_and_all_replicas_are_full_the_wait_is_until_one_has_room(
    connected: bool, told_s: float
) -> None:
    one = pool(replicas=2, connected=True)
    one.hear(view(report(ME), report(OTHER)), 0.0)
    one.connected = connected
    busy(one.replicas["r0"], prefill_s=50.0)
    one.replicas["r1"].ledger.start(weight(0.0, 10.0, kv_tokens=100_000), now_s=0.0, ahead_s=0.0, silent=False)
    guest = Guest(one, weight=weight(kv_tokens=10_000 if connected else 35_000)).wait()
    assert guest.seat is not None
    assert guest.seat.told is not None
    assert guest.seat.told.wait_s == pytest.approx(told_s)


def test_where_no_ready_replica_answers_the_wait_is_unknown() -> None:
    one = pool(replicas=1, connected=True)
    one.replicas["r0"].breaker = failed(CLOSED, 0.0, unreachable=True)
    assert one.estimate(None, 0.1) is None


def test_nobody_is_told_to_come_back_later_than_in_ten_minutes() -> None:
    one = pool(replicas=1, connected=True)
    one.hear(view(queue=QueueView(lines=(line(gpu_s=1e6),))), 0.0)
    assert one.full_refusal(Outcome.BACKLOG_FULL, 0.0).retry_after_s == 600.0


# Telling


def test_the_report_holds_what_waits_and_what_runs() -> None:
    one = pool(replicas=2)
    busy(one.replicas["r0"], prefill_s=0.5, input_tokens=100)
    Guest(one, weight=weight(0.05, 0.1), arrived_at_s=7.0).wait()
    Guest(one, weight=weight(0.05, 0.1), arrived_at_s=5.0).wait()
    one.arrive(weight(0.05, 0.1))
    one.measured(ttft_missed=True, tpot_missed=False)
    one.measured(ttft_missed=False, tpot_missed=True)
    told = one.report(3.0, epoch_s=1000.0)
    assert (told.worker, told.started_at_s, told.waiting, told.oldest_waiting_at_s) == (ME, 3.0, 2, 1005.0)
    assert told.waiting_gpu_s == pytest.approx(0.3)
    assert told.waiting_prefill_s == pytest.approx(0.1)
    assert told.waiting_kv_tokens == 2 * 1100
    assert (told.arrived, told.arrived_gpu_s) == (1, pytest.approx(0.15))
    assert (told.settled, told.ttft_misses, told.tpot_misses) == (2, 1, 1)
    assert dict(told.running) == {
        "r0": share(in_flight=1, prefill_s=0.5, prefill_tokens=100, kv_tokens=500, remaining_gpu_s=1.5)
    }


def test_an_idle_report_is_empty() -> None:
    told = pool(replicas=2).report(3.0, epoch_s=0.0)
    assert (told.waiting, told.oldest_waiting_at_s, dict(told.running)) == (0, None, {})


def test_what_others_run_is_not_reported_as_ones_own() -> None:
    one = pool(replicas=1)
    one.hear(view(report(running={"r0": share(in_flight=3)})), 0.0)
    assert dict(one.report(0.0, epoch_s=0.0).running) == {}


def test_two_workers_that_hear_each_other_agree_on_the_load() -> None:
    left, right = pool(replicas=2), pool(replicas=2, worker=OTHER)
    busy(left.replicas["r0"], prefill_s=0.5)
    busy(right.replicas["r0"], prefill_s=0.25)
    busy(right.replicas["r1"], prefill_s=0.75)
    reports = left.report(0.0, epoch_s=0.0), right.report(0.0, epoch_s=0.0)
    left.hear(view(*reports), 1.0)
    right.hear(view(*reports), 1.0)
    for name in ("r0", "r1"):
        seen, other = left.replicas[name].ledger.load, right.replicas[name].ledger.load
        assert (seen.in_flight, seen.kv_tokens) == (other.in_flight, other.kv_tokens)
        assert seen.prefill_s == pytest.approx(other.prefill_s)
        assert seen.remaining_gpu_s == pytest.approx(other.remaining_gpu_s)


@pytest.mark.parametrize(("more_s", "urgent"), [(0.0, False), (0.01, True)])
def test_much_prefill_is_published_at_once(more_s: float, urgent: bool) -> None:
    calls: list[None] = []
    one = pool(replicas=1, urgent=lambda: calls.append(None), connected=True)
    one.changed = False
    one.sent(Guest(one, weight=weight(URGENT_PREFILL_S + more_s)), one.replicas["r0"], leased=True)  # type: ignore[arg-type]
    assert (bool(calls), one.report_now, one.changed) == (urgent, urgent, True)
