"""The size of a text by a tokenizer's own counts, with a bound on the work of one request.

Text beyond the bound is sized by its kinds of bytes, times what those were off by in the text that was counted. Counts
are remembered by the hash of their text: system prompts and the earlier turns of a chat come again and again.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from estimator.tokens_text import TextSize, text_size

COUNTED_CHARACTERS = 2048
"""New text that is counted for one request. A character takes 0.4 us in prose, 1.5 as a digit or CJK: 3 ms."""
CALL_CHARACTERS = 32
"""A call takes as long as this many characters do: a chat of a thousand short messages is bounded too."""
REMEMBERED_COUNTS = 8192
"""The one that was longest without use goes first. About 250 bytes each."""


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
        left, tokens = COUNTED_CHARACTERS, 0
        counted: list[str] = []
        beyond: list[str] = []
        for piece in chain.from_iterable(map(_pieces, chain(texts, (text.decode(errors="replace") for text in raw)))):
            key = (hash(piece), len(piece))
            known = self._remembered.get(key)
            if known is not None:
                self._remembered.move_to_end(key)
            elif len(piece) <= left:
                known = self._learn(key, piece)
                left -= len(piece) + CALL_CHARACTERS
            else:
                beyond.append(piece)
                continue
            tokens += known
            counted.append(piece)
        if not beyond:
            return TextSize(words=float(tokens), messages=messages, media=media)
        typical = _typical(counted)
        ratio = tokens / typical if typical > 0.0 else 1.0
        return TextSize(words=tokens + ratio * _typical(beyond), messages=messages, media=media)

    def _learn(self, key: tuple[int, int], text: str) -> int:
        tokens = self._remembered[key] = self._count(text)
        if len(self._remembered) > REMEMBERED_COUNTS:
            self._remembered.popitem(last=False)
        return tokens


def _pieces(text: str) -> Iterator[str]:
    """A text that may be counted at once as it is; a longer one cut before spaces, where tokens begin."""
    start = 0
    while len(text) - start > COUNTED_CHARACTERS:
        most = start + COUNTED_CHARACTERS
        space = text.rfind(" ", start + COUNTED_CHARACTERS // 2, most)
        end = most if space < 0 else space
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def _typical(pieces: Sequence[str]) -> float:
    """Tokens of a typical tokenizer, the text alone."""
    size = text_size("".join(pieces).encode())
    return size.words + size.digits + size.marks + size.wide
