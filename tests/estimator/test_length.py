"""Output-length predictions."""

from random import Random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator.length import MAX_TOKENS, LengthModel

lengths = st.integers(min_value=-5, max_value=10_000_000)
caps = st.none() | st.integers(min_value=1, max_value=1_000_000)
routes = st.integers(min_value=0, max_value=5)


def taught(history: list[tuple[int, int]]) -> LengthModel:
    model = LengthModel()
    for route, tokens in history:
        model.observe(route, tokens)
    return model


@given(history=st.lists(st.tuples(routes, lengths), max_size=60), route=routes, cap=caps)
def test_predictions_are_ordered_positive_and_capped(
    history: list[tuple[int, int]], route: int, cap: int | None
) -> None:
    predicted = taught(history).predict(route, cap)
    limit = MAX_TOKENS if cap is None else cap
    assert 1.0 <= predicted.p50 <= predicted.p90 <= limit
    assert 1.0 <= predicted.mean <= limit
    assert predicted.mean_square >= predicted.mean**2 * (1 - 1e-9)


@given(history=st.lists(st.tuples(routes, lengths), max_size=30), route=routes, low=caps, high=caps)
def test_a_higher_cap_never_predicts_less(
    history: list[tuple[int, int]], route: int, low: int | None, high: int | None
) -> None:
    low, high = sorted((low or MAX_TOKENS, high or MAX_TOKENS))
    model = taught(history)
    assert model.predict(route, low).mean <= model.predict(route, high).mean + 1e-6
    assert model.predict(route, low).p90 <= model.predict(route, high).p90


@given(
    history=st.lists(st.tuples(routes, lengths), max_size=30), route=routes, generated=st.integers(0, 200_000), cap=caps
)
def test_what_remains_is_at_least_a_token_and_at_most_the_cap(
    history: list[tuple[int, int]], route: int, generated: int, cap: int | None
) -> None:
    remaining = taught(history).remaining(route, generated, cap)
    limit = MAX_TOKENS if cap is None else cap
    if generated >= limit:
        assert remaining == 0.0
    else:
        assert 1.0 <= remaining <= limit - generated


def test_before_any_data_production_chat_is_assumed() -> None:
    """The Azure 2023 conversation trace: median 129, 90th percentile 424, mean 211."""
    prior = LengthModel().predict("any")
    assert prior.p50 == pytest.approx(129, rel=0.05)
    assert prior.p90 == pytest.approx(424, rel=0.1)
    assert prior.mean == pytest.approx(211, rel=0.05)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("median", "sigma"), [(20.0, 0.3), (300.0, 1.0), (3000.0, 0.6)])
def test_a_route_converges_to_its_own_distribution(median: float, sigma: float, seed: int) -> None:
    rng = Random(seed)
    sample = [max(1, round(median * 2.718281828 ** rng.gauss(0.0, sigma))) for _ in range(1500)]
    model = LengthModel()
    for tokens in sample:
        model.observe("route", tokens)
    predicted = model.predict("route")
    ordered = sorted(sample)
    assert predicted.p50 == pytest.approx(ordered[750], rel=0.12)
    assert predicted.p90 == pytest.approx(ordered[1350], rel=0.15)
    assert predicted.mean == pytest.approx(mean(sample), rel=0.12)
    assert predicted.mean_square == pytest.approx(mean(tokens**2 for tokens in sample), rel=0.4)


def test_a_cap_is_expected_where_most_outputs_would_be_longer() -> None:
    model = taught([(0, 1000)] * 200)
    assert model.predict(0, 100).mean == pytest.approx(100, rel=0.05)
    assert model.predict(0, 100).p50 == 100.0


def test_routes_do_not_mix_but_a_new_one_starts_from_all_traffic() -> None:
    model = taught([(0, 10), (1, 2000)] * 200)
    assert model.predict(0).p50 < 15
    assert model.predict(1).p50 > 1500
    assert model.predict(0).p50 < model.predict("new").mean < model.predict(1).p50


def test_a_change_of_behavior_is_followed() -> None:
    model = taught([(0, 50)] * 10_000 + [(0, 800)] * 3000)
    assert model.predict(0).p50 == pytest.approx(800, rel=0.1)


def test_a_few_observations_move_the_prediction_only_part_of_the_way() -> None:
    model = taught([(0, 2000)] * 3)
    assert model.predict(0).p50 < 1000


def test_the_number_of_routes_is_bounded_and_the_oldest_goes_first() -> None:
    model = LengthModel(max_routes=3)
    for route in range(10):
        for _ in range(50):
            model.observe(route, 10 if route < 9 else 4000)
    assert len(model) == 3
    assert model.predict(9).p50 > 2000
    assert model.predict(0) == model.predict("never seen")


def test_a_route_in_use_outlives_newer_ones() -> None:
    model = LengthModel(max_routes=2)
    for route in ("kept", "dropped", "kept", "new"):
        for _ in range(50):
            model.observe(route, 4000 if route == "kept" else 10)
    assert model.predict("kept").p50 > 2000
    assert model.predict("dropped") == model.predict("never seen")


def test_looking_at_a_route_does_not_create_it() -> None:
    model = LengthModel()
    model.predict("a")
    model.remaining("a", 10)
    assert len(model) == 0


def test_outputs_that_have_outlived_the_short_ones_are_expected_to_be_long() -> None:
    model = taught([(0, 10), (0, 1000)] * 300)
    assert model.remaining(0, 0) == pytest.approx(505, rel=0.12)
    assert model.remaining(0, 100) == pytest.approx(900, rel=0.12)


@pytest.mark.parametrize("argument", ["max_routes", "refresh_every"])
def test_a_model_that_could_hold_nothing_is_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=argument):
        LengthModel(**{argument: 0})
