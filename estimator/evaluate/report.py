"""Figures as JSON, and as text for a terminal."""

from collections.abc import Iterator, Sequence
from typing import Any

from estimator.evaluate.figure import Errors, Figure, Line


def as_json(figure: Figure) -> dict[str, Any]:
    """A figure with the errors behind it; numbers are ratios, not percent."""
    return {
        "quantity": figure.quantity,
        "split": figure.split,
        "measure": figure.measure,
        "value": round(figure.value, 5),
        "low": figure.low,
        "high": figure.high,
        "met": figure.met,
        "baselines": {name: round(value, 5) for name, value in figure.baselines.items()},
        "note": figure.note,
        "lines": [_line(line) for line in figure.lines],
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "subject": line.subject,
        "rows": line.rows,
        **_errors(line.ours),
        "baselines": {name: _errors(errors) for name, errors in line.baselines.items()},
    }


def _errors(errors: Errors) -> dict[str, float]:
    return {"mape": round(errors.mape, 5), "wape": round(errors.wape, 5)}


def as_text(figures: Sequence[Figure]) -> Iterator[str]:
    """A paragraph a figure: what it is, its number and bounds, the same of baselines, its best and worst line."""
    for figure in figures:
        yield f"{figure.quantity}: {figure.split}"
        yield f"    {figure.measure} {figure.value:.4f}, {_bounds(figure)}"
        if figure.baselines:
            yield "    " + ", ".join(f"{name} {value:.3f}" for name, value in figure.baselines.items())
        if figure.lines:
            ordered = sorted(figure.lines, key=lambda line: line.ours.mape)
            ends = ", ".join(f"{line.subject} {line.ours.mape:.3f}" for line in (ordered[0], ordered[-1]))
            yield f"    {len(ordered)} sets of measurements, from best to worst: {ends}"
        if figure.note:
            yield f"    {figure.note}"


def _bounds(figure: Figure) -> str:
    if figure.low is None and figure.high is None:
        return "no bound"
    parts = [f"at least {figure.low:g}"] if figure.low is not None else []
    parts += [f"at most {figure.high:g}"] if figure.high is not None else []
    return f"shall be {' and '.join(parts)}: {'met' if figure.met else 'MISSED'}"
