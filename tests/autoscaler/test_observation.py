"""Known, unknown and stale are three different things."""

from dataclasses import replace

import pytest

from autoscaler.observation import Known, Observation, Unknown, observe, observe_outage
from autoscaler.offered import History, advance
from backlog.records import PoolView
from tests.autoscaler.builders import START_S, fleet, record, report, running, settings, share, view


def see(*views: PoolView, **changes: object) -> Observation:
    scaling = settings(**changes)
    history = History()
    for one in views:
        history = advance(history, one, keep_s=scaling.history_s, now_s=one.read_at_s)
    return observe(views[-1], history, fleet(1), scaling, known_age_s=7.0, now_s=views[-1].read_at_s)


def test_work_is_summed_over_workers_and_replicas() -> None:
    one = report(
        waiting=2,
        waiting_gpu_s=3.0,
        waiting_prefill_s=1.0,
        waiting_kv_tokens=100,
        running=running(r1=share(in_flight=4, prefill_s=0.5, kv_tokens=1000), r2=share(prefill_s=0.25)),
    )
    two = report("w2", waiting=1, waiting_prefill_s=0.25, running=running(r1=share(in_flight=2, kv_tokens=10)))
    seen = see(view(one, two, age_s=0.5))
    assert isinstance(seen.work, Known)
    work = seen.work.value
    assert (work.waiting, work.in_flight, work.kv_tokens) == (3, 7, 1110)
    assert work.backlog_s == pytest.approx(2.0)
    assert seen.work.age_s == 0.5
    assert not work.partial


def test_waiting_work_is_counted_in_seconds_of_the_pools_own_gpu() -> None:
    replicas = tuple(replace(record(name), ratio=ratio) for name, ratio in (("r1", 1.0), ("r2", 3.0)))
    seen = see(view(report(waiting_prefill_s=3.0), replicas=replicas))
    assert isinstance(seen.work, Known)
    assert seen.work.value.backlog_s == pytest.approx(2.0)


def test_no_worker_is_unknown_and_not_idle() -> None:
    seen = see(view())
    assert seen.work == Unknown(cause="no gateway worker reports", age_s=7.0)


def test_only_stale_reports_are_unknown() -> None:
    seen = see(view(report(waiting=5), age_s=11.0))
    assert isinstance(seen.work, Unknown)
    assert seen.work.age_s == 11.0


def test_some_stale_reports_make_the_sums_partial() -> None:
    seen = see(view(report(waiting=5), report("w2", waiting=1), ages_s={"w1": 11.0}))
    assert seen.work.value.waiting == 1
    assert seen.work.value.partial


def test_offered_load_is_unknown_until_it_spans_ten_seconds() -> None:
    early = see(view(report()), view(report(arrived_gpu_s=5.0), at_s=START_S + 5))
    late = see(view(report()), view(report(arrived_gpu_s=10.0), at_s=START_S + 10))
    assert isinstance(early.offered_load, Unknown)
    assert late.offered_load.value == pytest.approx(1.0)


def test_offered_load_counts_replicas_not_gpus() -> None:
    seen = see(view(report()), view(report(arrived_gpu_s=80.0), at_s=START_S + 10), gpus_per_replica=4)
    assert seen.offered_load.value == pytest.approx(2.0)


def test_misses_are_ratios_of_what_settled_in_the_window() -> None:
    seen = see(
        view(report(settled=1000, ttft_misses=900)),
        view(report(settled=1100, ttft_misses=901, tpot_misses=5), at_s=START_S + 20),
    )
    misses = seen.misses.value
    assert (misses.settled, misses.ttft_ratio, misses.tpot_ratio) == (100, 0.01, 0.05)


def test_misses_are_unknown_when_nothing_settled() -> None:
    seen = see(view(report(settled=10)), view(report(settled=10), at_s=START_S + 20))
    assert isinstance(seen.misses, Unknown)


def test_an_outage_makes_everything_unknown() -> None:
    seen = observe_outage("Redis is away", History(), fleet(3), known_age_s=30.0)
    assert seen.work == seen.offered_load == seen.misses == Unknown(cause="Redis is away", age_s=30.0)
    assert seen.fleet.desired == 3


def ramp(until_s: int, every_s: int = 5) -> list[PoolView]:
    """Views of a worker at which one erlang more arrives for each minute that has passed."""
    views, total = [], 0.0
    for at_s in range(0, until_s + 1, every_s):
        views.append(view(report(arrived_gpu_s=total), at_s=START_S + at_s))
        total += at_s / 60 * every_s
    return views


def test_the_earlier_load_is_that_of_the_trends_span_ago_with_its_age() -> None:
    seen = see(*ramp(600), trend_horizon_s=60.0)
    assert seen.offered_load.value == pytest.approx(9.5, abs=0.1)
    assert seen.earlier_load.value == pytest.approx(4.5, abs=0.1)
    assert seen.earlier_load.age_s == 300.0


def test_the_earlier_load_after_a_gap_has_the_age_that_it_has() -> None:
    later = [view(report(arrived_gpu_s=9000.0), at_s=START_S + at_s) for at_s in range(650, 930, 5)]
    assert see(*ramp(600), *later, trend_horizon_s=60.0).earlier_load.age_s == 325.0
    long_after = view(report(arrived_gpu_s=9000.0), at_s=START_S + 1200)
    assert isinstance(see(*ramp(600), long_after, trend_horizon_s=60.0).earlier_load, Unknown)


def test_the_earlier_load_is_unknown_without_enough_data_or_a_trend() -> None:
    assert see(*ramp(320), trend_horizon_s=60.0).earlier_load == Unknown(cause="too little data for a trend", age_s=0.0)
    assert see(*ramp(600)).earlier_load == Unknown(cause="no trend is asked for", age_s=0.0)
