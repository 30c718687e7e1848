"""One pool: what requests weigh, who gets them, who waits, what others say and what this worker tells."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlog.records import ReplicaState
from estimator.price import Weight
from gateway.breaker import CLOSED, failed
from gateway.openai import Endpoint, ParsedRequest, parse
from gateway.outcome import Outcome, Refusal
from gateway.pick import Pick
from gateway.pool import Pool
from gateway.replica import Replica
from tests.gateway.builders import ME, OTHER, chat, decision, pool, record, report, share, view, weight

ROUTE = ("blue", "llama", ("chat",))
READY, STARTING, DRAINING = ReplicaState.READY, ReplicaState.STARTING, ReplicaState.DRAINING


def embeddings(text: str) -> ParsedRequest:
    return parse(Endpoint.EMBEDDINGS, b'{"model":"llama","input":"%b"}' % text.encode())


def token_ids(count: int) -> ParsedRequest:
    return parse(Endpoint.COMPLETIONS, b'{"model":"llama","prompt":%b}' % str([1] * count).encode())


@dataclass(eq=False)
class Guest:
    """A request that remembers what the pool did with it."""

    pool: Pool
    name: str = ""
    weight: Weight = field(default_factory=weight)
    failed_on: frozenset[str] = frozenset()
    salt: int = 1
    sent_to: str | None = None
    refusal: Refusal | None = None
    log: list[str] = field(default_factory=list)

    def dispatch(self, replica: Replica, chosen: Pick, now_s: float) -> None:
        assert self.sent_to is None
        assert chosen.replica == replica.name
        self.sent_to = replica.name
        self.log.append(self.name)
        replica.ledger.start(self.weight, now_s=now_s, ahead_s=chosen.ahead_s, silent=False)

    def expire(self, refusal: Refusal) -> None:
        self.refusal = refusal

    def wait(self, *, arrived_at_s: float = 0.0, deadline_at_s: float = 30.0) -> "Guest":
        self.pool.room.enter(self, self.weight, arrived_at_s=arrived_at_s, deadline_at_s=deadline_at_s)  # type: ignore[arg-type]
        return self


def busy(replica: Replica, *, prefill_s: float = 1.0, **changes: Any) -> None:
    """Give `replica` so much prefill that it has no room."""
    replica.ledger.start(weight(prefill_s, 1.0, **changes), now_s=0.0, ahead_s=0.0, silent=False)


# Weighing


def test_longer_prompts_and_more_choices_weigh_more() -> None:
    one = pool()
    small, large = one.weigh(chat("x" * 100), ROUTE), one.weigh(chat("x" * 10_000), ROUTE)
    assert large.prefill_s > 10 * small.prefill_s
    single, many = one.weigh(chat("hello"), ROUTE), one.weigh(chat("hello", n=4), ROUTE)
    assert many.prefill_s == single.prefill_s
    assert 3.5 * single.decode_s < many.decode_s < 5.0 * single.decode_s


def test_a_cap_lowers_the_weight() -> None:
    one = pool()
    assert one.weigh(chat(max_tokens=10), ROUTE).decode_s < one.weigh(chat(), ROUTE).decode_s
    assert one.weigh(chat(max_tokens=10), ROUTE).kv_tokens <= one.weigh(chat(), ROUTE).input_tokens + 10


def test_embeddings_are_all_prefill() -> None:
    weighed = pool().weigh(embeddings("some words to embed"), ROUTE)
    assert weighed.decode_s == 0.0
    assert weighed.gpu_s == weighed.prefill_s > 0.0
    assert weighed.kv_tokens == weighed.input_tokens


def test_token_ids_are_counted_exactly() -> None:
    assert pool().weigh(token_ids(37), ROUTE).input_tokens == 37


def test_a_request_without_text_weighs_one_token() -> None:
    assert pool().weigh(embeddings(""), ROUTE).input_tokens == 1


def taught(one: Pool, request: ParsedRequest, input_tokens: int, output_tokens: int) -> None:
    for _ in range(40):
        one.learn(request, ROUTE, input_tokens, output_tokens)
        one.tick(0.0)


def test_reported_counts_correct_the_estimates() -> None:
    one, request = pool(), chat("x" * 4000)
    taught(one, request, 2000, 900)
    weighed = one.weigh(request, ROUTE)
    assert weighed.input_tokens == pytest.approx(2000, rel=0.05)
    # All traffic so far had 900 output tokens; the prior still counts for some.
    assert weighed.output_tokens_p50 == pytest.approx(900, rel=0.25)


def test_what_chat_teaches_says_nothing_about_embeddings() -> None:
    one = pool()
    before = one.weigh(embeddings("x" * 4000), ROUTE)
    taught(one, chat("x" * 4000), 2000, 900)
    assert one.weigh(embeddings("x" * 4000), ROUTE) == before


@pytest.mark.parametrize(
    ("request_", "input_tokens", "output_tokens"),
    [
        pytest.param(chat(n=3), 0, 3000, id="several choices say nothing about one's length"),
        pytest.param(token_ids(10), 999, 0, id="token ids say nothing about text"),
        pytest.param(chat(), 0, 0, id="zero counts say nothing"),
    ],
)
def test_is_not_learned_from(request_: ParsedRequest, input_tokens: int, output_tokens: int) -> None:
    one = pool()
    before = one.weigh(chat("some text"), ROUTE), one.weigh(request_, ROUTE)
    taught(one, request_, input_tokens, output_tokens)
    assert (one.weigh(chat("some text"), ROUTE), one.weigh(request_, ROUTE)) == before


# Choosing


@pytest.mark.parametrize(("state", "chosen"), [(READY, True), (STARTING, False), (DRAINING, False)])
def test_only_ready_replicas_are_chosen(state: ReplicaState, chosen: bool) -> None:
    one = pool(replicas=1)
    one.replicas["r0"].state = state
    assert (one.choose(weight(), 0.0, avoid=(), salt=1) is not None) is chosen


def test_an_open_breaker_keeps_requests_away_for_its_period() -> None:
    one = pool(replicas=2)
    one.replicas["r0"].breaker = failed(CLOSED, 100.0, unreachable=True)
    early = {one.choose(weight(), 100.4, avoid=(), salt=salt).replica for salt in range(20)}  # type: ignore[union-attr]
    later = {one.choose(weight(), 100.6, avoid=(), salt=salt).replica for salt in range(20)}  # type: ignore[union-attr]
    assert (early, later) == ({"r1"}, {"r0", "r1"})


def test_replicas_that_failed_this_request_are_avoided_while_others_are_usable() -> None:
    one = pool(replicas=2)
    assert {one.choose(weight(), 0.0, avoid={"r0"}, salt=salt).replica for salt in range(20)} == {"r1"}  # type: ignore[union-attr]
    busy(one.replicas["r1"])
    assert one.choose(weight(), 0.0, avoid={"r0"}, salt=1) is None
    one.replicas["r1"].state = DRAINING
    assert one.choose(weight(), 0.0, avoid={"r0"}, salt=1) is not None


# Waiting


def test_first_come_first_served_and_a_large_one_is_not_overtaken() -> None:
    one, log = pool(replicas=1, kv_capacity_tokens=10_000), list[str]()
    one.replicas["r0"].ledger.start(weight(0.0, input_tokens=5000), now_s=0.0, ahead_s=0.0, silent=False)
    large = Guest(one, "large", weight=weight(0.0, input_tokens=6000), log=log).wait()
    small = Guest(one, "small", weight=weight(0.0, input_tokens=10), log=log).wait()
    one.pump(0.0)
    assert (large.sent_to, small.sent_to, one.room.count) == (None, None, 2)
    one.replicas = pool(replicas=1).replicas
    one.pump(0.0)
    assert (log, one.room.count) == (["large", "small"], 0)


@given(st.lists(st.sampled_from([0.0, 0.1, 0.3]), min_size=1, max_size=12), st.integers(1, 3))
def test_any_queue_is_sent_in_order(prefills_s: list[float], replicas: int) -> None:
    one, log = pool(replicas=replicas), list[str]()
    guests = [Guest(one, str(n), weight=weight(prefill_s), log=log).wait() for n, prefill_s in enumerate(prefills_s)]
    for _ in range(len(guests) + 1):
        one.pump(0.0)
        assert log == [guest.name for guest in guests[: len(log)]]
        one.replicas = pool(replicas=replicas).replicas
    assert len(log) == len(guests)
    assert one.room.count == 0


def test_a_tick_evicts_what_waited_too_long_and_says_when_to_come_back() -> None:
    one = pool(replicas=1)
    busy(one.replicas["r0"], prefill_s=50.0)
    late = Guest(one).wait(deadline_at_s=10.0)
    patient = Guest(one, weight=weight(1.0, 3.0)).wait(deadline_at_s=40.0)
    one.tick(9.9)
    assert late.refusal is None
    one.tick(10.0)
    assert late.refusal is not None
    assert late.refusal.outcome is Outcome.WAIT_EXPIRED
    assert late.refusal.retry_after_s == 4.0
    assert (patient.refusal, one.room.count) == (None, 1)
    assert late.refusal.detail == (
        "pool chat: 1 requests wait for 1 ready replicas (1 answering); the estimated wait is 4.0 s"
    )


def test_one_that_is_sent_because_another_expired_does_not_expire_too() -> None:
    one = pool(replicas=1, kv_capacity_tokens=10_000)
    one.replicas["r0"].ledger.start(weight(0.0, input_tokens=5000), now_s=0.0, ahead_s=0.0, silent=False)

    class Leaving(Guest):
        def expire(self, refusal: Refusal) -> None:
            super().expire(refusal)
            self.pool.pump(10.0)

    large = Leaving(one, weight=weight(0.0, input_tokens=6000)).wait(deadline_at_s=10.0)
    small = Leaving(one, weight=weight(0.0, input_tokens=10)).wait(deadline_at_s=10.0)
    one.tick(10.0)
    assert large.refusal is not None
    assert (small.sent_to, small.refusal) == ("r0", None)


def test_a_tick_releases_silent_prefill_and_sends_what_fits_then() -> None:
    one = pool(replicas=1)
    one.replicas["r0"].ledger.start(weight(1.0), now_s=0.0, ahead_s=0.0, silent=True)
    guest = Guest(one).wait()
    one.tick(0.5)
    assert guest.sent_to is None
    one.tick(1.0)
    assert guest.sent_to == "r0"


def test_waiting_estimates_use_what_is_known() -> None:
    one = pool(cold_start_s=45.0)
    assert one.wait_s(0.0) == 45.0
    one.hear(view(report(waiting_gpu_s=6.0), replicas=(), decided=decision(cold_start_s=30.0)), ME, 0.0)
    assert one.wait_s(0.0) == 36.0
    Guest(one).wait(arrived_at_s=0.0)
    assert one.wait_s(10.0) == pytest.approx(20.0 + 6.15)
    one.hear(view(report(waiting_gpu_s=6.0), replicas=(record(state=STARTING),), decided=None), ME, 0.0)
    assert one.wait_s(0.0) == pytest.approx(45.0 + 6.15)


def test_nobody_is_told_to_come_back_later_than_in_ten_minutes() -> None:
    one = pool()
    one.hear(view(report(waiting_gpu_s=1e6)), ME, 0.0)
    assert one.full_refusal(Outcome.BACKLOG_FULL, 0.0).retry_after_s == 600.0


# Hearing


def states(one: Pool) -> dict[str, str]:
    return {name: replica.state.value for name, replica in one.replicas.items()}


def test_an_unknown_list_keeps_the_replicas_and_an_empty_one_removes_them() -> None:
    one = pool()
    one.hear(view(replicas=(record("r0"), record("r1", STARTING, port=9001))), ME, 0.0)
    assert states(one) == {"r0": "ready", "r1": "starting"}
    one.hear(view(replicas=None), ME, 0.0)
    assert states(one) == {"r0": "ready", "r1": "starting"}
    one.hear(view(replicas=()), ME, 0.0)
    assert states(one) == {}


def test_a_known_replica_keeps_its_ledger_and_a_new_address_is_a_new_replica() -> None:
    one = pool()
    one.hear(view(replicas=(record("r0"),)), ME, 0.0)
    first = one.replicas["r0"]
    one.hear(view(replicas=(record("r0", DRAINING),)), ME, 0.0)
    assert one.replicas["r0"] is first
    assert first.state is DRAINING
    one.hear(view(replicas=(record("r0", port=9999),)), ME, 0.0)
    assert one.replicas["r0"] is not first
    assert one.replicas["r0"].url == "http://127.0.0.1:9999"


def test_static_replicas_are_not_the_scalers_to_change() -> None:
    one = pool(replicas=1)
    one.hear(view(replicas=(record("other"),)), ME, 0.0)
    assert states(one) == {"r0": "ready"}


def test_the_work_of_other_workers_counts_and_ones_own_report_does_not() -> None:
    one = pool(replicas=1)
    mine = report(ME, waiting_gpu_s=9.0, running={"r0": share(in_flight=9)})
    others = [report(OTHER, waiting_gpu_s=2.0, running={"r0": share(in_flight=2, prefill_s=0.5)})]
    others.append(report(waiting_gpu_s=1.0, running={"r0": share(in_flight=1), "gone": share(in_flight=7)}))
    one.hear(view(mine, *others), ME, 0.0)
    load = one.replicas["r0"].ledger.load
    assert (load.in_flight, load.prefill_s, one.others.waiting_gpu_s) == (3, 0.5, 3.0)
    one.hear(view(mine), ME, 0.0)
    assert (load.in_flight, load.prefill_s, one.others.waiting_gpu_s) == (0, 0.0, 0.0)


def test_a_new_replica_gets_what_waits() -> None:
    one = pool()
    guest = Guest(one).wait()
    one.hear(view(replicas=(record("r0", STARTING),)), ME, 0.0)
    assert guest.sent_to is None
    one.hear(view(replicas=(record("r0"),)), ME, 0.0)
    assert guest.sent_to == "r0"


def test_work_that_another_worker_sent_makes_this_one_wait_or_look_elsewhere() -> None:
    one = pool(replicas=2)
    one.hear(view(report(running={"r0": share(prefill_s=5.0)})), ME, 0.0)
    assert {one.choose(weight(), 0.0, avoid=(), salt=salt).replica for salt in range(10)} == {"r1"}  # type: ignore[union-attr]


# Telling


def test_the_report_holds_what_waits_and_what_runs() -> None:
    one = pool(replicas=2)
    busy(one.replicas["r0"], prefill_s=0.5, input_tokens=100)
    Guest(one, weight=weight(0.05, 0.1)).wait(arrived_at_s=7.0)
    Guest(one, weight=weight(0.05, 0.1)).wait(arrived_at_s=5.0)
    one.arrive(weight(0.05, 0.1))
    one.measured(ttft_missed=True, tpot_missed=False)
    one.measured(ttft_missed=False, tpot_missed=True)
    told = one.report(ME, 3.0, epoch_s=1000.0)
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
    told = pool(replicas=2).report(ME, 3.0, epoch_s=0.0)
    assert (told.waiting, told.oldest_waiting_at_s, dict(told.running)) == (0, None, {})


def test_what_others_run_is_not_reported_as_ones_own() -> None:
    one = pool(replicas=1)
    one.hear(view(report(running={"r0": share(in_flight=3)})), ME, 0.0)
    assert dict(one.report(ME, 0.0, epoch_s=0.0).running) == {}


def test_two_workers_that_hear_each_other_agree_on_the_load() -> None:
    left, right = pool(replicas=2), pool(replicas=2)
    busy(left.replicas["r0"], prefill_s=0.5)
    busy(right.replicas["r0"], prefill_s=0.25)
    busy(right.replicas["r1"], prefill_s=0.75)
    reports = left.report(ME, 0.0, epoch_s=0.0), right.report(OTHER, 0.0, epoch_s=0.0)
    left.hear(view(*reports), ME, 1.0)
    right.hear(view(*reports), OTHER, 1.0)
    for name in ("r0", "r1"):
        seen, other = left.replicas[name].ledger.load, right.replicas[name].ledger.load
        assert (seen.in_flight, seen.kv_tokens) == (other.in_flight, other.kv_tokens)
        assert seen.prefill_s == pytest.approx(other.prefill_s)
        assert seen.remaining_gpu_s == pytest.approx(other.remaining_gpu_s)


@pytest.mark.parametrize(("prefill_s", "urgent"), [(0.1, False), (0.11, True)])
def test_much_prefill_is_published_at_once(prefill_s: float, urgent: bool) -> None:
    calls: list[None] = []
    one = Pool(pool(replicas=1).settings, urgent=lambda: calls.append(None))
    one.changed = False
    one.sent(weight(prefill_s))
    assert (bool(calls), one.changed) == (urgent, True)
