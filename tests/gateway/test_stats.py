"""Histograms count every value once, in the bucket whose edge covers it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.stats import LATENCY_EDGES_S, RATIO_EDGES, TPOT_EDGES_S, WAIT_RATIO_EDGES, Histogram, PoolStats

EDGES = [LATENCY_EDGES_S, TPOT_EDGES_S, RATIO_EDGES, WAIT_RATIO_EDGES]


@pytest.mark.parametrize(
    ("value", "counts"),
    [
        pytest.param(0.0, [1, 0, 0], id="below the first edge"),
        pytest.param(1.0, [1, 0, 0], id="on an edge, which is inclusive"),
        pytest.param(1.5, [0, 1, 0], id="between edges"),
        pytest.param(2.5, [0, 0, 1], id="beyond the last edge"),
    ],
)
def test_a_value_is_counted_in(value: float, counts: list[int]) -> None:
    histogram = Histogram((1.0, 2.0))
    histogram.observe(value)
    assert histogram.counts == counts


@given(st.lists(st.floats(0.0, 1000.0)), st.sampled_from(EDGES))
def test_counts_up_to_an_edge_are_the_values_up_to_it(values: list[float], edges: tuple[float, ...]) -> None:
    histogram = Histogram(edges)
    for value in values:
        histogram.observe(value)
    for index, edge in enumerate(edges):
        assert sum(histogram.counts[: index + 1]) == sum(value <= edge for value in values)
    assert sum(histogram.counts) == len(values)
    assert histogram.sum == pytest.approx(sum(values))


@pytest.mark.parametrize("edges", EDGES, ids=["latency", "tpot", "ratio", "wait ratio"])
def test_edges_rise(edges: tuple[float, ...]) -> None:
    assert list(edges) == sorted(set(edges))


def test_outcomes_and_bills_add_up_by_their_labels() -> None:
    stats = PoolStats()
    for outcome in ("served", "served", "client-gone"):
        stats.count("llama", outcome)
    stats.bill("blue", "prefill", 0.5)
    stats.bill("blue", "prefill", 0.25)
    stats.bill("blue", "decode", 1.0)
    assert stats.outcomes == {("llama", "served"): 2, ("llama", "client-gone"): 1}
    assert stats.used_s == {("blue", "prefill"): 0.75, ("blue", "decode"): 1.0}
