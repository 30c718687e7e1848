"""Follow one OpenAI event stream by its bytes: first token, last token, usage, error, end. No I/O, no clock."""

import msgspec


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class Usage(msgspec.Struct, frozen=True):
    """Token counts as the model server reports them."""

    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None

    @property
    def cached_tokens(self) -> int | None:
        """Input tokens found in the replica's KV cache; `None` when the server does not say."""
        return None if self.prompt_tokens_details is None else self.prompt_tokens_details.cached_tokens


class _Event(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: Usage | None = None
    error: msgspec.Raw = msgspec.Raw()


_EVENT = msgspec.json.Decoder(_Event)
_ERROR_DETAIL_BYTES = 300
_NO_ERROR = (b"", b"null")


class StreamReader:
    """What a stream has said so far. Feed it bytes in any chunking."""

    __slots__ = ("_rest", "done", "error", "finished", "token_events", "usage")

    def __init__(self) -> None:
        self._rest = b""
        self.token_events = 0
        """Events that carried output. Engines may put several tokens into one: usage is the exact count."""
        self.usage: Usage | None = None
        self.error: str | None = None
        self.finished = False
        """A choice gave its finish reason."""
        self.done = False
        """`[DONE]` was seen."""

    def feed(self, chunk: bytes) -> bool:
        """Take the next bytes. True if they completed at least one event that carries output."""
        before = self.token_events
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._take(line[5:].strip())
        return self.token_events > before

    def _take(self, data: bytes) -> None:
        if data == b"[DONE]":
            self.done = True
            return
        try:
            event = _EVENT.decode(data)
        except msgspec.DecodeError as error:
            self.error = self.error or f"unreadable event: {error}"
            return
        if bytes(event.error) not in _NO_ERROR:
            self.error = self.error or bytes(event.error)[:_ERROR_DETAIL_BYTES].decode(errors="replace")
        if event.usage is not None:
            self.usage = event.usage
        for choice in event.choices or ():
            delta = choice.delta
            if choice.text or (delta and (delta.content or delta.reasoning_content or delta.tool_calls)):
                self.token_events += 1
            if choice.finish_reason is not None:
                self.finished = True
