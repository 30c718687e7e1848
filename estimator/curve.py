"""Compiled tables of a price: rates over the context with their integral, and what short chunks cost beyond them."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

LONGEST_TOKENS = 2**24
"""Contexts beyond this are priced along the last slope."""
LEAST_CHUNK_TOKENS = 16
"""A chunk of fewer tokens costs as much attention as one of this many."""


class Curve(NamedTuple):
    """A rate in seconds per token that is linear between contexts and never falls, with its integral from 0."""

    knots: tuple[float, ...]
    """Contexts in tokens, ascending, the first 0."""
    rates: tuple[float, ...]
    slopes: tuple[float, ...]
    """Of the rate right of each knot; the last one holds for all contexts beyond."""
    sums: tuple[float, ...]

    def scaled(self, ratio: float) -> "Curve":
        """The curve with all seconds multiplied."""
        return Curve(self.knots, *(tuple(value * ratio for value in values) for values in self[1:]))

    def rate(self, context_tokens: float) -> float:
        """Seconds per token at a context."""
        index = bisect_right(self.knots, context_tokens) - 1
        return self.rates[index] + self.slopes[index] * (context_tokens - self.knots[index])

    def integral(self, context_tokens: float) -> float:
        """Seconds of all tokens from 0 to a context."""
        # Every request computes this four times: one unpacking is cheaper than five attributes.
        knots, rates, slopes, sums = self
        index = bisect_right(knots, context_tokens) - 1
        beyond = context_tokens - knots[index]
        return sums[index] + beyond * (rates[index] + 0.5 * beyond * slopes[index])


def curve(points: Sequence[tuple[float, float]]) -> Curve:
    """The curve through (context, rate) points, ascending from context 0; a rate below an earlier one is raised to it.

    Raises `ValueError` when there are fewer than two points or the first is not at 0.
    """
    knots = tuple(float(context) for context, _ in points)
    if len(knots) < 2 or knots[0] != 0.0:
        raise ValueError("a curve needs two points or more, the first at context 0")
    rates = tuple(accumulate((max(0.0, rate) for _, rate in points), max))
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(zip(knots, rates, strict=True))]
    areas = [0.5 * (b[0] - a[0]) * (a[1] + b[1]) for a, b in pairwise(zip(knots, rates, strict=True))]
    return Curve(knots, rates, (*slopes, slopes[-1]), tuple(accumulate(areas, initial=0.0)))


class Surcharge(NamedTuple):
    """Seconds that a chunk's attention takes beyond the curve's integral, bilinear over its tokens and its context."""

    new_knots: tuple[float, ...]
    cached_knots: tuple[float, ...]
    rows: tuple[tuple[float, ...], ...]
    """By cached tokens, then by new tokens."""

    def scaled(self, ratio: float) -> "Surcharge":
        """The table with all seconds multiplied."""
        return self._replace(rows=tuple(tuple(value * ratio for value in row) for row in self.rows))

    def at(self, new_tokens: float, cached_tokens: float) -> float:
        """Seconds, constant outside the knots."""
        new_knots, cached_knots, rows = self
        column = bisect_right(new_knots, new_tokens)
        if column == len(new_knots):
            column, v = column - 1, 1.0
        elif column:
            n0 = new_knots[column - 1]
            v = (new_tokens - n0) / (new_knots[column] - n0)
        else:
            column, v = 1, 0.0
        row = bisect_right(cached_knots, cached_tokens)
        if row == len(cached_knots):
            row, u = row - 1, 1.0
        else:
            c0 = cached_knots[row - 1]
            u = (cached_tokens - c0) / (cached_knots[row] - c0)
        low, high = rows[row - 1], rows[row]
        a = low[column - 1] + v * (low[column] - low[column - 1])
        return a + u * (high[column - 1] + v * (high[column] - high[column - 1]) - a)


ChunkTime = Callable[[int, int], float]
"""Own attention seconds of one chunk: new tokens, cached tokens."""


def prefill_curve(chunk_s: ChunkTime, chunk_tokens: int) -> Curve:
    """Seconds of attention per token at each context, from full chunks at growing contexts.

    A chunk's mean rate is that at its middle. The first two middles are on the line from 0, so that the first chunk is
    exact.
    """
    starts = _half_octaves(chunk_tokens, LONGEST_TOKENS)
    points = [(start + 0.5 * chunk_tokens, chunk_s(chunk_tokens, start) / chunk_tokens) for start in (0, *starts)]
    (x0, y0), (x1, y1) = points[0], points[1]
    return curve([(0.0, y0 - x0 * (y1 - y0) / (x1 - x0)), *points])


def decode_curve(read_s: Callable[[int], float]) -> Curve:
    """Seconds of one sequence's KV reads in one step at each context, from `read_s(context)`."""
    contexts = _half_octaves(16, LONGEST_TOKENS)
    points = [(float(context), read_s(context)) for context in contexts]
    (x0, y0), (x1, y1) = points[0], points[1]
    return curve([(0.0, y0 - x0 * (y1 - y0) / (x1 - x0)), *points])


def surcharge(chunk_s: ChunkTime, rates: Curve, chunk_tokens: int, token_s: float) -> Surcharge:
    """What chunks shorter than `chunk_tokens` take beyond `rates`; nothing for a full one, and never less than nothing.

    Bounded so that `new * token_s + integral + surcharge` neither falls with a new token nor grows when a new token
    becomes a cached one: along new tokens it falls by at most the rate and half of `token_s`, along cached ones it
    grows by at most half of `token_s`.
    """
    sizes = [size for size in _half_octaves(LEAST_CHUNK_TOKENS, LONGEST_TOKENS) if size < chunk_tokens]
    new_knots = (*sizes, chunk_tokens) if sizes else (LEAST_CHUNK_TOKENS - 1, LEAST_CHUNK_TOKENS)
    cached_knots = (0, *_octaves(64, LONGEST_TOKENS))
    slack_s = 0.5 * token_s
    rows: list[tuple[float, ...]] = []
    for cached in cached_knots:
        row: list[float] = []
        for new in reversed(new_knots):
            seconds = 0.0
            if row:
                seconds = max(0.0, chunk_s(new, cached) - rates.integral(cached + new) + rates.integral(cached))
                step = new_knots[-len(row)] - new
                seconds = min(seconds, row[-1] + step * (rates.rate(cached) + slack_s))
            if rows:
                before = cached_knots[len(rows) - 1]
                seconds = min(seconds, rows[-1][-len(row) - 1] + (cached - before) * slack_s)
            row.append(seconds)
        rows.append(tuple(reversed(row)))
    return Surcharge(tuple(map(float, new_knots)), tuple(map(float, cached_knots)), tuple(rows))


def _octaves(least: int, most: int) -> list[int]:
    return [least << power for power in range(most.bit_length()) if least << power <= most]


def _half_octaves(least: int, most: int) -> list[int]:
    return sorted({round(octave * part) for octave in _octaves(least, most) for part in (1.0, 1.414)})
