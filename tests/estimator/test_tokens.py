"""Token counts from text sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator.tokens import HIGH_RATIO, LOW_RATIO, TextSize, TokenRatio, prior_tokens

sizes = st.builds(
    TextSize,
    ascii_chars=st.integers(min_value=0, max_value=1_000_000),
    wide_chars=st.integers(min_value=0, max_value=1_000_000),
    messages=st.integers(min_value=0, max_value=1000),
)
counts = st.integers(min_value=-10, max_value=10_000_000)


@pytest.mark.parametrize(
    ("size", "expected_tokens"),
    [
        pytest.param(TextSize(0), 1, id="nothing is one token"),
        pytest.param(TextSize(4000), 1000, id="English"),
        pytest.param(TextSize(0, wide_chars=1000), 800, id="Chinese"),
        pytest.param(TextSize(400, wide_chars=100, messages=3), 100 + 80 + 12, id="a mixed chat"),
    ],
)
def test_the_first_estimate_is_the_prior(size: TextSize, expected_tokens: int) -> None:
    assert TokenRatio().estimate(size) == expected_tokens


@given(true_ratio=st.floats(min_value=0.3, max_value=3.5), chars=st.integers(min_value=400, max_value=100_000))
def test_a_steady_ratio_is_met_within_five_percent_after_twenty_reports(true_ratio: float, chars: int) -> None:
    ratio = TokenRatio()
    size = TextSize(chars)
    tokens = round(prior_tokens(size) * true_ratio)
    for _ in range(20):
        ratio.observe(size, tokens)
    assert ratio.estimate(size) == pytest.approx(tokens, rel=0.05)


@given(history=st.lists(st.tuples(sizes, counts), max_size=50), size=sizes)
def test_no_report_can_push_the_ratio_out_of_its_bounds(history: list[tuple[TextSize, int]], size: TextSize) -> None:
    ratio = TokenRatio()
    for observed, tokens in history:
        ratio.observe(observed, tokens)
    assert LOW_RATIO <= ratio.ratio <= HIGH_RATIO
    assert ratio.estimate(size) >= 1


@given(count=st.integers(min_value=10**6, max_value=10**9))
def test_one_absurd_report_among_many_changes_little(count: int) -> None:
    ratio = TokenRatio()
    size = TextSize(4000)
    for _ in range(200):
        ratio.observe(size, 1000)
    ratio.observe(size, count)
    assert ratio.estimate(size) == pytest.approx(1000, rel=0.16)


def test_a_change_of_traffic_is_followed() -> None:
    ratio = TokenRatio()
    size = TextSize(4000)
    for _ in range(1000):
        ratio.observe(size, 1000)
    for _ in range(100):
        ratio.observe(size, 2000)
    assert ratio.estimate(size) == pytest.approx(2000, rel=0.05)


def test_short_texts_teach_less_than_long_ones() -> None:
    taught_short, taught_long = TokenRatio(), TokenRatio()
    taught_short.observe(TextSize(2, messages=1), 36)
    taught_long.observe(TextSize(4000), 4000)
    assert taught_short.ratio < 1.2 < taught_long.ratio


@pytest.mark.parametrize(
    ("size", "tokens"),
    [
        pytest.param(TextSize(400), 0, id="no usage"),
        pytest.param(TextSize(400), -5, id="nonsense"),
        pytest.param(TextSize(0), 100, id="no text"),
    ],
)
def test_a_report_without_meaning_is_ignored(size: TextSize, tokens: int) -> None:
    ratio = TokenRatio()
    ratio.observe(size, tokens)
    assert (ratio.ratio, ratio.observations) == (1.0, 0)
