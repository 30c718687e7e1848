"""Chat requests of a given size, as JSON text."""

import json
import random

WORDS = (
    *(
        "the",
        "of",
        "a",
        "it",
        "and",
        "how",
        "long",
        "must",
        "I",
        "wait",
        "for",
        "my",
        "turn",
        "please",
        "explain",
        "in",
    ),
    *(
        "bridge",
        "axle",
        "tonnes",
        "weigh",
        "lorry",
        "before",
        "crosses",
        "scale",
        "driver",
        "asks",
        "sentences",
        "invoice",
    ),
)
SYSTEM = 'You are a careful clerk. Answer with facts, quote "exactly", and keep to the question.'


def chat_body(size_bytes: int, rng: random.Random, *, stream: bool = False) -> str:
    """One chat completion request of exactly `size_bytes` bytes (at least 400), several turns long."""
    turns = 3
    messages = [{"role": "system", "content": SYSTEM}]
    messages += [{"role": ("user", "assistant")[turn % 2], "content": ""} for turn in range(turns)]
    request = {"model": "bench", "messages": messages, "max_tokens": 64, "temperature": 0.7, "stream": stream}
    room = size_bytes - len(json.dumps(request))
    if room < turns:
        raise ValueError(f"a chat request of {size_bytes} bytes has no room for its prompt")
    for turn in range(turns):
        messages[turn + 1]["content"] = _text(room // turns + (room % turns if turn == 0 else 0), rng)
    return json.dumps(request)


def _text(size: int, rng: random.Random) -> str:
    words: list[str] = []
    left = size
    while left > 0:
        words.append(rng.choice(WORDS))
        left -= len(words[-1]) + 1
    return " ".join(words)[:size].ljust(size, ".")
