"""Token counts that a model server reports in its responses."""

import re
from dataclasses import dataclass

_USAGE = re.compile(rb'"usage"\s*:\s*\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}')
_INPUT = re.compile(rb'"prompt_tokens"\s*:\s*(\d+)')
_OUTPUT = re.compile(rb'"completion_tokens"\s*:\s*(\d+)')
_CACHED = re.compile(rb'"cached_tokens"\s*:\s*(\d+)')


@dataclass(frozen=True, slots=True)
class Usage:
    """`cached_tokens` is 0 when the model server does not report prefix hits."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int


def find_usage(data: bytes) -> Usage | None:
    """The last usage object in `data`; `None` when there is none or it is null.

    A search instead of a parse: responses reach megabytes, and the object sits at their end. Text that a model writes
    cannot match, because a quote inside a JSON string is escaped.
    """
    found = _USAGE.findall(data)
    if not found:
        return None
    text = found[-1]
    given = _INPUT.search(text)
    if given is None:
        return None
    made = _OUTPUT.search(text)
    cached = _CACHED.search(text)
    return Usage(
        input_tokens=int(given[1]),
        output_tokens=int(made[1]) if made else 0,
        cached_tokens=int(cached[1]) if cached else 0,
    )
