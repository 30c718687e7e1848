"""Prompts with an exact token count, which share prefixes exactly where the trace says so.

Counts are exact under the simulated model server's tokenizer, whose tokens are short words. A real tokenizer splits
some of them, so against a real model server believe the report's used input tokens.
"""

from functools import lru_cache

import msgspec

from simulator.tokenizer import text_of
from weighbridge.replay.trace import BLOCK_TOKENS, TracedRequest

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_CACHED_BLOCKS = 4096
_MARKER_LIMIT = 36**5
"""A word of six characters is one token, and one of them tells requests from blocks; numbers wrap around above this."""


class PromptWriter:
    """Writes prompts. Equal `seed`, index and request give equal text, so a second replay finds warm prefix caches.

    `template_tokens` is what the server's chat template adds to a one-message prompt; the text is shorter by that many.
    The simulated model server adds none.
    """

    def __init__(self, *, seed: int, template_tokens: int = 0) -> None:
        self._seed = seed
        self._template_tokens = template_tokens
        self._block = lru_cache(maxsize=_CACHED_BLOCKS)(self._write_block)

    def prompt(self, index: int, request: TracedRequest) -> str:
        """Text of `input_tokens` less the template's, at least one token."""
        left = max(1, request.input_tokens - self._template_tokens)
        if not request.prefix_blocks:
            return self._write(f"{_base36(index)}.", self._seed * 1_000_003 + index, left)
        blocks = []
        for block in request.prefix_blocks:
            if left <= 0:
                break
            blocks.append(self._block(block, min(left, BLOCK_TOKENS)))
            left -= BLOCK_TOKENS
        return " ".join(blocks)

    def _write_block(self, block: int, tokens: int) -> str:
        return self._write(_base36(block), self._seed * 1_000_003 - block - 1, tokens)

    def _write(self, marker: str, text_seed: int, tokens: int) -> str:
        """The marker keeps prompts apart from the first token on: there are only 5.5 million walks of words."""
        return marker if tokens == 1 else f"{marker} {text_of(tokens - 1, text_seed)}"


def chat_body(model: str, prompt: str, *, max_tokens: int) -> bytes:
    """A streaming chat completion that produces exactly `max_tokens` and reports its usage."""
    return msgspec.json.encode(
        {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )


def _base36(number: int) -> str:
    """`number` modulo 36^5 in base 36: at most five characters."""
    number %= _MARKER_LIMIT
    text = ""
    while True:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
        if number == 0:
            return text
