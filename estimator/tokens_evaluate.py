"""How far token estimates are from a tokenizer's counts: before any report, and as reports come in."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from estimator.tokens import TYPICAL, Prior, TokenFactors, typical_tokens
from estimator.tokens_text import TextSize


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenErrors:
    """Median of |estimate / count - 1|; `None` where there were no such requests."""

    requests: int
    first_ratio: float | None
    """Over all requests, each as the first of its route."""
    later_ratio: float | None
    """Over the requests after `reports` of one route, each learned from once it was estimated."""
    reports: int


def token_errors(
    sizes: Sequence[TextSize], counts: Sequence[int], *, reports: int = 200, prior: Prior = TYPICAL
) -> TokenErrors:
    """Errors of one route's requests in their order; `prior` goes with what sized them.

    Raises `ValueError` for unequal lengths or a count below 1.
    """
    if len(sizes) != len(counts):
        raise ValueError(f"{len(sizes)} sizes, but {len(counts)} counts")
    if any(count < 1 for count in counts):
        raise ValueError("a count is below 1")
    first = [abs(max(1, round(typical_tokens(size))) / count - 1.0) for size, count in zip(sizes, counts, strict=True)]
    factors = TokenFactors(prior=prior)
    online = []
    for size, count in zip(sizes, counts, strict=True):
        online.append(abs(factors.estimate(size) / count - 1.0))
        factors.observe(size, count)
    later = online[reports:]
    return TokenErrors(
        requests=len(first),
        first_ratio=median(first) if first else None,
        later_ratio=median(later) if later else None,
        reports=reports,
    )
