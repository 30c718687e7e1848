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


def _last_of(data: bytes) -> re.Match[bytes] | None:
    """The last usage object when the last mention of the word is something else."""
    found = None
    for one in _USAGE.finditer(data):
        found = one
    return found


def find_usage(data: bytes) -> Usage | None:
    """The last usage object in `data`; `None` when there is none or it is null.

    A search instead of a parse: responses reach megabytes, and the object sits at their end. Text that a model writes
    cannot match, because a quote inside a JSON string is escaped.
    """
    # From the last mention on: a regular expression over the whole would cost more than everything else here.
    mention = data.rfind(b'"usage"')
    if mention < 0:
        return None
    found = _USAGE.match(data, mention) or _last_of(data)
    if found is None:
        return None
    text = found[0]
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
