"""A client's request as arguments for the SDK: what every provider is asked in the same words, and nothing else.

The body is a stranger's. The SDK takes its own switches (`api_base`, `mock_response`, `fallbacks`) by the same call as
the fields of the OpenAI API, so only fields that are listed here are passed on. A field that is not would change the
answer if it were dropped: such a request is not portable, and waits for a replica. So does one that names an address to
fetch, which only its own server may.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import msgspec


class Call(StrEnum):
    """What is asked of a hosted model, by the end of its path."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"


_BOTH = frozenset(
    {
        "frequency_penalty", "logit_bias", "max_tokens", "n", "presence_penalty", "seed", "stop", "stream",
        "stream_options", "temperature", "top_p", "user",
    }
)  # fmt: skip
PORTABLE = {
    Call.CHAT: _BOTH
    | {
        "function_call", "functions", "logprobs", "max_completion_tokens", "messages",
        "parallel_tool_calls", "prediction", "reasoning_effort", "response_format", "tool_choice", "tools",
        "top_logprobs", "verbosity",
    },
    Call.COMPLETIONS: _BOTH | {"best_of", "echo", "logprobs", "prompt", "suffix"},
}  # fmt: skip
DROPPED = frozenset({"model", "metadata", "priority", "store", "service_tier"})
"""The hosted model has a name of its own; the rest says how a server keeps or orders a request, not what it answers."""
NEEDED = {Call.CHAT: "messages", Call.COMPLETIONS: "prompt"}


class NotPortable(Exception):
    """A hosted model would answer something else, or nothing. The message names fields, never their values."""


def arguments(call: Call, body: bytes) -> dict[str, Any]:
    """The arguments of the SDK's call. Raises `NotPortable`."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NotPortable("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise NotPortable("the body is not an object")
    given = {name: value for name, value in fields.items() if value is not None and name not in DROPPED}
    foreign = sorted(given.keys() - PORTABLE[call])
    if foreign:
        raise NotPortable(f"not in every provider's API: {', '.join(foreign)[:200]}")
    if NEEDED[call] not in given:
        raise NotPortable(f"{NEEDED[call]} is missing")
    if not all(map(_self_contained, _parts(given.get("messages")))):
        raise NotPortable("messages must hold what they are about: text, and images and audio as data")
    if not all(_is_function(tool) for tool in _listed(given.get("tools"))):
        raise NotPortable("tools must be functions of the client")
    return given


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _parts(messages: Any) -> Iterator[Any]:
    """The parts of all messages that are not plain text."""
    for message in _listed(messages):
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(content, str):
            yield from _listed(content)


def _self_contained(part: Any) -> bool:
    """Whether nobody has to fetch anything for it: for some providers the SDK would, from inside this network."""
    if not isinstance(part, dict):
        return False
    match part.get("type"):
        case "text" | "refusal" | "input_audio":
            return True
        case "image_url":
            image = part.get("image_url")
            url = image.get("url") if isinstance(image, dict) else image
            return isinstance(url, str) and url[:5].lower() == "data:"
    return False


def _is_function(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") == "function"
