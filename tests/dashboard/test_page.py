"""From records to what the page shows: unknown stays unknown, and everything ages."""

from dataclasses import replace
from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlog.account import Usage, UsageKey, UsageRow
from backlog.records import (
    DecisionRecord,
    PoolName,
    PoolView,
    QueueLine,
    QueueView,
    ReplicaName,
    ReplicaRecord,
    ReplicaState,
    SeenReport,
    WorkerReport,
)
from dashboard.page import MOST_DECISIONS, Booked, Everything, Look, PageValues, PoolValues, page_from
from tests.backlog import samples
from tests.dashboard.builders import POOL, facts

DAY = date(2026, 11, 24)
STARTING, READY, DRAINING = ReplicaState.STARTING, ReplicaState.READY, ReplicaState.DRAINING


def seen(*reports: WorkerReport, age_s: float = 0.25, **changes: Any) -> PoolView:
    values: dict[str, Any] = {"replicas": None, "decision": None}
    found = tuple(SeenReport(report=report, age_s=age_s) for report in reports)
    return PoolView(pool=POOL, read_at_s=1000.0, reports=found, **(values | changes))


def shown(view: PoolView | None, *, since_s: float = 0.0, booked: Booked = Booked(), **changes: Any) -> PoolValues:  # noqa: B008
    """The pool's part, `since_s` after the view was read."""
    look_changes = {name: changes.pop(name) for name in ("decisions", "error") if name in changes}
    look = Look(view=view, view_at_s=500.0, **look_changes)
    (pool,) = page_from([facts(**changes)], Everything(looks={POOL: look}, booked=booked), 500.0 + since_s).pools
    return pool


def decided(desired: int, *, at_s: float = 990.0, headline: str = "load", cold_start_s: float | None = 40.0) -> Any:
    record = samples.decision(at_s, headline=headline)
    return replace(record, desired=desired, recommended=desired, cold_start_s=cold_start_s)


def line(requests: int, gpu_s: float) -> QueueView:
    queued = QueueLine(priority=3, tenant="blue", tickets=requests, gpu_s=gpu_s, finish_v=0.0)
    return QueueView(waiting_age_s=7.0, lines=(queued,))


def replicas(*states: ReplicaState) -> tuple[ReplicaRecord, ...]:
    return tuple(replace(samples.replica(f"r{n}", state), created_at_s=900.0) for n, state in enumerate(states))


# Unknown


def test_a_pool_that_was_never_read_is_unknown_throughout() -> None:
    pool = shown(None, error="Redis is away")
    known = {"name", "models", "gpu", "gpus_per_replica", "kv_capacity_tokens", "min_replicas", "max_replicas"}
    rest = {name: value for name, value in msgspec.structs.asdict(pool).items() if name not in known}
    assert {name: value for name, value in rest.items() if value not in (None, [])} == {"error": "Redis is away"}


def test_without_a_worker_the_queue_and_the_work_are_unknown_and_not_zero() -> None:
    pool = shown(seen(replicas=replicas(READY), decision=decided(1)))
    assert (pool.queue, pool.expected_wait_s, pool.work_age_s, pool.workers) == (None, None, None, 0)
    assert pool.replicas is not None
    (one,) = pool.replicas
    assert (one.requests, one.gpu_s, one.prefill_s, one.kv_tokens, one.kv_ratio) == (None,) * 5


def test_a_list_that_nobody_publishes_is_unknown_and_an_empty_one_is_none() -> None:
    unknown, none = shown(seen(samples.worker_report())), shown(seen(samples.worker_report(), replicas=()))
    assert (unknown.replicas, unknown.ready, unknown.starting, unknown.draining) == (None, None, None, None)
    assert (none.replicas, none.ready, none.starting, none.draining) == ([], 0, 0, 0)


def test_without_a_decision_nothing_is_desired() -> None:
    pool = shown(seen(samples.worker_report(), replicas=()))
    assert (pool.desired, pool.offered_load, pool.headline, pool.decision_age_s, pool.decisions) == (None,) * 5


def test_an_offered_load_that_was_not_measured_is_unknown() -> None:
    pool = shown(seen(decision=replace(decided(2), offered_load=None)))
    assert (pool.desired, pool.offered_load) == (2, None)


def test_usage_that_was_not_read_is_unknown_and_money_without_a_price_too() -> None:
    rows = (UsageRow(day=DAY, key=UsageKey("blue", "chat", "m"), usage=Usage(requests=1, prefill_gpu_s=2.0)),)
    assert shown(seen()).tenants is None
    assert shown(seen(), booked=Booked(day=DAY, rows=())).tenants == []
    (free,) = shown(seen(), booked=Booked(day=DAY, rows=rows), priced=False).tenants or []
    (paid,) = shown(seen(), booked=Booked(day=DAY, rows=rows)).tenants or []
    assert (free.money, paid.money, paid.gpu_s) == (None, 0.0, 2.0)


# Ages


def test_everything_ages_from_when_it_was_read() -> None:
    view = seen(samples.worker_report(), replicas=replicas(READY), decision=decided(1), queue=line(2, 4.0))
    booked = Booked(day=DAY, rows=(), at_s=490.0)
    new, old = shown(view), shown(view, since_s=30.0, booked=booked)
    assert (new.age_s, new.work_age_s, new.decision_age_s) == (0.0, 0.25, 10.0)
    assert (old.age_s, old.work_age_s, old.decision_age_s) == (30.0, 30.25, 40.0)
    assert (old.replicas or [])[0].age_s == 130.0
    assert old.queue is not None
    assert old.queue.waiting_s == 37.0
    page = page_from([facts()], Everything(booked=booked), 530.0)
    assert (page.usage_age_s, page.usage_day) == (40.0, DAY)


def test_work_is_as_old_as_the_oldest_report_in_it() -> None:
    young, old = samples.worker_report("w1"), samples.worker_report("w2")
    view = replace(seen(), reports=(SeenReport(report=young, age_s=0.1), SeenReport(report=old, age_s=2.0)))
    assert shown(view).work_age_s == 2.0


@pytest.mark.parametrize("since_s", [0.0, -3.0], ids=["decision from the future", "clock set back"])
def test_no_age_is_negative(since_s: float) -> None:
    pool = shown(seen(replicas=replicas(READY), decision=decided(1, at_s=1005.0)), since_s=since_s)
    assert (pool.age_s, pool.decision_age_s) == (0.0, 0.0)


# Sums


def test_the_work_of_a_replica_is_summed_over_workers() -> None:
    view = seen(samples.worker_report("w1"), samples.worker_report("w2"), replicas=replicas(READY, DRAINING))
    busy, idle = shown(view).replicas or []
    assert (busy.requests, busy.gpu_s, busy.prefill_s, busy.kv_tokens, busy.kv_ratio) == (4, 3.0, 0.5, 4800, 0.48)
    assert (idle.requests, idle.gpu_s, idle.kv_ratio, idle.state) == (0, 0.0, 0.0, "draining")


def test_replicas_are_counted_by_their_state() -> None:
    pool = shown(seen(replicas=replicas(READY, STARTING, READY, DRAINING)))
    assert (pool.ready, pool.starting, pool.draining) == (2, 1, 1)


def test_a_drained_replica_drains_no_more() -> None:
    one, other = replicas(DRAINING, DRAINING)
    pool = shown(seen(replicas=(one, replace(other, drained=True))))
    assert ([replica.state for replica in pool.replicas or []], pool.draining) == (["draining", "drained"], 1)


def test_a_replica_says_its_gpu_or_has_that_of_its_pool() -> None:
    one, other = replicas(READY, READY)
    found = shown(seen(replicas=(one, replace(other, gpu="H100")))).replicas or []
    assert [replica.gpu for replica in found] == ["L40S", "H100"]


def test_static_replicas_are_shown_by_name_and_their_state_is_not_claimed() -> None:
    pool = shown(seen(samples.worker_report()), static_replicas=("r0", "r1"), min_replicas=None, max_replicas=None)
    assert (pool.ready, pool.starting, pool.draining) == (None, None, None)
    found = [(replica.name, replica.state, replica.requests) for replica in pool.replicas or []]
    assert found == [("r0", "static", 2), ("r1", "static", 0)]


def test_what_waits_in_workers_counts_while_the_shared_queue_does_not_know_it() -> None:
    report = replace(samples.worker_report(), waiting=5, waiting_gpu_s=9.0)
    shared = shown(seen(report, queue=line(6, 10.0))).queue
    alone = shown(seen(report)).queue
    assert shared is not None
    assert alone is not None
    assert (shared.requests, shared.gpu_s, shared.waiting_s) == (6, 10.0, 7.0)
    assert [(one.tenant, one.priority, one.requests) for one in shared.lines] == [("blue", 3, 6)]
    assert (alone.requests, alone.gpu_s, alone.waiting_s, alone.lines) == (5, 9.0, None, [])


@pytest.mark.parametrize(
    ("states", "decision", "wait_s"),
    [
        pytest.param((READY,), None, 4.0, id="one replica of two GPUs"),
        pytest.param((READY, READY, STARTING), None, 2.0, id="what serves counts"),
        pytest.param((STARTING,), decided(1), 44.0, id="a cold start first"),
        pytest.param((), decided(2), 42.0, id="and what is desired then"),
        pytest.param((), decided(0), 44.0, id="at zero one will come"),
        pytest.param((), decided(1, cold_start_s=None), None, id="cold start unknown"),
        pytest.param((), None, None, id="no decision"),
    ],
)
def test_the_expected_wait_is_the_queue_over_what_serves(
    states: tuple[ReplicaState, ...], decision: DecisionRecord | None, wait_s: float | None
) -> None:
    view = seen(samples.worker_report(), replicas=replicas(*states), decision=decision, queue=line(3, 8.0))
    assert shown(view).expected_wait_s == wait_s


def test_a_list_that_is_unknown_leaves_the_wait_unknown() -> None:
    assert shown(seen(samples.worker_report(), decision=decided(1), queue=line(3, 8.0))).expected_wait_s is None


# Decisions


def test_decisions_that_say_the_same_are_one_row() -> None:
    history = (decided(2, at_s=999.0), decided(2, at_s=994.0), decided(3, at_s=989.0), decided(2, at_s=984.0))
    rows = shown(seen(), decisions=history).decisions or []
    assert [(row.desired, row.age_s, row.first_age_s, row.count) for row in rows] == [
        (2, 1.0, 6.0, 2),
        (3, 11.0, 11.0, 1),
        (2, 16.0, 16.0, 1),
    ]


def test_the_number_of_rows_is_bounded_and_the_last_one_is_whole() -> None:
    history = [decided(n // 2, at_s=999.0 - n) for n in range(4 * MOST_DECISIONS)]
    rows = shown(seen(), decisions=tuple(history)).decisions or []
    assert [row.count for row in rows] == [2] * MOST_DECISIONS


def test_the_steps_of_the_last_decision_are_shown() -> None:
    pool = shown(seen(decision=decided(3)))
    assert [(step.name, step.reason) for step in pool.steps] == [("bounds", "bounds [0, 3]")]


# Tenants


def test_tenants_are_summed_over_models_of_this_pool_the_largest_first() -> None:
    def row(tenant: str, pool: str, model: str, **used: Any) -> UsageRow:
        return UsageRow(day=DAY, key=UsageKey(tenant, pool, model), usage=Usage(**used))

    rows = (
        row("blue", "chat", "a", requests=1, decode_gpu_s=1.0, input_tokens=10),
        row("blue", "chat", "b", requests=2, decode_gpu_s=1.0, output_tokens=5),
        row("red", "chat", "a", requests=1, prefill_gpu_s=5.0, money=0.5),
        row("red", "code", "a", requests=9),
    )
    found = shown(seen(), booked=Booked(day=DAY, rows=rows)).tenants or []
    assert [(one.tenant, one.requests, one.tokens, one.gpu_s, one.money) for one in found] == [
        ("red", 1, 0, 5.0, 0.5),
        ("blue", 3, 15, 2.0, 0.0),
    ]


# The wire


@given(
    st.lists(samples.replicas, max_size=3, unique_by=lambda record: record.name),
    st.none() | samples.decisions,
    st.lists(samples.reports, max_size=2),
)
def test_any_records_make_a_page_that_is_json_and_back(
    listed: list[ReplicaRecord], decision: DecisionRecord | None, reports: list[WorkerReport]
) -> None:
    view = seen(*reports, replicas=tuple(listed), decision=decision)
    page = page_from([facts()], Everything(looks={POOL: Look(view=view)}), 1.0)
    assert msgspec.json.decode(msgspec.json.encode(page), type=PageValues) == page


def test_no_address_is_on_the_page() -> None:
    record = replace(samples.replica(), name=ReplicaName("r0"), url="http://user:secret@10.0.0.7:8000")
    page = page_from([facts()], Everything(looks={PoolName("chat"): Look(view=seen(replicas=(record,)))}), 1.0)
    raw = msgspec.json.encode(page)
    assert b"secret" not in raw
    assert b"10.0.0.7" not in raw
