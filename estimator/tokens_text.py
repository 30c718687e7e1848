"""The size of a text in tokens of a typical tokenizer, by counting kinds of bytes.

The tokens per byte are a least-squares fit (relative error, weights not below zero) to 6 million characters of code,
documentation, JSON, manual pages and user interface texts in 18 languages, counted by the tokenizers of Llama 3, Qwen,
DeepSeek and Mistral (Tekken).
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

HEAD_BYTES = 2048
STRIDE_BYTES = 4096
SAMPLE_BYTES = 256
"""A text's first 2 KiB are counted whole, then the first 256 bytes of every 4 KiB, which stand for all of them."""

_ASCII = bytes(range(128))
_BEYOND = bytes(range(128, 256))
_LOWER = bytes(range(ord("a"), ord("z") + 1))
_UPPER = bytes(range(ord("A"), ord("Z") + 1))
_DIGITS = bytes(range(ord("0"), ord("9") + 1))
_SPACE_AND_CONTROL = bytes([*range(33), 127])
_INDENT = b"    "

LOWER_TOKENS = 0.212
UPPER_TOKENS = 0.333
SPACE_TOKENS = 0.128
"""Four spaces in a row count as three: indentation is cheaper than gaps between words."""
DIGIT_TOKENS = 1.065
"""Tokenizers that make one token of three digits need a third: digits are a kind of their own, to be corrected."""
MARK_TOKENS = 0.57
LINE_TOKENS = 0.543
"""Line ends, tabs, other control characters."""
WIDE_TOKENS = (
    (bytes(range(0x80, 0xC2)), 0.0),  # continuation bytes: their character is counted by its first
    (bytes(range(0xC2, 0xCE)), 1.563),  # accented Latin letters
    (bytes(range(0xCE, 0xE0)), 0.4),  # Greek, Cyrillic, Hebrew, Arabic
    (bytes(range(0xE0, 0xE3)), 0.542),  # Indic scripts, Thai, typographic marks
    (b"\xe3", 0.677),  # kana
    (bytes(range(0xE4, 0xEA)), 0.94),  # Chinese characters
    (bytes(range(0xEA, 0xEE)), 0.816),  # Hangul
    (bytes(range(0xEE, 0x100)), 2.5),  # emoji: 1.4 to 4.4 in the tokenizers of the fit, whose texts have none
)
"""First bytes of UTF-8 characters beyond ASCII, and tokens per character."""


class TextSize(NamedTuple):
    """A request's text.

    `words`, `digits`, `marks` and `wide` (characters beyond ASCII) are tokens of a typical tokenizer, unrounded; where
    the model's own tokenizer counts, all of its tokens are `words`. `messages` counts chat messages, `media` parts that
    are no text: images, sound, files.
    """

    words: float = 0.0
    digits: float = 0.0
    marks: float = 0.0
    wide: float = 0.0
    messages: int = 0
    media: int = 0


NO_TEXT = TextSize()


class Sizer(Protocol):
    """Sizes a request's text, which comes in pieces: `texts`, then `raw` in UTF-8."""

    def __call__(
        self, texts: Sequence[str], raw: Sequence[bytes] = (), *, messages: int = 0, media: int = 0
    ) -> TextSize: ...


def typical_size(texts: Sequence[str], raw: Sequence[bytes] = (), *, messages: int = 0, media: int = 0) -> TextSize:
    """`text_size` of all pieces, one after the other: the `Sizer` that needs no tokenizer."""
    return text_size(b"".join(("".join(texts).encode(), *raw)), messages=messages, media=media)


def text_size(text: bytes, *, messages: int = 0, media: int = 0) -> TextSize:
    """The size of UTF-8 `text`. Nothing in it falls when text is appended; a text beyond 2 KiB is sampled."""
    if not text:
        return TextSize(messages=messages, media=media)
    if len(text) <= HEAD_BYTES:
        words, digits, marks, wide = _count(text)
        return TextSize(words, digits, marks, wide, messages, media)
    words, digits, marks, wide = _count(text[:HEAD_BYTES])
    end = len(text) - (len(text) - HEAD_BYTES) % STRIDE_BYTES
    # The separator counts as nothing and keeps spaces of two samples apart.
    samples = b"\x80".join([text[start : start + SAMPLE_BYTES] for start in range(HEAD_BYTES, end, STRIDE_BYTES)])
    last = text[end : end + SAMPLE_BYTES]
    for sample, scale in ((samples, STRIDE_BYTES / SAMPLE_BYTES), (last, (len(text) - end) / max(1, len(last)))):
        if sample:
            more_words, more_digits, more_marks, more_wide = _count(sample)
            words += scale * more_words
            digits += scale * more_digits
            marks += scale * more_marks
            wide += scale * more_wide
    return TextSize(words, digits, marks, wide, messages, media)


def _count(text: bytes) -> tuple[float, float, float, float]:
    """Words, digits, marks and characters beyond ASCII, in tokens.

    Each `translate` deletes one kind at a nanosecond a byte or less, so the next ones see a fraction of the text.
    """
    length = len(text)
    rest = text.translate(None, _LOWER)
    lower = length - len(rest)
    length = len(rest)
    rest = rest.translate(None, _UPPER)
    upper = length - len(rest)
    length = len(rest)
    rest = rest.translate(None, _DIGITS)
    digits = length - len(rest)
    wide = 0.0
    if not rest.isascii():
        beyond = rest.translate(None, _ASCII)
        rest = rest.translate(None, _BEYOND)
        for kind, tokens in WIDE_TOKENS:
            length = len(beyond)
            beyond = beyond.translate(None, kind)
            wide += (length - len(beyond)) * tokens
    length = len(rest)
    marks = len(rest.translate(None, _SPACE_AND_CONTROL))
    spaces = rest.count(b" ")
    lines = length - marks - spaces
    gaps = spaces - text.count(_INDENT)
    return (
        lower * LOWER_TOKENS + upper * UPPER_TOKENS + gaps * SPACE_TOKENS,
        digits * DIGIT_TOKENS,
        marks * MARK_TOKENS + lines * LINE_TOKENS,
        wide,
    )
