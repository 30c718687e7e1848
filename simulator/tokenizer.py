"""Text to tokens and back, exactly: `prompt_tokens(text_of(n, seed)) == n`.

A token is a run of at most six printable ASCII characters without white space, or one other visible character.
English comes to about 4.3 bytes a token, Chinese to one token a character, near what byte-pair encoders do, so that
estimating tokens from bytes is as hard here as it is on a real server. White space only separates, hence joining
two texts with a space adds their tokens.
"""

import re
from collections.abc import Iterable

BLOCK_TOKENS = 16
"""Tokens of one KV block: what a prefix hash covers."""

# Atomic: a block must not be made up by cutting words shorter.
_TOKEN = r"(?>[!-~]{1,6}|\S)"
_TOKENS = re.compile(_TOKEN)
_BLOCK = re.compile(rf"(?:\s*+{_TOKEN}){{{BLOCK_TOKENS}}}")
_MASK = (1 << 64) - 1


def _vocabulary() -> tuple[str, ...]:
    """2,357 words of 2 to 4 letters, 3.4 on average. The count is prime, so every stride through them visits all."""
    consonants, vowels = "bdfghklmnprstvwz", "aeiou"
    syllables = [c + v for c in consonants for v in vowels]
    closed = [s + c for s in syllables for c in consonants]
    double = [s + t for s in syllables for t in syllables]
    return (*syllables, *closed, *double[::6][:997])


VOCABULARY = _vocabulary()


def prompt_tokens(text: str) -> int:
    """Number of tokens in `text`; white space alone has none."""
    return len(_TOKENS.findall(text))


def text_of(tokens: int, seed: int) -> str:
    """Words that count exactly `tokens`. A longer text of the same seed begins with a shorter one."""
    start, stride = _walk(seed)
    size = len(VOCABULARY)
    return " ".join([VOCABULARY[(start + i * stride) % size] for i in range(tokens)])


def token_text(index: int, seed: int) -> str:
    """Token `index` of `text_of(..., seed)`, with the space that precedes it: the pieces join to that text."""
    start, stride = _walk(seed)
    word = VOCABULARY[(start + index * stride) % len(VOCABULARY)]
    return f" {word}" if index else word


def prefix_hashes(texts: Iterable[str]) -> tuple[tuple[int, ...], int]:
    """Chained hashes of the full blocks of the joined texts, and the token count of all.

    Two prompts share their first k hashes when their first k blocks are the same text (up to what the hash of a
    string can tell apart). Hashes hold within one process only: Python salts them.
    """
    text = " ".join(texts)
    hashes: list[int] = []
    chain, position = 0, 0
    while block := _BLOCK.match(text, position):
        chain = hash((chain, block[0]))
        hashes.append(chain)
        position = block.end()
    return tuple(hashes), len(hashes) * BLOCK_TOKENS + len(_TOKENS.findall(text, position))


def _walk(seed: int) -> tuple[int, int]:
    """Start and stride of a seed's walk through the vocabulary, by splitmix64's finalizer: near seeds differ."""
    mixed = (seed * 0x9E3779B97F4A7C15 + 0xD1B54A32D192ED03) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    mixed ^= mixed >> 31
    size = len(VOCABULARY)
    return mixed % size, 1 + (mixed >> 32) % (size - 1)
