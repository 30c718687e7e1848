"""A worker's snapshot is a copy, has no impossible values, and survives the way to the supervisor."""

import msgspec

from backlog.records import ReplicaState
from estimator.accelerator import ACCELERATORS
from estimator.engine import Engine
from gateway.auth import Keys
from gateway.breaker import CLOSED, failed
from gateway.context import Context
from gateway.outcome import Outcome
from gateway.settings import Limits
from gateway.snapshot import HISTOGRAMS, PriceOrigin, WorkerState, pool_state, worker_state
from tests.gateway.builders import POOL, pool, weight
from tests.gateway.guests import Guest

NOW_S = 50.0


def test_a_pool_shows_its_counts_its_backlog_and_its_replicas() -> None:
    one = pool(replicas=2)
    one.stats.count("llama", "served")
    one.stats.bill("blue", "decode", 0.5)
    one.stats.ttft_s.observe(0.2)
    one.stats.wait_error_ratio.observe(1.3)
    one.stats.waits_unknown = 2
    Guest(one, arrived_at_s=48.0, weight=weight(0.05, 0.1)).wait()
    one.replicas["r0"].ledger.start(weight(0.5, 1.0), now_s=NOW_S, ahead_s=0.0, silent=False)
    one.replicas["r1"].breaker = failed(CLOSED, NOW_S, unreachable=True)
    state = pool_state(one, NOW_S)
    assert state.outcomes == [("llama", "served", 1)]
    assert state.used_gpu_s == [("blue", "decode", 0.5)]
    assert sum(state.histograms["ttft_s"].counts) == 1
    assert (sum(state.histograms["wait_error_ratio"].counts), state.waits_unknown) == (1, 2)
    assert (state.waiting, state.oldest_waiting_age_s) == (1, 2.0)
    first, second = state.replicas
    assert (first.name, first.state, first.answering, first.in_flight) == ("r0", "ready", True, 1)
    assert (first.prefill_s, first.remaining_gpu_s) == (0.5, 1.5)
    assert (second.name, second.state, second.answering, second.in_flight) == ("r1", "ready", False, 0)


def test_a_pool_says_where_its_prices_are_from() -> None:
    one = pool(engine=Engine.SGLANG, accelerator=ACCELERATORS["MI300X"])
    assert pool_state(one, NOW_S).price == PriceOrigin(source="learned", fit="pooled", engine="sglang")


def test_a_draining_replica_is_shown_and_does_not_answer_for_new_work() -> None:
    one = pool(replicas=1)
    one.replicas["r0"].state = ReplicaState.DRAINING
    shown = pool_state(one, NOW_S).replicas[0]
    assert (shown.state, shown.answering) == ("draining", False)


def test_an_idle_pool_has_no_oldest_request() -> None:
    assert pool_state(pool(), NOW_S).oldest_waiting_age_s is None


def test_every_histogram_is_shown() -> None:
    assert set(pool_state(pool(), NOW_S).histograms) == set(HISTOGRAMS)


def test_work_that_rounding_left_below_nothing_is_nothing() -> None:
    one = pool(replicas=1)
    load = one.replicas["r0"].ledger.load
    load.prefill_s = load.remaining_gpu_s = one.room.gpu_s = -1e-15
    state = pool_state(one, NOW_S)
    assert (state.waiting_gpu_s, state.replicas[0].prefill_s, state.replicas[0].remaining_gpu_s) == (0.0, 0.0, 0.0)


def test_a_snapshot_is_a_copy() -> None:
    one = pool()
    before = pool_state(one, NOW_S)
    one.stats.count("llama", "served")
    one.stats.ttft_s.observe(0.1)
    assert before.outcomes == []
    assert sum(before.histograms["ttft_s"].counts) == 0


def test_a_worker_survives_the_way_to_its_supervisor() -> None:
    one = pool(replicas=1)
    one.stats.count("llama", "served")
    context = Context(pools=[one], keys=Keys([]), limits=Limits(), clock=lambda: NOW_S, started_at_s=1.0)
    context.refused(Outcome.UNAUTHORIZED)
    state = worker_state(context, worker="host-1-0", number=0, backlog_age_s=None, backlog_error="gone")
    assert msgspec.json.decode(msgspec.json.encode(state), type=WorkerState) == state
    assert (state.connections, state.backlog_age_s, state.backlog_error) == (0, None, "gone")
    assert set(state.pools) == {POOL}
    assert state.refusals == {"unauthorized": 1}
