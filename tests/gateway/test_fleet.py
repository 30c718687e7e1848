"""A pool's replicas: which there are, what the others have on them, what a claim offers."""

from dataclasses import replace

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from backlog.records import Claimed, QueueView, ReplicaName, ReplicaState
from gateway import pick
from gateway.breaker import CLOSED, failed
from gateway.fleet import MOST_OFFERS, Fleet, share_of
from tests.gateway.builders import ME, OTHER, RULE, lease, loads, pool_settings, record, report, share, view, weight
from tests.gateway.guests import busy

READY, STARTING, DRAINING = ReplicaState.READY, ReplicaState.STARTING, ReplicaState.DRAINING


def fleet(replicas: int = 0) -> Fleet:
    settings = pool_settings(replicas=replicas)
    return Fleet(settings, worker=ME, price=settings.price())


def hear(one: Fleet, *reports, mine: frozenset[str] = frozenset(), **more) -> None:  # type: ignore[no-untyped-def]
    one.hear(view(*reports, **more), 0.0, mine=mine)


def states(one: Fleet) -> dict[str, str]:
    return {name: replica.state.value for name, replica in one.replicas.items()}


# The list


def test_an_unknown_list_keeps_the_replicas_and_an_empty_one_removes_them() -> None:
    one = fleet()
    hear(one, replicas=(record("r0"), record("r1", STARTING, port=9001)))
    assert states(one) == {"r0": "ready", "r1": "starting"}
    assert (one.ready, [starting.name for starting in one.starting]) == (1, ["r1"])
    hear(one, replicas=None)
    assert states(one) == {"r0": "ready", "r1": "starting"}
    assert [starting.name for starting in one.starting] == ["r1"]
    hear(one, replicas=())
    assert (states(one), one.ready, one.starting) == ({}, 0, ())


def test_a_known_replica_keeps_its_ledger_and_a_new_address_is_a_new_replica() -> None:
    one = fleet()
    hear(one, replicas=(record("r0"),))
    first = one.replicas["r0"]
    hear(one, replicas=(record("r0", DRAINING),))
    assert one.replicas["r0"] is first
    assert first.state is DRAINING
    hear(one, replicas=(record("r0", port=9999),))
    assert one.replicas["r0"] is not first
    assert one.replicas["r0"].url == "http://127.0.0.1:9999"


def test_static_replicas_are_not_the_scalers_to_change() -> None:
    one = fleet(1)
    hear(one, replicas=(record("other"),))
    assert states(one) == {"r0": "ready"}


def test_an_address_that_cannot_be_one_is_said_once_and_the_rest_is_used() -> None:
    one, bad = fleet(), record("bad", port=9001)
    bad = type(bad)(name=bad.name, url="nowhere", state=READY, created_at_s=0.0)
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            hear(one, replicas=(bad, record("r0")))
    assert states(one) == {"r0": "ready"}
    assert [(log["event"], log["log_level"]) for log in logs] == [("replica record is unusable", "warning")]
    hear(one, replicas=(record("bad", port=9001),))
    assert states(one) == {"bad": "ready"}


# The others' work


def test_the_work_of_other_workers_counts_and_ones_own_report_does_not() -> None:
    one = fleet(1)
    others = [
        report(OTHER, running={"r0": share(in_flight=2, prefill_s=0.5)}),
        report(running={"r0": share(in_flight=1), "gone": share(in_flight=7)}),
    ]
    hear(one, report(ME, running={"r0": share(in_flight=9)}), *others)
    load = one.replicas["r0"].ledger.load
    assert (load.in_flight, load.prefill_s) == (3, 0.5)
    hear(one, report(ME, running={"r0": share(in_flight=9)}))
    assert (load.in_flight, load.prefill_s) == (0, 0.0)


@pytest.mark.parametrize(
    ("owner", "waits", "in_flight"),
    [
        pytest.param(OTHER, False, 1, id="of another worker: in no report yet"),
        pytest.param(ME, True, 1, id="of this worker, in the mail"),
        pytest.param(ME, False, 0, id="of this worker, sent: in its ledger"),
    ],
)
def test_leases_count_once(owner: str, waits: bool, in_flight: int) -> None:
    one = fleet(1)
    given_ = lease("t", owner=owner, prefill_s=0.2, kv_tokens=300)  # type: ignore[arg-type]
    hear(one, mine=frozenset({"t"} if waits else ()), queue=QueueView(leases=(given_,)))
    load = one.replicas["r0"].ledger.load
    assert (load.in_flight, load.prefill_s, load.kv_tokens) == (in_flight, 0.2 * in_flight, 300 * in_flight)


def test_a_lease_is_added_to_what_its_owner_runs_already() -> None:
    one, on_its_way = fleet(1), lease("t", owner=OTHER)
    hear(one, report(running={"r0": share(in_flight=2, prefill_s=0.5)}), queue=QueueView(leases=(on_its_way,)))
    assert one.replicas["r0"].ledger.load.in_flight == 2 + share_of(on_its_way).in_flight == 3


def test_while_redis_is_away_the_others_are_forgotten_and_ones_own_work_is_not() -> None:
    one = fleet(1)
    busy(one.replicas["r0"], prefill_s=0.5)
    hear(one, report(running={"r0": share(in_flight=4, prefill_s=2.0)}))
    one.forget_others(1.0)
    load = one.replicas["r0"].ledger.load
    assert (load.in_flight, load.prefill_s) == (1, 0.5)


# Room and offers


def test_only_ready_replicas_whose_breaker_is_closed_are_usable() -> None:
    one = fleet(4)
    one.replicas["r0"].state = STARTING
    one.replicas["r1"].state = DRAINING
    one.replicas["r2"].breaker = failed(CLOSED, 100.0, unreachable=True)
    assert [load.name for load in one.usable(100.1)] == ["r3"]
    assert [offer.replica for offer in one.offers(RULE, 100.1)] == ["r3"]
    assert one.ready == 2


@pytest.mark.parametrize(
    ("prefill_s", "kv_tokens", "room"),
    [
        pytest.param(0.25, 0, True, id="prefill at its bound"),
        pytest.param(0.26, 0, False, id="prefill beyond it"),
        pytest.param(0.0, 99_999, True, id="a little KV is free"),
        pytest.param(0.0, 100_000, False, id="no KV is free"),
    ],
)
def test_a_replica_has_room_for_something(prefill_s: float, kv_tokens: int, room: bool) -> None:
    one = fleet(1)
    hear(one, report(running={"r0": share(prefill_s=prefill_s, kv_tokens=kv_tokens)}))
    assert one.has_room(RULE, 0.0) is room


def test_without_replicas_there_is_no_room_and_an_empty_one_has_it() -> None:
    assert not fleet().has_room(RULE, 0.0)
    assert fleet(1).has_room(RULE, 0.0)


def test_the_replica_that_has_room_first_counts_of_those_that_can_be_used() -> None:
    one = fleet(3)
    running = {f"r{n}": share(kv_tokens=100_000, remaining_gpu_s=gpu_s) for n, gpu_s in enumerate((1.0, 2.0, 4.0))}
    hear(one, report(running=running))
    one.replicas["r0"].breaker = failed(CLOSED, 100.0, unreachable=True)
    assert one.until_room_gpu_s(50_000, RULE, 100.1) == 1.0
    one.replicas["r1"].state = one.replicas["r2"].state = DRAINING
    assert one.until_room_gpu_s(50_000, RULE, 100.1) is None


@given(st.floats(0.0, 2.0), st.integers(1, 60), st.integers(0, 80_000), st.floats(0.0, 1.0), st.floats(0.0, 3.0))
def test_an_offer_is_the_line_of_the_pick_score(
    prefill_s: float, in_flight: int, kv_tokens: int, own_prefill_s: float, later_s: float
) -> None:
    one, request = fleet(1), weight(own_prefill_s, input_tokens=100)
    hear(one, report(running={"r0": share(in_flight=in_flight, prefill_s=prefill_s, kv_tokens=kv_tokens)}))
    (offer,) = one.offers(RULE, later_s)
    made = pick.score(one.replicas["r0"].ledger.load, request, RULE, later_s)
    line_s = offer.fixed_s + offer.in_flight * pick.crowd_s(request, RULE)
    assert made.score_s == pytest.approx(line_s + request.prefill_s)
    assert (offer.ahead_s, offer.kv_tokens) == (made.ahead_s, kv_tokens)


def test_of_more_replicas_than_a_claim_offers_those_with_a_free_slot_come_first() -> None:
    one = fleet(MOST_OFFERS + 1)
    full = {f"r{number}": share(in_flight=1) for number in range(MOST_OFFERS)}
    hear(one, report(running={**full, f"r{MOST_OFFERS}": share(in_flight=0, prefill_s=9.0)}))
    assert f"r{MOST_OFFERS}" not in {offer.replica for offer in one.offers(RULE, 0.0)}
    offered = one.offers(replace(RULE, max_in_flight=1), 0.0)
    assert (len(offered), offered[0].replica) == (MOST_OFFERS, f"r{MOST_OFFERS}")


def test_an_offer_says_what_it_contains_of_all_that_was_claimed() -> None:
    one = fleet(2)
    hear(one, queue=QueueView(claimed={ReplicaName("r0"): Claimed(prefill_s=5.0, kv_tokens=700, requests=2)}))
    one.claimed("r0", Claimed(prefill_s=0.5, kv_tokens=30, requests=1))
    one.claimed("r1", Claimed(prefill_s=0.25, kv_tokens=10, requests=1))
    known = [offer.known for offer in one.offers(RULE, 0.0)]
    assert known == [
        Claimed(prefill_s=5.5, kv_tokens=730, requests=3),
        Claimed(prefill_s=0.25, kv_tokens=10, requests=1),
    ]
    seen = Claimed(prefill_s=6.0, kv_tokens=800, requests=4)
    hear(one, queue=QueueView(claimed={ReplicaName("r0"): seen}))
    assert [offer.known for offer in one.offers(RULE, 0.0)] == [seen, Claimed()]


def test_a_claim_offers_the_least_busy_of_many_replicas() -> None:
    one = fleet(MOST_OFFERS + 6)
    for n in range(0, 60, 10):
        busy(one.replicas[f"r{n}"])
    offered = {offer.replica for offer in one.offers(RULE, 0.0)}
    assert offered == {replica for replica in one.replicas if not one.replicas[replica].ledger.load.in_flight}


@given(st.lists(loads, max_size=6))
def test_there_is_room_if_and_only_if_a_small_request_would_be_placed(found: list[pick.Load]) -> None:
    one = fleet(len(found))
    for replica, load in zip(one.replicas.values(), found, strict=True):
        replica.ledger.load = load
    small = weight(0.0, 0.0, input_tokens=1, kv_tokens=1)
    assert one.has_room(RULE, 100.0) is (pick.pick(found, small, RULE, 100.0) is not None)
