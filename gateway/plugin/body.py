"""What a call of LiteLLM asks for, in the words that the gateway weighs: any of its five kinds of body.

The body is read to be weighed and is never changed. One that cannot be read is weighed by its length: what is wrong
with it is for LiteLLM or the model server to say.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from estimator.tokens_text import Sizer
from gateway.openai import Endpoint, ParsedRequest, parse
from gateway.outcome import Refusal

_KINDS = ("/chat/completions", "/completions", "/embeddings", "/responses", "/messages")
"""How the paths end that are weighed; the first that fits."""
_MOST_TOKENS = 1 << 31
_encoder = msgspec.json.Encoder(enc_hook=str)


def kind_of(path: str | None, *, messages: bool) -> str | None:
    """The kind of a call by its URL's path; `None` for what is not weighed (images, audio, files and others).

    A call without a path was not made over HTTP: with messages it is a chat.
    """
    if path is None:
        return _KINDS[0] if messages else None
    return next((kind for kind in _KINDS if path.rstrip("/").endswith(kind)), None)


def read_call(
    kind: str, model: str, body: Mapping[str, Any], sizer_of: Callable[[str], Sizer], *, streams: bool
) -> ParsedRequest:
    """The request to weigh. `body` is what the client sent, as a mapping."""
    try:
        endpoint, fields = _fields(kind, body)
        fields |= {"model": model, "stream": streams}
        return parse(endpoint, _encoder.encode(fields), sizer_of)
    except (Refusal, TypeError, ValueError, RecursionError):
        whole = {"model": model, "stream": streams, "messages": [{"role": "user", "content": _length(body)}]}
        return parse(Endpoint.CHAT, msgspec.json.encode(whole), sizer_of)


def _length(body: Mapping[str, Any]) -> str:
    """A text as long as all texts of a body."""
    texts: list[str] = []
    stack: list[Any] = [body]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, Mapping):
            stack.extend(value.values())
        elif isinstance(value, Sequence):
            stack.extend(value)
    return " ".join(texts)


def _fields(kind: str, body: Mapping[str, Any]) -> tuple[Endpoint, dict[str, Any]]:
    if kind == "/embeddings":
        return Endpoint.EMBEDDINGS, {"input": body.get("input")}
    if kind == "/completions":
        return Endpoint.COMPLETIONS, _given(body, "prompt", "n") | _cap(body, "max_tokens")
    if kind == "/responses":
        return Endpoint.CHAT, _responses(body)
    if kind == "/messages":
        return Endpoint.CHAT, _messages(body)
    fields = _given(body, "messages", "tools", "response_format", "n")
    return Endpoint.CHAT, fields | _cap(body, "max_completion_tokens", "max_tokens")


def _responses(body: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's Responses API: `input` is a text or items, `instructions` are the system prompt."""
    given = body.get("input")
    items: Sequence[Any] = [{"role": "user", "content": given}] if isinstance(given, str) else given or []
    messages = [_system(body.get("instructions")), *map(_item, items)]
    text = body.get("text")
    form = {"response_format": text["format"]} if isinstance(text, Mapping) and text.get("format") else {}
    fields = {"messages": [message for message in messages if message is not None], **_given(body, "tools"), **form}
    return fields | _cap(body, "max_output_tokens")


def _item(item: Any) -> dict[str, Any] | None:
    """One item of the Responses API: a message, or a call of a tool and what that returned."""
    if not isinstance(item, Mapping):
        return None
    if "content" in item:
        return {"role": str(item.get("role", "user")), "content": item["content"]}
    return {
        "role": "tool",
        "content": " ".join(str(item[key]) for key in ("name", "arguments", "output") if key in item),
    }


def _messages(body: Mapping[str, Any]) -> dict[str, Any]:
    """Anthropic's Messages API: `system` is a text or blocks, `content` of messages too."""
    turns = [
        {"role": str(turn.get("role", "user")), "content": _blocks(turn.get("content"))}
        for turn in body.get("messages") or ()
        if isinstance(turn, Mapping)
    ]
    system = _system(_blocks(body.get("system")))
    return {"messages": [*([system] if system else []), *turns], **_given(body, "tools")} | _cap(body, "max_tokens")


def _blocks(content: Any) -> Any:
    """Blocks with what tools were told and returned as text, and anything that is no text as a medium."""
    if not isinstance(content, Sequence) or isinstance(content, str):
        return content
    return [_block(block) for block in content if isinstance(block, Mapping)]


def _block(block: Mapping[str, Any]) -> dict[str, Any]:
    kind = block.get("type")
    if kind == "tool_use":
        return {"text": f"{block.get('name', '')} {msgspec.json.encode(block.get('input'), enc_hook=str).decode()}"}
    if kind == "tool_result":
        inner = block.get("content")
        return {"text": inner if isinstance(inner, str) else _length({"content": inner or []})}
    if isinstance(block.get("thinking"), str):
        return {"text": block["thinking"]}
    return {"text": block.get("text")}


def _system(content: Any) -> dict[str, Any] | None:
    return {"role": "system", "content": content} if content else None


def _given(body: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: body[key] for key in keys if body.get(key) is not None}


def _cap(body: Mapping[str, Any], *keys: str) -> dict[str, int]:
    """The bound on the output; one that is no whole number above 0 is not one."""
    for key in keys:
        value = body.get(key)
        if type(value) is int and 0 < value < _MOST_TOKENS:
            return {"max_tokens": value}
    return {}
