"""Errors and figures: what is counted, what is refused, when a bound is met."""

import numpy as np
import pytest

from estimator.evaluate.figure import Errors, Figure, Line, errors, median_mape
from estimator.evaluate.report import as_json, as_text


def line(subject: str, mape: float, **baselines: float) -> Line:
    return Line(
        subject=subject,
        rows=3,
        ours=Errors(mape=mape, wape=mape / 2),
        baselines={name: Errors(mape=value, wape=value) for name, value in baselines.items()},
    )


def test_errors_weigh_rows_alike_or_by_their_size() -> None:
    found = errors(np.asarray([2.0, 9.0]), np.asarray([1.0, 10.0]))
    assert found.mape == pytest.approx((1.0 + 0.1) / 2)
    assert found.wape == pytest.approx(2.0 / 11.0)


@pytest.mark.parametrize(
    ("estimated", "measured", "what"),
    [
        ([], [], "estimates for"),
        ([1.0], [1.0, 2.0], "estimates for"),
        ([float("nan")], [1.0], "an estimate"),
        ([1.0], [0.0], "a measurement"),
    ],
)
def test_what_has_no_error_is_refused(estimated: list[float], measured: list[float], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        errors(np.asarray(estimated), np.asarray(measured))


def test_the_median_is_over_lines_of_each_estimator() -> None:
    lines = [line("a", 0.01, plain=0.3), line("b", 0.05, plain=0.2), line("c", 0.02)]
    figure = median_mape(lines, quantity="q", split="s", high=0.02)
    assert (figure.value, figure.baselines, figure.met) == (0.02, {"plain": 0.25}, True)
    with pytest.raises(ValueError, match="q, s: nothing was measured"):
        median_mape([], quantity="q", split="s")


@pytest.mark.parametrize(("value", "met"), [(0.87, False), (0.88, True), (0.92, True), (0.93, False)])
def test_a_figure_is_met_within_both_bounds(value: float, met: bool) -> None:
    assert Figure(quantity="q", split="s", measure="m", value=value, low=0.88, high=0.92).met is met


def test_a_report_names_the_bound_and_the_ends() -> None:
    figure = median_mape([line("a", 0.01, plain=0.3), line("b", 0.05, plain=0.2)], quantity="q", split="s", high=0.02)
    text = "\n".join(as_text([figure]))
    assert "median MAPE 0.0300, shall be at most 0.02: MISSED" in text
    assert "from best to worst: a 0.010, b 0.050" in text
    found = as_json(figure)
    assert (found["met"], found["lines"][1]["baselines"]["plain"]["mape"]) == (False, 0.2)
    unbounded = Figure(quantity="q", split="s", measure="m", value=1.0)
    assert "no bound" in "\n".join(as_text([unbounded]))
