"""Output-length quantiles per route, learned online and shrunk toward all traffic."""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from itertools import accumulate
from math import exp, log
from typing import NamedTuple

BINS_PER_DOUBLING = 8
"""A bin is 9 % wide: the resolution of every quantile."""
_DOUBLINGS = 17
MAX_TOKENS = 2**_DOUBLINGS
BINS = _DOUBLINGS * BINS_PER_DOUBLING + 1
_LOG_STEP = log(2.0) / BINS_PER_DOUBLING

PRIOR_P50 = 130.0
PRIOR_P90 = 450.0
"""Production chat (Azure LLM inference trace 2023, conversation) has median 129, 90th percentile 424 and mean 211.

The log-normal through 130 and 450 has mean 208; through 424 it would have 198.
"""
PRIOR_WEIGHT = 20.0
"""Observations that the prior counts as, in the global histogram; the global one counts as many in each route."""
MOST_CAPS = 64
"""Predictions remembered per route and shape."""
MEMORY = 2000.0
"""Observations after which a histogram's counts are halved: routes follow a change within a few thousand requests."""


class OutputLength(NamedTuple):
    """A predicted distribution of output tokens. `p50 <= p90`; none of the three exceeds the request's cap."""

    mean: float
    p50: float
    p90: float
    mean_square: float = 0.0
    """Mean of the squared length, which KV reads grow with. 0 when it is not known: then `mean` squared stands in."""


def _bin(tokens: float) -> int:
    return min(BINS - 1, int(log(tokens) / _LOG_STEP + 0.5)) if tokens > 1.0 else 0


_CENTERS = tuple(exp(index * _LOG_STEP) for index in range(BINS))


def _prior() -> list[float]:
    """A log-normal with the prior's median and 90th percentile, summing to 1."""
    sigma = log(PRIOR_P90 / PRIOR_P50) / 1.2816
    density = [exp(-0.5 * ((log(center) - log(PRIOR_P50)) / sigma) ** 2) for center in _CENTERS]
    total = sum(density)
    return [value / total for value in density]


class _Histogram:
    """Decayed counts over log-spaced bins."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0.0] * BINS
        self.total = 0.0

    def add(self, tokens: int) -> None:
        self.counts[_bin(tokens)] += 1.0
        self.total += 1.0
        if self.total > MEMORY:
            self.counts = [count * 0.5 for count in self.counts]
            self.total *= 0.5


def _shares(histogram: _Histogram, prior: Sequence[float]) -> list[float]:
    """The histogram blended with `prior`, which counts as `PRIOR_WEIGHT` observations. Sums to 1."""
    scale = 1.0 / (histogram.total + PRIOR_WEIGHT)
    return [(count + PRIOR_WEIGHT * share) * scale for count, share in zip(histogram.counts, prior, strict=True)]


class _Shape:
    """A distribution, summed up so that a prediction under any cap costs a constant number of operations."""

    __slots__ = ("_capped", "p50", "p90", "share_below", "squares_below", "tokens_below")

    def __init__(self, shares: Sequence[float]) -> None:
        """`shares` over the bins sum to 1. Element i of the running sums covers the bins before i."""
        self.share_below = (0.0, *accumulate(shares))
        self.tokens_below = (0.0, *accumulate(share * center for share, center in zip(shares, _CENTERS, strict=True)))
        self.squares_below = (0.0, *accumulate(share * c * c for share, c in zip(shares, _CENTERS, strict=True)))
        self._capped: dict[float, OutputLength] = {}
        self.p50 = self._quantile(0.5)
        self.p90 = self._quantile(0.9)

    def capped(self, cap: float) -> OutputLength:
        """Mean and quantiles of `min(length, cap)`. Clients use few caps: the last ones are remembered."""
        known = self._capped.get(cap)
        if known is not None:
            return known
        index = _bins_up_to(cap)
        capped_share = max(0.0, 1.0 - self.share_below[index])
        mean = max(1.0, min(cap, self.tokens_below[index] + cap * capped_share))
        mean_square = max(mean * mean, self.squares_below[index] + cap * cap * capped_share)
        length = OutputLength(mean, min(self.p50, cap), min(self.p90, cap), mean_square)
        if len(self._capped) >= MOST_CAPS:
            self._capped.clear()
        self._capped[cap] = length
        return length

    def beyond(self, generated: float, cap: float) -> float | None:
        """Mean of `min(length, cap) - generated` over lengths above `generated`; `None` when there are none."""
        low, high = _bins_up_to(generated), _bins_up_to(cap)
        mass = 1.0 - self.share_below[low]
        if mass < 1e-9:
            return None
        tokens = self.tokens_below[high] - self.tokens_below[low] + cap * max(0.0, 1.0 - self.share_below[high])
        return tokens / mass - generated

    def _quantile(self, q: float) -> float:
        """Linear in the logarithm inside the bin."""
        index = min(bisect_left(self.share_below, q), BINS)
        below, above = self.share_below[index - 1], self.share_below[index]
        part = min(1.0, (q - below) / (above - below)) if above > below else 0.5
        return max(1.0, exp((index - 1.5 + part) * _LOG_STEP))


def _bins_up_to(tokens: float) -> int:
    """How many bins have their center at or below `tokens`."""
    return min(BINS, int(log(tokens) / _LOG_STEP + 1e-9) + 1) if tokens >= 1.0 else 0


class _Route:
    __slots__ = ("histogram", "shape", "unread")

    def __init__(self, shape: _Shape) -> None:
        self.histogram = _Histogram()
        self.shape = shape
        self.unread = 0


class LengthModel:
    """Output lengths by route key, for one pool. Holds the `max_routes` most recently observed routes.

    A route's shape is recomputed (about 40 us) at each of its first `refresh_every` observations and then at every such
    number, so that `predict` only reads.
    """

    __slots__ = ("_everyone", "_global", "_max_routes", "_prior", "_refresh_every", "_routes", "_unread")

    def __init__(self, *, max_routes: int = 2048, refresh_every: int = 16) -> None:
        if max_routes < 1 or refresh_every < 1:
            raise ValueError("max_routes and refresh_every must be at least 1")
        self._max_routes = max_routes
        self._refresh_every = refresh_every
        self._prior = _prior()
        self._global = _Histogram()
        self._everyone = _Shape(self._prior)
        self._routes: OrderedDict[Hashable, _Route] = OrderedDict()
        self._unread = 0

    def __len__(self) -> int:
        return len(self._routes)

    def predict(self, route: Hashable, max_output_tokens: int | None = None) -> OutputLength:
        """Output tokens of the next request on `route`, capped. An unseen route gets the distribution of all traffic.

        A cap below 1 counts as 1: a request that runs at all produces a token.
        """
        known = self._routes.get(route)
        shape = self._everyone if known is None else known.shape
        cap = MAX_TOKENS if max_output_tokens is None else max(1, min(max_output_tokens, MAX_TOKENS))
        return shape.capped(float(cap))

    def remaining(self, route: Hashable, generated: int, max_output_tokens: int | None = None) -> float:
        """Expected output tokens after `generated` ones, by the route's longer lengths. 0 at the cap, else 1 or more.

        Past every known length, a request is expected to go on for a tenth of what it has done.
        """
        cap = float(MAX_TOKENS if max_output_tokens is None else max_output_tokens)
        if generated >= cap:
            return 0.0
        known = self._routes.get(route)
        shape = self._everyone if known is None else known.shape
        expected = shape.beyond(float(generated), cap)
        return min(max(1.0, 0.1 * generated if expected is None else expected), cap - generated)

    def observe(self, route: Hashable, output_tokens: int) -> None:
        """Learn the length of a request that ended by itself. Counts below 1 are ignored: they say nothing."""
        if output_tokens < 1:
            return
        self._global.add(output_tokens)
        self._unread += 1
        if self._due(self._global, self._unread):
            self._everyone = _Shape(_shares(self._global, self._prior))
            self._unread = 0
        known = self._routes.get(route)
        if known is None:
            known = self._routes[route] = _Route(self._everyone)
            if len(self._routes) > self._max_routes:
                self._routes.popitem(last=False)
        else:
            self._routes.move_to_end(route)
        known.histogram.add(output_tokens)
        known.unread += 1
        if self._due(known.histogram, known.unread):
            known.shape = _Shape(_shares(known.histogram, _shares(self._global, self._prior)))
            known.unread = 0

    def _due(self, histogram: _Histogram, unread: int) -> bool:
        return histogram.total <= self._refresh_every or unread >= self._refresh_every
