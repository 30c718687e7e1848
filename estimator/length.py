"""Output-length quantiles per route, learned online and shrunk toward all traffic."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import exp, log

BINS_PER_DOUBLING = 4
MAX_TOKENS = 131_072
BINS = 17 * BINS_PER_DOUBLING + 1
_LOG_STEP = log(2.0) / BINS_PER_DOUBLING

PRIOR_P50 = 130.0
PRIOR_P90 = 450.0
"""Production chat (Azure LLM inference trace 2023, conversation) has median 129, 90th percentile 424 and mean 211.

The log-normal through 130 and 450 has mean 208; through 424 it would have 198.
"""
PRIOR_WEIGHT = 20.0
"""Observations that the prior counts as, in the global histogram; the global one counts as many in each route."""
MEMORY = 2000.0
"""Observations after which a histogram's counts are halved: routes follow a change within a few thousand requests."""


@dataclass(frozen=True, slots=True)
class OutputLength:
    """A predicted distribution of output tokens. `p50 <= p90`; none of the three exceeds the request's cap."""

    mean: float
    p50: float
    p90: float


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


def _quantile(shares: Sequence[float], q: float) -> float:
    """Linear inside the bin, in the logarithm."""
    seen = 0.0
    target = q * sum(shares)
    for index, share in enumerate(shares):
        if share > 0.0 and seen + share >= target:
            return max(1.0, exp((index - 0.5 + (target - seen) / share) * _LOG_STEP))
        seen += share
    return float(MAX_TOKENS)


def _summary(shares: Sequence[float], cap: float) -> OutputLength:
    """Mean and quantiles of `min(length, cap)`."""
    total = sum(shares)
    mean = sum(share * min(center, cap) for share, center in zip(shares, _CENTERS, strict=True)) / total
    return OutputLength(max(1.0, min(mean, cap)), min(_quantile(shares, 0.5), cap), min(_quantile(shares, 0.9), cap))


class _Route:
    __slots__ = ("by_cap", "histogram", "shares", "stale")

    def __init__(self) -> None:
        self.histogram = _Histogram()
        self.shares: list[float] = []
        self.by_cap: dict[int, OutputLength] = {}
        self.stale = 0


class LengthModel:
    """Output lengths by route key, for one pool. Holds the `max_routes` most recently observed routes.

    A route's quantiles are recomputed at each of its first `refresh_every` observations and at every such number later.
    """

    __slots__ = ("_global", "_max_routes", "_prior", "_refresh_every", "_routes", "_unseen")

    def __init__(self, *, max_routes: int = 2048, refresh_every: int = 16) -> None:
        if max_routes < 1 or refresh_every < 1:
            raise ValueError("max_routes and refresh_every must be at least 1")
        self._max_routes = max_routes
        self._refresh_every = refresh_every
        self._prior = _prior()
        self._global = _Histogram()
        self._routes: OrderedDict[Hashable, _Route] = OrderedDict()
        self._unseen = self._fresh(_Route(), self._prior)

    def __len__(self) -> int:
        return len(self._routes)

    def predict(self, route: Hashable, max_output_tokens: int | None = None) -> OutputLength:
        """Output tokens of the next request on `route`, capped. An unseen route gets that of all traffic."""
        known = self._routes.get(route, self._unseen)
        cap = MAX_TOKENS if max_output_tokens is None else max(1, min(max_output_tokens, MAX_TOKENS))
        # Caps within one bin share an entry, so that a client which varies them cannot grow the cache.
        found = known.by_cap.get(cap)
        if found is None:
            if len(known.by_cap) >= 64:
                known.by_cap.clear()
            found = known.by_cap[cap] = _summary(known.shares, float(cap))
        return found

    def remaining(self, route: Hashable, generated: int, max_output_tokens: int | None = None) -> float:
        """Expected output tokens still to come after `generated` ones. At least 1 below the cap, 0 at it."""
        cap = float(MAX_TOKENS if max_output_tokens is None else max_output_tokens)
        if generated >= cap:
            return 0.0
        shares = self._routes.get(route, self._unseen).shares
        mass = 0.0
        tokens = 0.0
        for share, center in zip(shares, _CENTERS, strict=True):
            if center > generated:
                mass += share
                tokens += share * (min(center, cap) - generated)
        # Past every known length, a request is expected to go on for a tenth of what it has done.
        expected = tokens / mass if mass > 1e-9 else 0.1 * generated
        return min(max(1.0, expected), cap - generated)

    def observe(self, route: Hashable, output_tokens: int) -> None:
        """Learn the length of a request that ended by itself. Counts below 1 are ignored: they say nothing."""
        if output_tokens < 1:
            return
        self._global.add(output_tokens)
        known = self._routes.get(route)
        if known is None:
            known = self._routes[route] = _Route()
            if len(self._routes) > self._max_routes:
                self._routes.popitem(last=False)
        else:
            self._routes.move_to_end(route)
        known.histogram.add(output_tokens)
        known.stale += 1
        if known.histogram.total <= self._refresh_every or known.stale >= self._refresh_every:
            everyone = _shares(self._global, self._prior)
            self._fresh(known, everyone)
            self._unseen.shares = everyone
            self._unseen.by_cap.clear()

    @staticmethod
    def _fresh(route: _Route, everyone: Sequence[float]) -> _Route:
        route.shares = _shares(route.histogram, everyone)
        route.by_cap.clear()
        route.stale = 0
        return route
