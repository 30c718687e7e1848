"""Token counts that a model server reports in its responses."""

import re
from typing import Annotated, NamedTuple

import msgspec

_USAGE = re.compile(rb'"usage"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')
_Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
"""Beyond it arithmetic could overflow, and nothing true is reported."""


class _Details(msgspec.Struct, gc=False):
    cached_tokens: _Count | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: _Count
    completion_tokens: _Count | None = None
    prompt_tokens_details: _Details | None = None


_decode = msgspec.json.Decoder(_Usage).decode


class Usage(NamedTuple):
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
    try:
        usage = _decode(found[1])
    except msgspec.MsgspecError:
        return None
    details = usage.prompt_tokens_details
    return Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens or 0,
        cached_tokens=(details.cached_tokens or 0) if details is not None else 0,
    )
