"""The OpenAI request body: the few fields that decide, read once and validated; the bytes travel on.

OpenAI's names (`prompt_tokens`, `max_completion_tokens`) stop here: past this module they are input and output tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from estimator.tokens_text import Sizer, TextSize, typical_size
from gateway.outcome import Outcome, Refusal


class Endpoint(StrEnum):
    """API paths that carry work to a replica."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    EMBEDDINGS = "/v1/embeddings"


_Positive = Annotated[int, msgspec.Meta(ge=1)]
_Choices = Annotated[int, msgspec.Meta(ge=1, le=16384)]
"""vLLM takes no more by default."""
_ABSENT = msgspec.Raw()
_Tokens = list[int]
_Text = str | list[Any]


class _Part(msgspec.Struct, gc=False):
    text: str | None = None


class _Message(msgspec.Struct, gc=False):
    role: str
    content: str | list[_Part] | None = None
    tool_calls: msgspec.Raw = _ABSENT


class _StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


class _Generation(msgspec.Struct, kw_only=True, gc=False):
    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: _Positive | None = None
    n: _Choices | None = None


class _Chat(_Generation, kw_only=True, gc=False):
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    max_completion_tokens: _Positive | None = None
    tools: msgspec.Raw = _ABSENT
    response_format: msgspec.Raw = _ABSENT


class _Completion(_Generation, kw_only=True, gc=False):
    prompt: _Text


class _Embeddings(msgspec.Struct, kw_only=True, gc=False):
    model: str
    input: _Text


@dataclass(slots=True)
class ParsedRequest:
    """What a request asks for, in our words.

    `known_tokens` are counted exactly (prompts given as token ids); text is in `size`. `shape` tells apart requests of
    one tenant and model whose outputs differ in length: endpoint, system prompt, tools, JSON mode, cap.
    """

    endpoint: Endpoint
    model: str
    streams: bool
    usage_asked: bool
    max_output_tokens: int | None
    choices: int
    size: TextSize
    known_tokens: int
    shape: tuple[object, ...]


_chat = msgspec.json.Decoder(_Chat)
_completion = msgspec.json.Decoder(_Completion)
_embeddings = msgspec.json.Decoder(_Embeddings)
_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_options = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)


def _typical(model: str) -> Sizer:
    return typical_size


def parse(endpoint: Endpoint, body: bytes, sizer_of: Callable[[str], Sizer] = _typical) -> ParsedRequest:
    """Read and validate `body`, and size its text as `sizer_of` its model does.

    Raises `Refusal` (bad-request) that names the field and the rule.
    """
    try:
        if endpoint is Endpoint.CHAT:
            return _from_chat(_chat.decode(body), sizer_of)
        if endpoint is Endpoint.COMPLETIONS:
            return _from_completion(_completion.decode(body), sizer_of)
        return _from_embeddings(_embeddings.decode(body), sizer_of)
    except msgspec.ValidationError as error:
        detail = str(error)
        raise Refusal(Outcome.BAD_REQUEST, detail, param=_field(detail)) from None
    except RecursionError:
        raise Refusal(Outcome.BAD_REQUEST, "the body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(Outcome.BAD_REQUEST, f"the body is not valid JSON: {error}") from None


def _field(detail: str) -> str | None:
    """`messages[0].role` from msgspec's "... - at `$.messages[0].role`", or the name of a missing field."""
    start = detail.find("`$.")
    if start >= 0:
        return detail[start + 3 : detail.index("`", start + 3)]
    if "missing required field" in detail:
        return detail.rsplit("`", 2)[-2]
    return None


def _from_chat(body: _Chat, sizer_of: Callable[[str], Sizer]) -> ParsedRequest:
    texts: list[str] = []
    calls: list[bytes] = []
    media = 0
    for message in body.messages:
        content = message.content
        if isinstance(content, str):
            texts.append(content)
        elif content is not None:
            texts += [part.text for part in content if part.text is not None]
            media += sum(part.text is None for part in content)
        calls.append(_given(message.tool_calls))
    tools = _given(body.tools)
    # The chat template renders tools and the calls of earlier turns into the prompt, nearly as they are.
    size = sizer_of(body.model)(texts, (*calls, tools), messages=len(body.messages), media=media)
    first = body.messages[0]
    system = _digest(first.content) if first.role in ("system", "developer") else 0
    cap = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    return ParsedRequest(
        endpoint=Endpoint.CHAT,
        model=body.model,
        streams=body.stream is True,
        usage_asked=body.stream_options is not None and body.stream_options.include_usage is True,
        max_output_tokens=cap,
        choices=body.n or 1,
        size=size,
        known_tokens=0,
        shape=("chat", system, len(tools) > 0, len(_given(body.response_format)) > 0, _bucket(cap)),
    )


def _from_completion(body: _Completion, sizer_of: Callable[[str], Sizer]) -> ParsedRequest:
    size, known = _measure("prompt", body.prompt, sizer_of(body.model))
    return ParsedRequest(
        endpoint=Endpoint.COMPLETIONS,
        model=body.model,
        streams=body.stream is True,
        usage_asked=body.stream_options is not None and body.stream_options.include_usage is True,
        max_output_tokens=body.max_tokens if body.max_tokens is not None else 16,
        choices=body.n or 1,
        size=size,
        known_tokens=known,
        shape=("completion", _bucket(body.max_tokens)),
    )


def _from_embeddings(body: _Embeddings, sizer_of: Callable[[str], Sizer]) -> ParsedRequest:
    size, known = _measure("input", body.input, sizer_of(body.model))
    return ParsedRequest(
        endpoint=Endpoint.EMBEDDINGS,
        model=body.model,
        streams=False,
        usage_asked=True,
        max_output_tokens=None,
        choices=0,
        size=size,
        known_tokens=known,
        shape=("embeddings",),
    )


def _measure(field: str, value: str | list[Any], sizer: Sizer) -> tuple[TextSize, int]:
    """The text and the exact tokens of a string, a list of strings, token ids, or a list of token id lists."""
    texts: list[str] = []
    known = 0
    items: list[Any] = [value] if isinstance(value, str) else value
    for item in items:
        if isinstance(item, str):
            texts.append(item)
        elif isinstance(item, int) and not isinstance(item, bool):
            known += 1
        elif isinstance(item, list) and all(type(token) is int for token in item):
            known += len(item)
        else:
            detail = f"Expected `str`, token ids, or a list of them, got `{type(item).__name__}` - at `$.{field}`"
            raise Refusal(Outcome.BAD_REQUEST, detail, param=field)
    if not items:
        raise Refusal(Outcome.BAD_REQUEST, f"Expected a non-empty value - at `$.{field}`", param=field)
    return sizer(texts), known


def _given(value: msgspec.Raw) -> bytes:
    """The bytes of an optional value; none when it is absent or null."""
    text = bytes(value)
    return b"" if text == b"null" else text


def _digest(content: str | list[_Part] | None) -> int:
    """Of a system prompt's text, however it is split into parts; good within this process."""
    if content is None or isinstance(content, str):
        return hash(content or "")
    return hash("".join(part.text for part in content if part.text is not None))


def _bucket(cap: int | None) -> int:
    """Powers of four: caps that differ little share a length model."""
    return 0 if cap is None else (cap.bit_length() + 1) // 2


def rewrite(body: bytes, *, model: str | None, include_usage: bool) -> bytes:
    """`body` with the replica's model name and/or `stream_options.include_usage`; all other values keep their bytes.

    Raises `Refusal` (bad-request) for a name that is not UTF-8.
    """
    try:
        fields = _raw_object.decode(body)
        options = (_raw_options.decode(fields.get("stream_options", b"null")) if include_usage else None) or {}
    except UnicodeDecodeError as error:
        # `parse` passes over names that it does not know.
        raise Refusal(Outcome.BAD_REQUEST, f"the body is not valid JSON: {error}") from None
    if model is not None:
        fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    if include_usage:
        options["include_usage"] = msgspec.Raw(b"true")
        fields["stream_options"] = msgspec.Raw(msgspec.json.encode(options))
    return msgspec.json.encode(fields)


def model_list(models: list[str], created_at_s: int) -> bytes:
    """The body of `GET /v1/models`."""
    rows = [{"id": name, "object": "model", "created": created_at_s, "owned_by": "weighbridge"} for name in models]
    return msgspec.json.encode({"object": "list", "data": rows})
