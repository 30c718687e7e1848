"""A pool while Redis answers: what it asks, what it does with leases, how it leaves the shared order and returns."""

import pytest

from backlog.records import Claimed, QueueView, TicketId
from backlog.turn import Claims
from gateway.outcome import Outcome
from gateway.pool import Pool
from tests.gateway.builders import ME, OTHER, lease, line, pool, report, share, tenant, view, weight
from tests.gateway.guests import Guest, busy


class Calls:
    """Counts calls of the pool's `urgent`."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def shared(replicas: int = 1, **changes: object) -> Pool:
    return pool(replicas=replicas, connected=True, **changes)  # type: ignore[arg-type]


def claims(*leases, why: str = "empty", held: tuple[str, ...] = ()) -> Claims:  # type: ignore[no-untyped-def]
    return Claims(why=why, held=held, leases=leases)


def letter_of(one: Pool) -> tuple[list[str], list[str], list[str]]:
    """What the pool says next (enqueue, start, evict), and that it was heard."""
    letter = one.outbox.write(0.0)
    one.outbox.answered(())
    return [pending.ticket.id for pending in letter.enqueue], list(letter.start), list(letter.evict)


# Asking


def test_a_request_that_waits_is_enqueued_at_once_with_what_it_has_waited() -> None:
    calls = Calls()
    one = shared(urgent=calls, wait_bound_s=7.0)
    guest = Guest(one, arrived_at_s=3.0).wait()
    assert calls.count == 1
    (pending,) = one.outbox.write(5.0).enqueue
    assert (pending.ticket, pending.waited_s, pending.bound_s) == (guest.ticket, 2.0, 7.0)


@pytest.mark.parametrize(
    ("waits_here", "waits_elsewhere", "has_room", "claims_"),
    [
        pytest.param(False, 0, True, False, id="nobody waits"),
        pytest.param(True, 0, True, True, id="one waits here"),
        pytest.param(False, 2, True, True, id="some wait elsewhere"),
        pytest.param(True, 2, False, False, id="nothing has room"),
    ],
)
def test_leases_are_asked_for_when_somebody_waits_and_a_replica_has_room(
    waits_here: bool, waits_elsewhere: int, has_room: bool, claims_: bool
) -> None:
    calls = Calls()
    one = shared(urgent=calls)
    if not has_room:
        busy(one.replicas["r0"])
    guest = Guest(one).wait() if waits_here else None
    one.waiting_elsewhere = waits_elsewhere
    before = calls.count
    one.pump(0.0)
    assert guest is None or guest.sent_to is None
    assert (one.claim_now, calls.count > before) == (claims_, claims_)
    claim = one.claim(0.0)
    assert (claim is not None, one.claim_now) == (claims_, False)


def test_a_claim_has_the_replicas_and_the_thresholds_of_the_pool() -> None:
    one = shared(replicas=2, dispatch_prefill_s=0.05, kv_capacity_tokens=9000, max_in_flight=7)
    one.waiting_elsewhere = 1
    claim = one.claim(0.0)
    assert claim is not None
    assert [offer.replica for offer in claim.offers] == ["r0", "r1"]
    assert (claim.budget_s, claim.contested_s) == (0.05, 0.05)
    assert (claim.kv_capacity_tokens, claim.max_in_flight) == (9000, 7)


@pytest.mark.parametrize(
    ("changes", "workers", "idle"),
    [
        pytest.param({"max_in_flight": 2}, 1, True, id="alone"),
        pytest.param({"max_in_flight": 2}, 2, False, id="another worker counts the same slots"),
        pytest.param({}, 2, True, id="no slots are counted"),
        pytest.param({"max_in_flight": 2, "max_waiting": 0}, 2, True, id="nothing may wait for a lease"),
    ],
)
def test_slots_that_workers_share_are_given_by_lease_only(changes: dict[str, int], workers: int, idle: bool) -> None:
    one = shared(**changes)
    one.hear(view(*(report(worker) for worker in [ME, OTHER][:workers])), 0.0)
    assert one.idle(tenant()) is idle
    one.disconnected(0.0)
    assert one.idle(tenant())


def test_being_woken_makes_a_worker_look() -> None:
    calls = Calls()
    one = shared(urgent=calls)
    one.woken()
    assert (one.waiting_elsewhere, one.report_now, calls.count) == (1, True, 1)
    one.waiting_elsewhere = 5
    one.woken()
    assert one.waiting_elsewhere == 5


def test_who_waits_elsewhere_is_all_that_waits_less_ones_own() -> None:
    one = shared()
    for _ in range(2):
        Guest(one).wait()
    letter_of(one)
    one.hear(view(queue=QueueView(lines=(line(2), line(3, priority=5)))), 0.0)
    assert one.waiting_elsewhere == 3
    one.hear(view(queue=QueueView(lines=(line(2),))), 0.0)
    assert one.waiting_elsewhere == 0


def test_a_ticket_that_has_been_leased_waits_no_longer() -> None:
    one = shared()
    sent, mailed = Guest(one).wait(), Guest(one).wait()
    letter_of(one)
    one.granted(lease(sent.ticket.id), 0.0)
    leases = (lease(sent.ticket.id), lease(mailed.ticket.id))
    one.hear(view(queue=QueueView(lines=(line(2),), leases=leases)), 0.0)
    assert one.waiting_elsewhere == 2


# Leases


def test_a_lease_for_an_own_ticket_sends_it_without_charging_it_again() -> None:
    one = shared()
    guest = Guest(one).wait()
    assert letter_of(one) == ([guest.ticket.id], [], [])
    one.claimed(claims(lease(guest.ticket.id)), 1.0)
    assert (guest.sent_to, guest.leased, one.room.count) == ("r0", True, 0)
    letter = one.outbox.write(1.0)
    assert (letter.start, letter.evict, letter.charges) == ([guest.ticket.id], [], None)


def test_a_request_that_went_past_the_queue_is_charged() -> None:
    one = shared()
    payer = tenant("blue", weight=2.0)
    one.sent(Guest(one, weight=weight(0.05, 0.1), payer=payer), one.replicas["r0"], leased=False)  # type: ignore[arg-type]
    charges = one.outbox.write(0.0).charges
    assert charges is not None
    assert charges.tenants == {("blue", 3): (2.0, 0.05 + 0.1)}
    assert charges.replicas == {"r0": Claimed(prefill_s=0.05, kv_tokens=1100, requests=1)}


def test_a_lease_for_the_ticket_of_another_worker_is_expected_work() -> None:
    one = shared()
    one.claimed(claims(lease("other:1", owner=OTHER, prefill_s=0.2), lease("other:2", "gone", owner=OTHER)), 0.0)
    load = one.replicas["r0"].ledger.load
    assert (load.in_flight, load.prefill_s) == (1, 0.2)
    one.waiting_elsewhere = 1
    claim = one.claim(0.0)
    assert claim is not None
    assert claim.offers[0].known == Claimed(prefill_s=0.2, kv_tokens=500, requests=1)


@pytest.mark.parametrize("replica", ["r0", "gone"])
def test_a_lease_that_cannot_be_used_goes_back_and_avoids_that_replica(replica: str) -> None:
    one = shared(2)
    guest = Guest(one, failed_on=("r1",)).wait()
    letter_of(one)
    one.fleet.replicas.pop("r0")
    one.granted(lease(guest.ticket.id, replica), 0.0)
    assert (guest.sent_to, one.room.count) == (None, 1)
    (pending,) = one.outbox.write(0.0).enqueue
    assert pending.ticket.id == guest.ticket.id
    assert set(pending.ticket.avoid) == {"r1", replica}


def test_a_lease_for_a_request_that_has_left_changes_nothing() -> None:
    one = shared()
    guest = Guest(one).wait()
    letter_of(one)
    assert guest.seat is not None
    one.leave(guest.seat, 0.0)
    one.granted(lease(guest.ticket.id), 0.0)
    assert guest.sent_to is None
    assert letter_of(one) == ([], [], [guest.ticket.id])


def test_when_nothing_waits_any_more_the_idle_path_is_open_again() -> None:
    one = shared()
    one.waiting_elsewhere = 3
    one.claimed(claims(why="room"), 0.0)
    assert not one.idle(tenant())
    one.claimed(claims(why="empty"), 0.0)
    assert one.idle(tenant())


def test_after_as_many_leases_as_one_turn_may_give_more_are_asked_for() -> None:
    one = shared()
    one.claimed(claims(why="room"), 0.0)
    assert not one.claim_now
    one.claimed(claims(why="most"), 0.0)
    assert one.claim_now


def test_a_ticket_that_the_full_queue_has_no_place_for_is_refused() -> None:
    one = shared()
    guest = Guest(one).wait()
    one.turned_away(guest.ticket.id, 0.0)
    assert guest.refusal is not None
    assert guest.refusal.outcome is Outcome.BACKLOG_FULL
    one.turned_away(TicketId("nobody"), 0.0)


def test_work_in_flight_is_told_of_tenants_with_a_limit_on_it() -> None:
    one = shared()
    limited, free = tenant("a", concurrent_gpu_s=9.0), tenant("b")
    guests = [Guest(one, weight=weight(0.5, 0.5), payer=payer) for payer in (limited, limited, free)]
    for guest in guests:
        one.sent(guest, one.replicas["r0"], leased=True)  # type: ignore[arg-type]
    assert one.flying == {"a": 2.0}
    for guest in guests:
        one.landed(guest)  # type: ignore[arg-type]
    assert one.flying == {}


# Redis goes and comes back


def test_when_redis_goes_what_waits_is_sent_in_the_own_order() -> None:
    one = shared(replicas=1)
    one.hear(view(report(ME), report(OTHER, running={"r0": share(in_flight=1, prefill_s=9.0)})), 0.0)
    one.waiting_elsewhere = 4
    guest = Guest(one).wait()
    one.pump(0.0)
    assert guest.sent_to is None
    one.disconnected(1.0)
    assert (guest.sent_to, guest.leased, one.waiting_elsewhere) == ("r0", False, 0)
    assert one.outbox.known == set()


def test_when_redis_is_back_everything_that_waits_is_enqueued_again_and_nothing_else() -> None:
    one = shared()
    busy(one.replicas["r0"])
    stays, leaves = Guest(one).wait(), Guest(one).wait()
    letter_of(one)
    one.disconnected(0.0)
    assert leaves.seat is not None
    one.leave(leaves.seat, 1.0)
    comes = Guest(one, arrived_at_s=2.0).wait()
    assert letter_of(one) == ([], [], [])
    one.reconnected()
    assert letter_of(one) == ([stays.ticket.id, comes.ticket.id], [], [])


def test_what_was_sent_while_redis_was_away_is_charged_when_it_is_back() -> None:
    one = shared()
    one.disconnected(0.0)
    Guest(one, weight=weight(0.05, 0.1)).wait()
    one.pump(0.0)
    one.reconnected()
    charges = one.outbox.write(1.0).charges
    assert charges is not None
    assert charges.tenants == {("blue", 3): (1.0, 0.05 + 0.1)}
