"""A limit on requests per second: a token bucket whose waiters are served in their order."""

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class TokenBucket:
    """`rate_per_s` tokens flow in, at most `burst` are kept; it starts full.

    A request takes its token at once, on credit if need be, and waits until the token has flowed in. So no later
    request can be served before an earlier one.
    """

    rate_per_s: float
    burst: float
    _tokens: float | None = None
    _at_s: float = 0.0

    def take(self, now_s: float) -> float:
        """Take one token; returns how many seconds to wait before using it, 0 if it is there.

        A clock that goes back adds nothing.
        """
        tokens = self.burst if self._tokens is None else self._tokens
        tokens = min(self.burst, tokens + max(0.0, now_s - self._at_s) * self.rate_per_s) - 1.0
        self._tokens = tokens
        self._at_s = max(self._at_s, now_s)
        return max(0.0, -tokens / self.rate_per_s)

    def give_back(self) -> None:
        """Return a token that was not used."""
        if self._tokens is not None:
            self._tokens = min(self.burst, self._tokens + 1.0)
