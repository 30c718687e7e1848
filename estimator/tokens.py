"""Input tokens from text without tokenizing: a prior per class of characters, corrected by reported counts."""

from math import sqrt
from typing import NamedTuple

ASCII_TOKENS_PER_CHAR = 0.25
"""English text and code in tokenizers of 100k+ entries: 3.5-4.5 characters a token."""
WIDE_TOKENS_PER_CHAR = 0.8
"""Characters beyond ASCII: 0.6-1.0 tokens each in Chinese and Japanese, less in accented Latin text."""
TOKENS_PER_MESSAGE = 4.0
"""Role and separators of the chat template."""

LOW_RATIO = 0.25
HIGH_RATIO = 4.0
"""Bounds of the ratio. A report outside (an image, a hidden system prompt, a bug) counts as the bound."""
FIRST_GAIN = 0.5
LAST_GAIN = 0.05
FULL_GAIN_TOKENS = 64.0
"""Shorter texts teach in proportion to their size: their count is mostly the chat template's."""


class TextSize(NamedTuple):
    """The size of a request's text. `wide_chars` are characters beyond ASCII, `messages` counts chat messages."""

    ascii_chars: int
    wide_chars: int = 0
    messages: int = 0


def prior_tokens(size: TextSize) -> float:
    """The estimate before any observation."""
    return (
        size.ascii_chars * ASCII_TOKENS_PER_CHAR
        + size.wide_chars * WIDE_TOKENS_PER_CHAR
        + size.messages * TOKENS_PER_MESSAGE
    )


class TokenRatio:
    """Observed over prior tokens for one kind of traffic: an exponential average that stays within [0.25, 4].

    The gain falls from 0.5 to 0.05 as observations arrive, so that the first reports count most.
    """

    __slots__ = ("observations", "ratio")

    def __init__(self) -> None:
        self.ratio = 1.0
        self.observations = 0

    def estimate(self, size: TextSize) -> int:
        """Input tokens, at least 1."""
        return max(1, round(prior_tokens(size) * self.ratio))

    def observe(self, size: TextSize, input_tokens: int) -> None:
        """Learn from a reported token count. A count below 1 or a text without size says nothing and is ignored."""
        prior = prior_tokens(size)
        if input_tokens < 1 or prior <= 0.0:
            return
        observed = min(max(input_tokens / prior, LOW_RATIO), HIGH_RATIO)
        self.observations += 1
        gain = max(LAST_GAIN, FIRST_GAIN / sqrt(self.observations)) * min(1.0, prior / FULL_GAIN_TOKENS)
        self.ratio += gain * (observed - self.ratio)
