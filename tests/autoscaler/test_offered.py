"""Rates from counters: baselines, deaths, returns, gaps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.offered import MAX_REMEMBERED_WORKERS, History, advance
from tests.autoscaler.builders import START_S, report, view

KEEP_S = 120.0


def follow(*views: tuple[float, tuple[object, ...]]) -> History:
    history = History()
    for at_s, reports in views:
        history = advance(history, view(*reports, at_s=START_S + at_s), keep_s=KEEP_S, now_s=START_S + at_s)  # type: ignore[arg-type]
    return history


def rate(history: History, window_s: float, at_s: float) -> float:
    growth = history.growth(window_s, START_S + at_s)
    assert growth is not None
    return growth.totals.arrived_gpu_s / growth.span_s


def test_the_first_view_is_a_baseline() -> None:
    history = follow((0, (report(arrived_gpu_s=500.0),)), (10, (report(arrived_gpu_s=520.0),)))
    assert rate(history, 60, 10) == pytest.approx(2.0)


def test_one_view_gives_no_rate() -> None:
    assert follow((0, (report(arrived_gpu_s=500.0),))).growth(60, START_S) is None


def test_a_worker_that_started_after_the_baseline_counts_from_zero() -> None:
    late = report("w2", started_at_s=START_S + 5, arrived_gpu_s=30.0)
    history = follow((0, (report(),)), (10, (report(), late)))
    assert rate(history, 60, 10) == pytest.approx(3.0)


def test_a_worker_older_than_the_baseline_that_shows_up_late_is_a_baseline_too() -> None:
    old = report("w2", started_at_s=START_S - 500, arrived_gpu_s=900.0)
    history = follow((0, (report(),)), (10, (report(), old)))
    assert rate(history, 60, 10) == 0.0


def test_a_worker_that_dies_takes_nothing_back() -> None:
    first, second = report(arrived_gpu_s=40.0), report("w2", arrived_gpu_s=70.0)
    grown = report("w2", arrived_gpu_s=90.0)
    history = follow((0, (first, second)), (10, (first, grown)), (20, (first,)))
    assert rate(history, 60, 20) == pytest.approx(1.0)


def test_a_worker_that_returns_adds_what_it_counted_meanwhile() -> None:
    gone = (report("w2", arrived_gpu_s=100.0),)
    history = follow((0, gone), (10, (report(),)), (20, (report(), report("w2", arrived_gpu_s=120.0))))
    assert rate(history, 60, 20) == pytest.approx(1.0)


def test_a_worker_whose_counters_shrank_started_again() -> None:
    history = follow((0, (report(arrived=50, arrived_gpu_s=100.0),)), (10, (report(arrived=2, arrived_gpu_s=5.0),)))
    assert rate(history, 60, 10) == pytest.approx(0.5)


def test_work_that_arrived_during_an_outage_is_spread_over_the_outage() -> None:
    before = (report(arrived_gpu_s=0.0),)
    after = (report(arrived_gpu_s=90.0),)
    history = follow((0, before), (90, ()), (91, after))
    assert rate(history, 60, 91) == pytest.approx(90 / 91)


def test_only_the_window_counts() -> None:
    views = [(float(at_s), (report(arrived_gpu_s=float(max(0, at_s - 100))),)) for at_s in range(0, 201, 5)]
    assert rate(follow(*views), 60, 200) == pytest.approx(1.0)
    assert rate(follow(*views[:21]), 60, 100) == 0.0


def test_the_history_stays_small_however_often_it_is_fed() -> None:
    history = follow(*((step / 4, (report(arrived_gpu_s=step / 4),)) for step in range(4000)))
    assert len(history.samples) <= 2 * KEEP_S + 3
    assert rate(history, 60, 999.75) == pytest.approx(1.0, rel=0.02)


def test_a_clock_set_back_starts_the_history_anew() -> None:
    history = follow((100, (report(arrived_gpu_s=1.0),)), (0, (report(arrived_gpu_s=2.0),)))
    assert len(history.samples) == 1


def test_the_last_arrival_is_the_last_view_with_more_arrivals() -> None:
    history = follow((0, (report(arrived=1),)), (10, (report(arrived=3),)), (20, (report(arrived=3),)))
    assert history.last_arrival_at_s == START_S + 10


def test_the_number_of_remembered_workers_is_bounded() -> None:
    history = follow(*((float(index), (report(f"w{index}"),)) for index in range(MAX_REMEMBERED_WORKERS + 10)))
    assert len(history.workers) == MAX_REMEMBERED_WORKERS


@given(
    st.lists(st.tuples(st.sampled_from(["w1", "w2", "w3"]), st.floats(0, 10), st.booleans()), min_size=1, max_size=40)
)
def test_the_total_is_the_work_that_was_shown_whatever_vanishes_and_returns(
    events: list[tuple[str, float, bool]],
) -> None:
    """Each event: one worker does some work, then a view shows all workers or only that one."""
    done = {"w1": 0.0, "w2": 0.0, "w3": 0.0}
    shown = dict(done)
    views: list[tuple[float, tuple[object, ...]]] = [(0.0, tuple(report(name) for name in done))]
    for step, (name, amount, everybody) in enumerate(events, start=1):
        done[name] += amount
        names = list(done) if everybody else [name]
        shown.update({one: done[one] for one in names})
        views.append((float(step), tuple(report(one, arrived_gpu_s=done[one]) for one in names)))
    history = follow(*views)
    growth = history.growth(1e9, START_S + len(events))
    assert growth is not None
    assert growth.totals.arrived_gpu_s == pytest.approx(sum(shown.values()))


def test_growth_up_to_an_instant_in_the_past_does_not_know_what_came_later() -> None:
    views = [(at_s, (report(arrived_gpu_s=float(total)),)) for at_s, total in ((0, 0), (20, 20), (40, 60), (60, 120))]
    history = follow(*views)
    assert [rate(history, 20, at_s) for at_s in (20, 40, 59, 60)] == [1.0, 2.0, 2.0, 3.0]
    assert history.growth(20, START_S + 19) is None


@given(
    st.lists(st.tuples(st.floats(1, 40), st.floats(0, 9)), min_size=1, max_size=20),
    st.floats(0, 200),
    st.floats(0, 200),
)
def test_growth_covers_its_window_where_there_are_samples(
    steps: list[tuple[float, float]], window_s: float, back_s: float
) -> None:
    at_s, total = 0.0, 0.0
    history = advance(History(), view(report(), at_s=START_S), keep_s=1e9, now_s=START_S)
    samples = [(START_S, 0.0)]
    for pause_s, arrived in steps:
        at_s, total = at_s + pause_s, total + arrived
        seen = view(report(arrived_gpu_s=total), at_s=START_S + at_s)
        history = advance(history, seen, keep_s=1e9, now_s=START_S + at_s)
        samples.append((START_S + at_s, total))
    now_s = START_S + at_s - back_s
    growth = history.growth(window_s, now_s)
    before = [sample for sample in samples if sample[0] <= now_s]
    if len(before) < 2:
        assert growth is None
        return
    older = [sample for sample in before[:-1] if sample[0] <= now_s - window_s]
    start = older[-1] if older else before[0]
    assert growth is not None
    assert growth.span_s == before[-1][0] - start[0]
    assert growth.totals.arrived_gpu_s == pytest.approx(before[-1][1] - start[1])
    assert growth.end_at_s == before[-1][0]
