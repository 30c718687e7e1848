"""When a request spills, when it does not, and what the decision says."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.spill import (
    MOST_TRIES,
    Situation,
    Spill,
    SpillSettings,
    Stay,
    TokenPrice,
    Why,
    WhyNot,
    decide,
    most_in_flight,
)
from tests.gateway.builders import weight, weights

PRICE = TokenPrice(input_per_mtok=1.0, output_per_mtok=4.0)
SETTINGS = SpillSettings(model="azure/small", money_per_day=10.0)
LONG = Situation(
    tenant="blue",
    allowed=True,
    spillable=True,
    tries=0,
    held=False,
    ready=1,
    predicted_wait_s=12.3,
    waited_s=None,
    answering=True,
    in_flight=0,
    most_in_flight=100,
    price=PRICE,
    gpu_money=0.0004,
    money_left=10.0,
)

amounts = st.none() | st.floats(-5.0, 100.0)
situations = st.builds(
    Situation,
    tenant=st.just("blue"),
    allowed=st.booleans(),
    spillable=st.booleans(),
    tries=st.integers(0, 3),
    held=st.booleans(),
    ready=st.none() | st.integers(0, 3),
    predicted_wait_s=st.none() | st.floats(0.0, 60.0),
    waited_s=st.none() | st.floats(0.0, 60.0),
    answering=st.booleans(),
    in_flight=st.integers(0, 200),
    most_in_flight=st.integers(1, 100),
    price=st.none() | st.builds(TokenPrice, input_per_mtok=st.floats(0.0, 50.0), output_per_mtok=st.floats(0.0, 50.0)),
    gpu_money=st.none() | st.floats(0.0, 1.0),
    money_left=amounts,
)
settings = st.builds(
    SpillSettings,
    model=st.just("azure/small"),
    after_wait_s=st.floats(0.0, 30.0),
    while_starting=st.booleans(),
    money_per_day=st.floats(0.01, 100.0),
    max_in_flight=st.integers(1, 100),
    premium=st.none() | st.floats(0.1, 20.0),
)


def test_a_long_wait_spills_and_the_reason_compares_the_money() -> None:
    decision = decide(weight(input_tokens=1000, output_tokens_p50=275.0, output_tokens_p90=1000.0), LONG, SETTINGS)

    assert decision == Spill(Why.PREDICTED, "wait 12.3 s > 5 s; 0.0021 as tokens, 0.0004 as GPU-seconds", 0.005)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param({"ready": 0, "predicted_wait_s": None}, Why.STARTING, id="no replica, unknown wait"),
        pytest.param({"ready": 0, "predicted_wait_s": 0.1}, Why.STARTING, id="no replica, short wait"),
        pytest.param({"waited_s": 5.0, "predicted_wait_s": None}, Why.WAITED, id="waited as long as allowed"),
        pytest.param({"money_left": 0.005}, Why.PREDICTED, id="just enough left"),
    ],
)
def test_it_spills(change: dict[str, Any], why: Why) -> None:
    heavy = weight(input_tokens=1000, output_tokens_p50=275.0, output_tokens_p90=1000.0)

    decision = decide(heavy, replace(LONG, **change), SETTINGS)

    assert isinstance(decision, Spill)
    assert decision.why is why


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param({"allowed": False}, WhyNot.TENANT, id="tenant"),
        pytest.param({"spillable": False}, WhyNot.REQUEST, id="embeddings"),
        pytest.param({"tries": MOST_TRIES}, WhyNot.TRIED, id="failed too often"),
        pytest.param({"held": True}, WhyNot.OWN_LIMIT, id="own limit"),
        pytest.param({"predicted_wait_s": 5.0}, WhyNot.SHORT_WAIT, id="as long as allowed"),
        pytest.param({"predicted_wait_s": None}, WhyNot.SHORT_WAIT, id="unknown wait"),
        pytest.param({"predicted_wait_s": None, "ready": None}, WhyNot.SHORT_WAIT, id="unknown replicas"),
        pytest.param({"predicted_wait_s": None, "waited_s": 4.9}, WhyNot.SHORT_WAIT, id="waits, not long"),
        pytest.param({"answering": False}, WhyNot.PROVIDER, id="provider fails"),
        pytest.param({"in_flight": 100}, WhyNot.IN_FLIGHT, id="too many at once"),
        pytest.param({"price": None}, WhyNot.PRICE, id="price unknown"),
        pytest.param({"money_left": None}, WhyNot.CAP_UNKNOWN, id="rest of the cap unknown"),
        pytest.param({"money_left": 0.0}, WhyNot.CAP, id="cap reached"),
        pytest.param({"money_left": float("nan")}, WhyNot.CAP, id="no number is left"),
    ],
)
def test_it_stays(change: dict[str, Any], why: WhyNot) -> None:
    decision = decide(weight(), replace(LONG, **change), SETTINGS)

    assert isinstance(decision, Stay)
    assert decision.why is why


@pytest.mark.parametrize(
    ("premium", "gpu_money", "spills"),
    [
        pytest.param(None, 0.000001, True, id="any premium"),
        pytest.param(None, None, True, id="any premium, no price of a GPU"),
        pytest.param(6.0, 0.0004, True, id="5.25 times, 6 allowed"),
        pytest.param(5.0, 0.0004, False, id="5.25 times, 5 allowed"),
        pytest.param(5.0, None, False, id="nothing to compare with"),
    ],
)
def test_the_premium_bounds_what_tokens_may_cost(premium: float | None, gpu_money: float | None, spills: bool) -> None:
    heavy = weight(input_tokens=1000, output_tokens_p50=275.0)

    decision = decide(heavy, replace(LONG, gpu_money=gpu_money), replace(SETTINGS, premium=premium))

    assert isinstance(decision, Spill) is spills
    if not spills:
        assert decision.why is WhyNot.PREMIUM


def test_a_pool_that_is_starting_can_be_told_to_wait() -> None:
    decision = decide(weight(), replace(LONG, ready=0, predicted_wait_s=4.0), replace(SETTINGS, while_starting=False))

    assert decision == Stay(WhyNot.SHORT_WAIT, "wait 4.0 s <= 5 s")


@given(weights, situations, settings)
def test_what_is_reserved_is_never_over_what_is_left(weight: Any, situation: Situation, chosen: SpillSettings) -> None:
    decision = decide(weight, situation, chosen)

    if isinstance(decision, Spill):
        assert situation.money_left is not None
        assert 0.0 <= decision.reserved <= situation.money_left


@given(weights, situations, settings)
def test_nobody_spills_who_is_not_allowed(weight: Any, situation: Situation, chosen: SpillSettings) -> None:
    assert isinstance(decide(weight, replace(situation, allowed=False), chosen), Stay)


@given(weights, situations, settings)
def test_an_unknown_wait_is_no_reason(weight: Any, situation: Situation, chosen: SpillSettings) -> None:
    unknown = replace(situation, predicted_wait_s=None, waited_s=None, ready=situation.ready or None)

    assert isinstance(decide(weight, unknown, chosen), Stay)


@given(weights, situations, settings, st.floats(0.0, 60.0), st.sampled_from(["predicted_wait_s", "waited_s"]))
def test_who_spills_would_spill_with_a_longer_wait(
    weight: Any, situation: Situation, chosen: SpillSettings, longer_s: float, which: str
) -> None:
    before_s = getattr(situation, which)
    decision = decide(weight, situation, chosen)
    after = decide(weight, replace(situation, **{which: (before_s or 0.0) + longer_s}), chosen)

    if isinstance(decision, Spill):
        assert isinstance(after, Spill)
        assert after.reserved == decision.reserved


@given(weights, situations, settings, st.floats(0.0, 50.0))
def test_who_stays_would_not_spill_with_less_money(
    weight: Any, situation: Situation, chosen: SpillSettings, less: float
) -> None:
    if situation.money_left is not None and isinstance(decide(weight, situation, chosen), Stay):
        poorer = replace(situation, money_left=situation.money_left - less)
        assert isinstance(decide(weight, poorer, chosen), Stay)


@pytest.mark.parametrize(
    ("workers", "share"),
    [pytest.param(1, 100, id="alone"), pytest.param(3, 33, id="three"), pytest.param(500, 1, id="many")],
)
def test_workers_share_what_may_be_in_flight(workers: int, share: int) -> None:
    assert most_in_flight(SETTINGS, workers) == share
