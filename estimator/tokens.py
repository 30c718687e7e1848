"""Input tokens from a text's size, corrected by reported counts: per route, which starts as its endpoint is."""

from collections import OrderedDict
from collections.abc import Hashable
from math import sqrt
from typing import NamedTuple

from estimator.tokens_text import TextSize

TOKENS_PER_MESSAGE = 5.0
"""Role and separators of the chat template."""
TOKENS_PER_REQUEST = 1.0
"""What a model server puts before any text: the token that begins a sequence, a hidden system prompt."""
TOKENS_PER_MEDIA_PART = 600.0
"""An image of a million pixels takes 250 to 1600 tokens."""

_KINDS = 7
LEAST_TEXT_FACTOR, MOST_TEXT_FACTOR = 0.25, 4.0
"""Bounds of what a tokenizer makes of text, over a typical one's tokens."""
_LOW = (*(LEAST_TEXT_FACTOR,) * 4, 0.0, 0.0, 0.0)
_HIGH = (*(MOST_TEXT_FACTOR,) * 4, 100.0, 4000.0, 20.0)
"""Bounds of the factors of words, digits, marks, wide characters, messages, requests and media parts."""

_DRIFT = 0.0044
"""The share of its own variance that a factor gains back with each report, so that traffic that changes is followed."""


class Prior(NamedTuple):
    """What is known of the factors before any report, as standard deviations."""

    common: float
    """How far a tokenizer as a whole may be from the one that sized the text: shared by the four text factors."""
    own: tuple[float, ...]
    """How far each factor may be from what they share."""
    noise: float
    """Two texts with the same counts differ by this much in tokens, relatively."""

    def shared(self, row: int, column: int) -> float:
        """Covariance of two factors."""
        return self.common * self.common if row < 4 and column < 4 else 0.0

    def variance(self, kind: int) -> float:
        """Variance of one."""
        return self.shared(kind, kind) + self.own[kind] * self.own[kind]


TYPICAL = Prior(common=0.3, own=(0.15, 0.15, 0.15, 0.15, 3.0, 100.0, 1.0), noise=0.03)
"""Of text sized by kinds of bytes."""
EXACT = Prior(common=0.0, own=(0.1, 0.1, 0.1, 0.1, 3.0, 100.0, 1.0), noise=0.01)
"""Of text that the model's tokenizer counted: what is left is the template, and how it writes tool schemas."""

_OUTLIER = 3.0
"""A report further off than this many standard deviations moves the factors as one just so far off does."""
_LOWEST, _HIGHEST = 0.05, 20.0
"""Reported over typical tokens are taken within these bounds."""

MAX_ROUTES = 256
"""Routes with factors of their own; the one that was longest without a report goes first. About 2 KB each."""


def typical_tokens(size: TextSize) -> float:
    """The estimate before any report, unrounded."""
    return sum(_parts(size))


def _parts(size: TextSize) -> tuple[float, float, float, float, float, float, float]:
    words, digits, marks, wide, messages, media = size
    return (
        words,
        digits,
        marks,
        wide,
        messages * TOKENS_PER_MESSAGE,
        TOKENS_PER_REQUEST,
        media * TOKENS_PER_MEDIA_PART,
    )


class TokenFactors:
    """One factor per kind of text, by recursive least squares (a Kalman filter with slowly drifting factors).

    The regressors are the kinds' shares of the typical tokens, so that the error is relative, and reports about short
    texts teach less. Factors stay within bounds that are not below zero: an estimate never falls when text is added.
    """

    __slots__ = ("_covariance", "_prior", "factors")

    def __init__(self, parent: "TokenFactors | None" = None, prior: Prior = TYPICAL) -> None:
        self._prior = prior
        self.factors: list[float] = [1.0] * _KINDS if parent is None else list(parent.factors)
        self._covariance = [
            [prior.variance(row) if row == column else prior.shared(row, column) for column in range(_KINDS)]
            for row in range(_KINDS)
        ]

    def estimate(self, size: TextSize) -> int:
        """Input tokens, at least 1."""
        words, digits, marks, wide, messages, request, media = self.factors
        return max(
            1,
            round(
                size.words * words
                + size.digits * digits
                + size.marks * marks
                + size.wide * wide
                + size.messages * TOKENS_PER_MESSAGE * messages
                + TOKENS_PER_REQUEST * request
                + size.media * TOKENS_PER_MEDIA_PART * media
            ),
        )

    def observe(self, size: TextSize, input_tokens: int) -> None:
        """Learn from a reported count. A count below 1 says nothing and is ignored."""
        if input_tokens < 1:
            return
        parts = _parts(size)
        typical = sum(parts)
        shares = [part / typical for part in parts]
        observed = min(max(input_tokens / typical, _LOWEST), _HIGHEST)
        # A factor that would leave its bounds stops there, and the others explain the rest of the error.
        held: set[int] = set()
        while (stopped := self._correct(shares, observed, 1.0 / input_tokens, held)) is not None:
            held.add(stopped)

    def _correct(self, shares: list[float], observed: float, count_variance: float, held: set[int]) -> int | None:
        """Correct the factors that are not held; or put one that would leave its bounds there, and return its kind."""
        factors, covariance, prior = self.factors, self._covariance, self._prior
        free = [kind for kind in range(_KINDS) if kind not in held]
        shown = [kind for kind in free if shares[kind] > 0.0]
        error = observed - sum(share * factor for share, factor in zip(shares, factors, strict=True))
        reach = [sum(covariance[kind][other] * shares[other] for other in shown) for kind in range(_KINDS)]
        known = sum(shares[kind] * reach[kind] for kind in shown)
        # A count of n tokens is off by the square root of n at least.
        variance = max(known, 0.0) + prior.noise * prior.noise + count_variance
        limit = _OUTLIER * sqrt(variance)
        if abs(error) > limit:
            variance *= abs(error) / limit
        corrected = [factors[kind] + reach[kind] / variance * error for kind in range(_KINDS)]
        for kind in shown:
            if not _LOW[kind] <= corrected[kind] <= _HIGH[kind]:
                factors[kind] = min(max(corrected[kind], _LOW[kind]), _HIGH[kind])
                for other in range(_KINDS):
                    # What the others are found to be says nothing about one that stands at its bound.
                    if other != kind:
                        covariance[kind][other] = covariance[other][kind] = 0.0
                return kind
        for kind in free:
            factors[kind] = min(max(corrected[kind], _LOW[kind]), _HIGH[kind])
            row, gain = covariance[kind], reach[kind] / variance
            for other in free:
                row[other] -= gain * reach[other]
            # What no report is about does not become ever less certain.
            row[kind] = min(max(row[kind], 0.0) + _DRIFT * prior.own[kind] * prior.own[kind], prior.variance(kind))
        return None


class TokenRoutes:
    """Factors per route. A route without reports is estimated as its endpoint is; an endpoint without any, as typical.

    An endpoint learns from the reports of all its routes. Endpoints are few; routes are bounded by `max_routes`.
    """

    def __init__(self, prior: Prior = TYPICAL, *, max_routes: int = MAX_ROUTES) -> None:
        self._prior = prior
        self._max_routes = max_routes
        self._routes: OrderedDict[tuple[Hashable, Hashable], TokenFactors] = OrderedDict()
        self._endpoints: dict[Hashable, TokenFactors] = {}
        self._typical = TokenFactors(prior=prior)

    def __len__(self) -> int:
        """Routes with factors of their own."""
        return len(self._routes)

    def estimate(self, endpoint: Hashable, route: Hashable, size: TextSize) -> int:
        """Input tokens, at least 1."""
        factors = self._routes.get((endpoint, route)) or self._endpoints.get(endpoint) or self._typical
        return factors.estimate(size)

    def observe(self, endpoint: Hashable, route: Hashable, size: TextSize, input_tokens: int) -> None:
        """Learn from a reported count. A count below 1 says nothing and is ignored."""
        if input_tokens < 1:
            return
        parent = self._endpoints.get(endpoint)
        if parent is None:
            parent = self._endpoints[endpoint] = TokenFactors(prior=self._prior)
        key = (endpoint, route)
        factors = self._routes.get(key)
        if factors is None:
            factors = self._routes[key] = TokenFactors(parent, self._prior)
            if len(self._routes) > self._max_routes:
                self._routes.popitem(last=False)
        self._routes.move_to_end(key)
        factors.observe(size, input_tokens)
        parent.observe(size, input_tokens)
