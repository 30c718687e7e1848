"""The size of a text by a tokenizer's own counts, with a bound on the work of one request.

Text beyond the bound is sized by its kinds of bytes, times what those are off by in samples that are spread over it.
Counts are remembered by the hash of their text: system prompts and the earlier turns of a chat come again and again.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice

from estimator.tokens import LEAST_TEXT_FACTOR, MOST_TEXT_FACTOR
from estimator.tokens_text import TextSize, text_size

PIECE_CHARACTERS = 2048
"""Text is counted, and its count remembered, in pieces of at most this."""
SAMPLES = 8
SAMPLE_CHARACTERS = 64
"""Where the new text is too long, pieces of one's length in all are counted, and this many samples of the rest."""
CALL_CHARACTERS = 32
"""A call takes as long as this many characters do: a chat of a thousand short messages is bounded too."""
COUNTED_CHARACTERS = PIECE_CHARACTERS + SAMPLES * (SAMPLE_CHARACTERS + CALL_CHARACTERS)
"""What is counted for one request, calls included. A character takes 0.4 us in prose, 1.5 as a digit: 4 ms."""
REMEMBERED_COUNTS = 8192
"""The one that was longest without use goes first. About 250 bytes each. No request looks up more pieces than this."""


class ExactSizer:
    """Sizes requests by `count`, which tells the tokens of a text without any that a template adds."""

    __slots__ = ("_count", "_remembered")

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count = count
        self._remembered: OrderedDict[tuple[int, int], int] = OrderedDict()

    def __call__(
        self, texts: Sequence[str], raw: Sequence[bytes] = (), *, messages: int = 0, media: int = 0
    ) -> TextSize:
        """All tokens as `words`: of `texts`, then of UTF-8 `raw`, each by itself, as templates put tokens between."""
        tokens = 0
        new: list[tuple[tuple[int, int], str]] = []
        pieces = chain.from_iterable(map(_pieces, chain(texts, (text.decode(errors="replace") for text in raw))))
        for piece in islice(pieces, REMEMBERED_COUNTS):
            key = (hash(piece), len(piece))
            known = self._remembered.get(key)
            if known is None:
                new.append((key, piece))
            else:
                self._remembered.move_to_end(key)
                tokens += known
        work = sum(len(piece) + CALL_CHARACTERS for _, piece in new)
        left = work if work <= COUNTED_CHARACTERS else PIECE_CHARACTERS
        beyond: list[str] = []
        for key, piece in new:
            known = self._remembered.get(key)
            if known is None and len(piece) <= left:
                known = self._learn(key, piece)
                left -= len(piece) + CALL_CHARACTERS
            if known is None:
                beyond.append(piece)
            else:
                tokens += known
        beyond.extend(pieces)
        rest = self._sampled("".join(beyond)) if beyond else 0.0
        return TextSize(words=tokens + rest, messages=messages, media=media)

    def _sampled(self, text: str) -> float:
        """Tokens of a text of which samples alone are counted."""
        samples = _samples(text)
        typical = sum(map(_typical, samples))
        ratio = sum(map(self._count, samples)) / typical if typical > 0.0 else 1.0
        return min(max(ratio, LEAST_TEXT_FACTOR), MOST_TEXT_FACTOR) * _typical(text)

    def _learn(self, key: tuple[int, int], text: str) -> int:
        tokens = self._remembered[key] = self._count(text)
        if len(self._remembered) > REMEMBERED_COUNTS:
            self._remembered.popitem(last=False)
        return tokens


def _pieces(text: str) -> Iterator[str]:
    """A text that may be counted at once as it is; a longer one cut before spaces, where tokens begin."""
    start = 0
    while len(text) - start > PIECE_CHARACTERS:
        end = _cut(text, start, PIECE_CHARACTERS)
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def _samples(text: str) -> Sequence[str]:
    """From the middle of each of as many parts as there are samples, from space to space."""
    part = max(SAMPLE_CHARACTERS, -(-len(text) // SAMPLES))
    found = []
    for first in range((part - SAMPLE_CHARACTERS) // 2, len(text), part):
        space = text.find(" ", first, first + SAMPLE_CHARACTERS // 4)
        start = first if space < 0 or not first else space
        found.append(text[start : _cut(text, start, first + SAMPLE_CHARACTERS - start)])
    return found


def _cut(text: str, start: int, most: int) -> int:
    """Where a piece of at most that many characters ends: before the last space of its second half, or at the most."""
    space = text.rfind(" ", start + most // 2, start + most)
    return start + most if space < 0 else space


def _typical(text: str) -> float:
    """Tokens of a typical tokenizer, the text alone."""
    size = text_size(text.encode())
    return size.words + size.digits + size.marks + size.wide
