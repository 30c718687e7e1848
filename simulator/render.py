"""OpenAI JSON out: bodies and server-sent events, byte for byte in vLLM's layout."""

import base64
import struct
from random import Random
from typing import Any

import msgspec

from simulator.request import Completion
from simulator.tokenizer import text_of, token_text

DONE = b"data: [DONE]\n\n"


def usage_of(completion: Completion) -> dict[str, Any]:
    """`prompt_tokens_details` is what vLLM reports with `--enable-prompt-tokens-details`."""
    usage: dict[str, Any] = {
        "prompt_tokens": completion.input_tokens,
        "total_tokens": completion.input_tokens + completion.output_tokens,
        "completion_tokens": completion.output_tokens,
    }
    if completion.cached_tokens:
        usage["prompt_tokens_details"] = {"cached_tokens": completion.cached_tokens}
    return usage


class Reply:
    """The JSON of one answer, the same words whether streamed or not: plain letters, which need no escaping."""

    def __init__(self, *, reply_id: str, model: str, created_at_s: int, seed: int, chat: bool) -> None:
        self.chat = chat
        self._seed = seed
        self._common = {"id": reply_id, "created": created_at_s, "model": model}
        head = msgspec.json.encode(
            {"id": reply_id, "object": self._chunk_object, "created": created_at_s, "model": model}
        )
        self._head = b"data: " + head[:-1] + b',"choices":['
        opening, closing = (b'"delta":{"content":"', b'"}') if chat else (b'"text":"', b'"')
        self._token_head = self._head + b'{"index":0,' + opening
        self._token_tail = closing + b',"logprobs":null,"finish_reason":'

    @property
    def _chunk_object(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def opening(self) -> bytes:
        """The event before the first token: the role, for a chat."""
        if not self.chat:
            return b""
        delta = b'{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}'
        return self._head + delta + b"]}\n\n"

    def token(self, index: int, finish: str | None) -> bytes:
        """The event of token `index`; the last one carries the finish reason."""
        end = b"null" if finish is None else b'"' + finish.encode() + b'","stop_reason":null'
        return self._token_head + token_text(index, self._seed).encode() + self._token_tail + end + b"}]}\n\n"

    def usage(self, completion: Completion) -> bytes:
        return self._head + b'],"usage":' + msgspec.json.encode(usage_of(completion)) + b"}\n\n"

    def whole(self, completion: Completion, finish: str) -> bytes:
        text = text_of(completion.output_tokens, self._seed)
        content: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish, "stop_reason": None}
        kind = "chat.completion" if self.chat else "text_completion"
        return msgspec.json.encode({**self._common, "object": kind, "choices": [choice], "usage": usage_of(completion)})


def error_event(body: bytes) -> bytes:
    """A failure after the stream has begun."""
    return b"data: " + body + b"\n\n" + DONE


def embeddings(
    completions: list[Completion],
    seeds: list[int],
    *,
    reply_id: str,
    model: str,
    created_at_s: int,
    size: int,
    packed: bool,
) -> bytes:
    """Unit vectors that depend on the input alone; `packed` is `encoding_format: base64`, little-endian floats."""
    data: list[dict[str, Any]] = []
    for index, seed in enumerate(seeds):
        rng = Random(seed)
        raw = [rng.gauss(0.0, 1.0) for _ in range(size)]
        norm = sum(value * value for value in raw) ** 0.5
        vector: Any = [value / norm for value in raw]
        if packed:
            vector = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
        data.append({"index": index, "object": "embedding", "embedding": vector})
    tokens = sum(completion.input_tokens for completion in completions)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}
    return msgspec.json.encode(
        {"id": reply_id, "object": "list", "created": created_at_s, "model": model, "data": data, "usage": usage}
    )


def models(model: str, *, created_at_s: int, context_tokens: int) -> bytes:
    entry = {
        "id": model,
        "object": "model",
        "created": created_at_s,
        "owned_by": "weighbridge-simulator",
        "root": model,
        "parent": None,
        "max_model_len": context_tokens,
    }
    return msgspec.json.encode({"object": "list", "data": [entry]})
