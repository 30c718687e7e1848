"""What a model server answers on OpenAI's endpoints, whole and as the events of a stream."""

from collections.abc import Iterator, Mapping
from typing import Any

WORDS = ("one ", "two ", "three")
INPUT_TOKENS, OUTPUT_TOKENS = 7, len(WORDS)
CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
)
PATHS = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES)
Body = dict[str, Any]


def whole(path: str, request: Mapping[str, Any], answer_id: str) -> Body:
    """An answer of three words, with its usage."""
    if path == EMBEDDINGS:
        data = [{"object": "embedding", "index": 0, "embedding": [0.25, 0.5]}]
        usage = {"prompt_tokens": INPUT_TOKENS, "total_tokens": INPUT_TOKENS}
        return {"object": "list", "model": request["model"], "data": data, "usage": usage}
    text = "".join(WORDS)
    if path == RESPONSES:
        return _response(request, answer_id, text)
    choice: Body = {"index": 0, "finish_reason": "stop"}
    if path == COMPLETIONS:
        choice["text"] = text
    else:
        choice["message"] = {"role": "assistant", "content": text}
    return {**_head(path, request, answer_id), "choices": [choice], "usage": _usage()}


def events(path: str, request: Mapping[str, Any], answer_id: str) -> Iterator[Body]:
    """The same, an event per word."""
    if path == RESPONSES:
        for word in WORDS:
            delta = {"item_id": "item", "output_index": 0, "content_index": 0, "delta": word}
            yield {"type": "response.output_text.delta", **delta}
        yield {"type": "response.completed", "response": _response(request, answer_id, "".join(WORDS))}
        return
    head = _head(path, request, answer_id, chunk=True)
    for word in WORDS:
        said: Body = {"text": word} if path == COMPLETIONS else {"delta": {"role": "assistant", "content": word}}
        yield {**head, "choices": [{"index": 0, "finish_reason": None, **said}]}
    last: Body = {"text": ""} if path == COMPLETIONS else {"delta": {}}
    yield {**head, "choices": [{"index": 0, "finish_reason": "stop", **last}]}
    if (request.get("stream_options") or {}).get("include_usage"):
        yield {**head, "choices": [], "usage": _usage()}


def _head(path: str, request: Mapping[str, Any], answer_id: str, *, chunk: bool = False) -> Body:
    kind = "text_completion"
    if path == CHAT:
        kind = "chat.completion.chunk" if chunk else "chat.completion"
    return {"id": answer_id, "object": kind, "created": 1, "model": request["model"]}


def _response(request: Mapping[str, Any], answer_id: str, text: str) -> Body:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    message = {"type": "message", "id": "item", "role": "assistant", "status": "completed", "content": content}
    total = INPUT_TOKENS + OUTPUT_TOKENS
    usage = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS, "total_tokens": total}
    return {
        "id": answer_id, "object": "response", "created_at": 1, "status": "completed", "model": request["model"],
        "output": [message], "parallel_tool_calls": False, "tool_choice": "auto", "tools": [], "usage": usage,
    }  # fmt: skip


def _usage() -> dict[str, int]:
    total = INPUT_TOKENS + OUTPUT_TOKENS
    return {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS, "total_tokens": total}
