"""What a tenant may still use: the promise of Retry-After, what is heard and what is charged in between."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlog.account import NO_CHARGE, Charge, Spent, Standing
from gateway.limits import DAY_S, SHORTEST_MONTH_S, STALE_S, Limiter
from gateway.outcome import Outcome
from gateway.settings import TenantLimits, TenantSettings

TENANT = "blue"
NOW_S = 1000.0


def limiter(*, share: float = 1.0, **limits: float) -> Limiter:
    tenant = TenantSettings(name=TENANT, key_sha256=(), limits=TenantLimits(**limits))
    return Limiter([tenant, TenantSettings(name="free", key_sha256=())], share=share)


def standing(
    bucket_gpu_s: float | None = None,
    *,
    day: tuple[float, float] = (0.0, 0.0),
    month: tuple[float, float] = (0.0, 0.0),
    day_left_s: float = 3600.0,
    month_left_s: float = 10 * DAY_S,
) -> dict[str, Standing]:
    return {
        TENANT: Standing(
            bucket_gpu_s=bucket_gpu_s,
            day=Spent(gpu_s=day[0], money=day[1], left_s=day_left_s),
            month=Spent(gpu_s=month[0], money=month[1], left_s=month_left_s),
        )
    }


def retry_after_s(limits: Limiter, now_s: float = NOW_S) -> float:
    """0.0: admitted."""
    denial = limits.admit(TENANT, now_s)
    return 0.0 if denial is None else denial.retry_after_s


def test_a_tenant_without_limits_is_admitted_and_not_charged() -> None:
    limits = limiter(gpu_s_per_minute=1.0)
    assert limits.charge("free", 1e9, 1e9, NOW_S) == NO_CHARGE
    assert limits.admit("free", NOW_S) is None
    assert not limits.correct("free", Charge(1e9), NOW_S)
    assert not limits.changed


@pytest.mark.parametrize("name", ["concurrent_gpu_s", "prefill_pace"])
def test_limits_that_are_kept_at_dispatch_are_nothing_to_count_here(name: str) -> None:
    limits = limiter(**{name: 1.0})
    assert limits.rates == {}
    assert limits.charge(TENANT, 5.0, 0.0, NOW_S) == NO_CHARGE


def test_a_full_bucket_admits_a_request_that_is_larger_than_it_and_then_none() -> None:
    limits = limiter(gpu_s_per_minute=60.0)
    assert limits.admit(TENANT, NOW_S) is None
    assert limits.charge(TENANT, 90.0, 0.0, NOW_S) == Charge(90.0, 0.0)
    denial = limits.admit(TENANT, NOW_S)
    assert denial is not None
    assert denial.outcome is Outcome.RATE_LIMITED
    assert denial.detail == "tenant 'blue' has used up its 60 GPU-seconds per minute"
    assert denial.retry_after_s == pytest.approx(30.0)


def test_an_empty_bucket_that_is_not_in_debt_admits() -> None:
    limits = limiter(gpu_s_per_minute=60.0)
    limits.charge(TENANT, 60.0, 0.0, NOW_S)
    assert limits.admit(TENANT, NOW_S) is None


def test_what_was_charged_too_much_is_given_back() -> None:
    limits = limiter(gpu_s_per_minute=60.0)
    charged = limits.charge(TENANT, 90.0, 0.0, NOW_S)
    assert limits.correct(TENANT, Charge(10.0) - charged, NOW_S)
    assert limits.admit(TENANT, NOW_S) is None
    limits.charge(TENANT, 51.0, 0.0, NOW_S)
    assert retry_after_s(limits) == pytest.approx(1.0)


def test_giving_back_does_not_fill_a_bucket_over_its_brim() -> None:
    limits = limiter(gpu_s_per_minute=60.0)
    limits.correct(TENANT, Charge(-100.0), NOW_S)
    limits.charge(TENANT, 61.0, 0.0, NOW_S)
    assert retry_after_s(limits) == pytest.approx(1.0)


BUDGETS = {
    "GPU-seconds of a day": (
        {"gpu_s_per_day": 100.0},
        lambda spent: standing(day=(spent, 0.0)),
        "tenant 'blue' has spent its 100 GPU-seconds for this day (UTC)",
        3600.0,
    ),
    "GPU-seconds of a month": (
        {"gpu_s_per_month": 100.0},
        lambda spent: standing(month=(spent, 0.0)),
        "tenant 'blue' has spent its 100 GPU-seconds for this month (UTC)",
        10 * DAY_S,
    ),
    "money of a day": (
        {"money_per_day": 100.0},
        lambda spent: standing(day=(0.0, spent)),
        "tenant 'blue' has spent its 100 in money for this day (UTC)",
        3600.0,
    ),
    "money of a month": (
        {"money_per_month": 100.0},
        lambda spent: standing(month=(0.0, spent)),
        "tenant 'blue' has spent its 100 in money for this month (UTC)",
        10 * DAY_S,
    ),
}


@pytest.mark.parametrize(("given_limits", "heard", "detail", "left_s"), BUDGETS.values(), ids=BUDGETS)
def test_a_budget_is_spent_until_its_period_ends(
    given_limits: dict[str, float], heard: Callable[[float], dict[str, Standing]], detail: str, left_s: float
) -> None:
    limits = limiter(**given_limits)
    limits.hear(heard(99.5), NOW_S)
    assert limits.admit(TENANT, NOW_S) is None
    limits.hear(heard(100.0), NOW_S)
    denial = limits.admit(TENANT, NOW_S)
    assert denial is not None
    assert (denial.outcome, denial.detail) == (Outcome.BUDGET_SPENT, detail)
    assert denial.retry_after_s == pytest.approx(left_s)
    assert retry_after_s(limits, NOW_S + left_s - 1.0) == pytest.approx(1.0)
    assert limits.admit(TENANT, NOW_S + left_s) is None


@pytest.mark.parametrize(("given_limits", "heard", "detail", "left_s"), BUDGETS.values(), ids=BUDGETS)
def test_own_charges_count_before_they_are_heard_of(
    given_limits: dict[str, float], heard: Callable[[float], dict[str, Standing]], detail: str, left_s: float
) -> None:
    limits = limiter(**given_limits)
    limits.hear(heard(99.0), NOW_S)
    limits.charge(TENANT, 1.0, 1.0, NOW_S)
    denial = limits.admit(TENANT, NOW_S)
    assert denial is not None
    assert denial.detail == detail


def test_a_budget_of_which_nothing_is_known_refuses_nobody() -> None:
    limits = limiter(gpu_s_per_day=1.0)
    limits.charge(TENANT, 100.0, 0.0, NOW_S)
    assert limits.admit(TENANT, NOW_S) is None


def test_the_longest_wait_is_what_the_client_is_told() -> None:
    limits = limiter(gpu_s_per_minute=60.0, gpu_s_per_day=1.0, gpu_s_per_month=1.0)
    limits.hear(standing(-120.0, day=(5.0, 0.0), month=(0.5, 0.0), day_left_s=10.0), NOW_S)
    denial = limits.admit(TENANT, NOW_S)
    assert denial is not None
    assert (denial.outcome, denial.retry_after_s) == (Outcome.RATE_LIMITED, pytest.approx(120.0))
    limits.hear(standing(-1.0, day=(5.0, 0.0), month=(5.0, 0.0)), NOW_S)
    assert retry_after_s(limits) == pytest.approx(10 * DAY_S)


def test_days_that_end_while_nothing_is_heard_begin_anew_each_time() -> None:
    limits = limiter(gpu_s_per_day=10.0)
    limits.hear(standing(day=(20.0, 0.0), day_left_s=100.0), NOW_S)
    later_s = NOW_S + 100.0 + 2.5 * DAY_S
    assert limits.admit(TENANT, later_s) is None
    limits.charge(TENANT, 10.0, 0.0, later_s)
    assert retry_after_s(limits, later_s) == pytest.approx(0.5 * DAY_S)


def test_what_is_heard_replaces_what_was_guessed() -> None:
    limits = limiter(gpu_s_per_minute=60.0)
    limits.charge(TENANT, 600.0, 0.0, NOW_S)
    limits.cut()
    limits.hear(standing(5.0), NOW_S)
    assert limits.admit(TENANT, NOW_S) is None
    limits.hear(standing(-5.0), NOW_S)
    assert retry_after_s(limits) == pytest.approx(5.0)


def test_charges_after_the_cut_are_not_in_what_is_heard_and_count_on_top() -> None:
    limits = limiter(gpu_s_per_minute=60.0, gpu_s_per_day=100.0)
    limits.charge(TENANT, 30.0, 1.0, NOW_S)
    assert limits.cut() == {TENANT: Charge(30.0, 1.0)}
    limits.charge(TENANT, 40.0, 2.0, NOW_S)
    limits.hear(standing(30.0, day=(30.0, 1.0)), NOW_S)
    assert retry_after_s(limits) == pytest.approx(10.0)
    assert limits.cut() == {TENANT: Charge(40.0, 2.0)}
    assert limits.cut() == {}


def test_a_tenant_that_is_heard_of_without_limits_changes_nothing() -> None:
    limits = limiter(gpu_s_per_minute=60.0)
    limits.hear({"free": standing(-5.0)[TENANT]}, NOW_S)
    assert limits.admit("free", NOW_S) is None


@pytest.mark.parametrize(
    ("heard_ago_s", "wait_s"),
    [
        pytest.param(0.0, 0.0, id="heard just now"),
        pytest.param(STALE_S, 0.0, id="heard lately"),
        pytest.param(STALE_S + 1.0, 60.0, id="Redis is away"),
        pytest.param(None, 60.0, id="nothing heard yet"),
    ],
)
def test_without_news_every_other_worker_is_taken_to_charge_as_much(heard_ago_s: float | None, wait_s: float) -> None:
    limits = limiter(share=0.25, gpu_s_per_minute=60.0)
    if heard_ago_s is not None:
        limits.hear(standing(60.0), NOW_S - heard_ago_s)
    limits.charge(TENANT, 30.0, 0.0, NOW_S)
    assert retry_after_s(limits) == pytest.approx(wait_s)


def test_workers_that_hear_nothing_admit_no_more_than_the_budget_together() -> None:
    workers = [limiter(share=0.25, gpu_s_per_day=100.0) for _ in range(4)]
    for limits in workers:
        limits.hear(standing(day=(20.0, 0.0)), NOW_S)
    spent, now_s = 20.0, NOW_S + STALE_S + 1.0
    for limits in workers:
        while limits.admit(TENANT, now_s) is None:
            limits.charge(TENANT, 1.0, 0.0, now_s)
            spent += 1.0
    assert spent == 100.0


def test_a_charge_and_its_correction_leave_nothing_to_book() -> None:
    limits = limiter(gpu_s_per_minute=60.0)
    limits.correct(TENANT, NO_CHARGE, NOW_S)
    assert not limits.changed
    charged = limits.charge(TENANT, 5.0, 1.0, NOW_S)
    limits.correct(TENANT, NO_CHARGE - charged, NOW_S)
    assert limits.cut() == {TENANT: NO_CHARGE}


_amount = st.floats(0.0, 1e4)
_events = st.lists(
    st.one_of(
        st.tuples(st.just("charge"), _amount, _amount),
        st.tuples(st.just("correct"), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)),
        st.tuples(st.just("wait"), st.floats(0.0, 2 * DAY_S), st.none()),
        st.tuples(st.just("cut"), st.none(), st.none()),
        st.tuples(st.just("hear"), st.floats(-1e4, 1e4), _amount),
    ),
    max_size=12,
)
_limits = st.fixed_dictionaries(
    {},
    optional={
        "gpu_s_per_minute": st.floats(0.01, 1e4),
        "gpu_s_per_day": st.floats(0.01, 1e5),
        "gpu_s_per_month": st.floats(0.01, 1e5),
        "money_per_day": st.floats(0.01, 1e5),
        "money_per_month": st.floats(0.01, 1e5),
    },
)


def played(limits: Limiter, events: list[tuple[str, Any, Any]]) -> float:
    """Let it all happen; the time afterwards."""
    now_s = NOW_S
    for what, first, second in events:
        if what == "charge":
            limits.charge(TENANT, first, second, now_s)
        elif what == "correct":
            limits.correct(TENANT, Charge(first, second), now_s)
        elif what == "wait":
            now_s += first
        elif what == "cut":
            limits.cut()
        else:
            heard = standing(
                first, day=(second, second), month=(second, second), day_left_s=max(1.0, second), month_left_s=9e4
            )
            limits.hear(heard, now_s)
    return now_s


@given(_limits, st.sampled_from([1.0, 0.25]), _events)
def test_after_its_retry_after_the_same_request_is_admitted(
    given_limits: dict[str, float], share: float, events: list[tuple[str, Any, Any]]
) -> None:
    limits = limiter(share=share, **given_limits)
    now_s = played(limits, events)
    denial = limits.admit(TENANT, now_s)
    if denial is not None:
        assert denial.retry_after_s > 0.0
        assert limits.admit(TENANT, now_s + denial.retry_after_s) is None


@given(_limits, _events, st.lists(st.floats(0.0, SHORTEST_MONTH_S), min_size=1, max_size=6))
def test_waiting_never_makes_the_wait_longer(
    given_limits: dict[str, float], events: list[tuple[str, Any, Any]], steps_s: list[float]
) -> None:
    limits = limiter(**given_limits)
    now_s = played(limits, events)
    ready_at_s = now_s + retry_after_s(limits, now_s)
    for step_s in steps_s:
        now_s += step_s
        assert now_s + retry_after_s(limits, now_s) <= max(ready_at_s, now_s) + 1e-3


@given(st.floats(0.01, 1e4), _events)
def test_never_more_than_a_minute_can_be_used_at_once(rate: float, events: list[tuple[str, Any, Any]]) -> None:
    limits = limiter(gpu_s_per_minute=rate)
    now_s = played(limits, events)
    limits.hear(standing(1e9), now_s)
    limits.cut()
    limits.hear(standing(1e9), now_s)
    limits.charge(TENANT, 1.01 * rate, 0.0, now_s)
    assert retry_after_s(limits, now_s) == pytest.approx(0.6, abs=1e-3)


def capped(*, share: float = 1.0, money: float = 10.0) -> Limiter:
    return Limiter([], share=share, caps={TENANT: money})


def test_what_is_left_of_a_cap_is_unknown_until_it_was_heard_of() -> None:
    limits = capped()
    assert limits.rates == {TENANT: None}
    assert limits.money_left(TENANT, NOW_S) is None
    limits.hear(standing(day=(0.0, 4.0)), NOW_S)
    assert limits.money_left(TENANT, NOW_S) == 6.0
    assert limits.money_left("other", NOW_S) is None


def test_without_news_each_worker_spends_its_share_of_what_was_left() -> None:
    limits = capped(share=0.25)
    limits.hear(standing(day=(0.0, 2.0), day_left_s=DAY_S), NOW_S)
    limits.correct(TENANT, Charge(0.0, 1.5), NOW_S)
    limits.cut()
    assert limits.money_left(TENANT, NOW_S + 1e3) == 0.5
    limits.correct(TENANT, Charge(0.0, -0.4), NOW_S)
    assert limits.money_left(TENANT, NOW_S + 1e3) == pytest.approx(0.6)


def test_what_was_booked_is_counted_once_and_what_was_not_for_all_workers() -> None:
    limits = capped(share=0.5)
    limits.hear(standing(), NOW_S)
    limits.correct(TENANT, Charge(0.0, 1.0), NOW_S)
    assert limits.cut() == {TENANT: Charge(0.0, 1.0)}
    limits.correct(TENANT, Charge(0.0, 2.0), NOW_S)
    limits.hear(standing(day=(0.0, 1.0)), NOW_S)
    assert limits.money_left(TENANT, NOW_S) == 2.5


def test_a_cap_begins_again_with_the_day() -> None:
    limits = capped()
    limits.hear(standing(day=(0.0, 10.0), day_left_s=60.0), NOW_S)
    assert limits.money_left(TENANT, NOW_S + 59.0) == 0.0
    assert limits.money_left(TENANT, NOW_S + 61.0) == 10.0


@given(
    st.lists(st.tuples(st.integers(0, 2), st.floats(0.0, 4.0), st.booleans()), max_size=40),
    st.floats(0.1, 20.0),
)
def test_workers_that_hear_after_all_have_booked_never_pass_a_cap(
    steps: list[tuple[int, float, bool]], money: float
) -> None:
    """Three workers take what they may; a round of booking is everybody's, as within one second of a gateway."""
    workers = [capped(share=1.0 / 3.0, money=money) for _ in range(3)]
    booked = spent = 0.0
    for limits in workers:
        limits.hear(standing(), NOW_S)
    for who, wanted, settles in steps:
        left = workers[who].money_left(TENANT, NOW_S)
        assert left is not None
        if wanted <= left:
            workers[who].correct(TENANT, Charge(0.0, wanted), NOW_S)
            spent += wanted
        if settles:
            booked += sum(limits.cut().get(TENANT, NO_CHARGE).money for limits in workers)
            for limits in workers:
                limits.hear(standing(day=(0.0, booked)), NOW_S)
    assert spent <= money + 1e-9
