"""What LiteLLM's responses and the items of its streams tell: tokens used, and whether an item is output.

Three shapes: objects with `usage`, the Responses API's events with `response.usage`, and the Messages API's events as
bytes.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.usage import Usage


def usage_of(response: Any) -> Usage | None:
    """Tokens that a response or an item of a stream reports; `None` where it reports none."""
    usage = _field(response, "usage") or _field(_field(response, "response"), "usage")
    if usage is None:
        return None
    input_tokens = _count(usage, "prompt_tokens", "input_tokens")
    output_tokens = _count(usage, "completion_tokens", "output_tokens")
    if input_tokens is None or (input_tokens == 0 and not output_tokens):
        return None
    details = _field(usage, "prompt_tokens_details") or _field(usage, "input_tokens_details")
    cached = _count(details, "cached_tokens")
    if cached is None:
        cached = _count(usage, "cache_read_input_tokens")
    return Usage(input_tokens, output_tokens or 0, min(cached or 0, input_tokens))


def read_item(item: Any) -> tuple[bool, Usage | None]:
    """Whether an item of a stream is output of the model, and the usage that it reports."""
    if isinstance(item, bytes | str):
        return _event(item if isinstance(item, bytes) else item.encode())
    kind = _field(item, "type")
    if kind is not None:
        return str(getattr(kind, "value", kind)).endswith(".delta"), usage_of(item)
    return bool(_field(item, "choices")), usage_of(item)


def _event(data: bytes) -> tuple[bool, Usage | None]:
    """Of a `message_delta` only the output is sure: the input, where it is not in it, is 0 here."""
    usage = None
    if b'"usage"' in data:
        for line in data.splitlines():
            if line.startswith(b"data:"):
                try:
                    body = msgspec.json.decode(line[5:])
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue
                usage = usage_of(body) or usage_of(_field(body, "message")) or _output_of(body) or usage
    return b"_delta" in data or b'"choices"' in data, usage


def _output_of(body: Any) -> Usage | None:
    """The usage of an event that tells of the output alone."""
    output_tokens = _count(_field(body, "usage"), "output_tokens")
    return Usage(0, output_tokens, 0) if output_tokens else None


def _field(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name)
    return getattr(value, name, None)


def _count(value: Any, *names: str) -> int | None:
    for name in names:
        count = _field(value, name)
        if type(count) is int and count >= 0:
            return count
    return None
