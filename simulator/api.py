"""OpenAI JSON in: bodies to values, with errors that name the field. OpenAI's words stay in here and in `render`."""

import re
from dataclasses import dataclass
from hashlib import blake2b
from math import exp
from statistics import NormalDist
from typing import Annotated, TypeVar

import msgspec

from simulator.realtime import FinishReason
from simulator.tokenizer import prefix_hashes

# Output lengths of the Azure 2023 conversation trace: median 130, mean 210, hence sigma = sqrt(2 ln(210 / 130)).
OUTPUT_MEDIAN_TOKENS = 130.0
OUTPUT_SIGMA = 0.98

COMPLETION_DEFAULT_TOKENS = 16
"""`max_tokens` of a text completion that names none, as OpenAI and vLLM have it."""

MAX_DIMENSIONS = 8192

Positive = Annotated[int, msgspec.Meta(ge=1)]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Body = TypeVar("Body", bound="ModelBody")


class ApiError(Exception):
    """A refusal in OpenAI's form. `kind` is vLLM's `type`, `field` the offending `param`."""

    def __init__(self, status: int, kind: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self._error = {"message": message, "type": kind, "param": field, "code": status}

    def body(self) -> bytes:
        return msgspec.json.encode({"error": self._error})


def unavailable(message: str) -> ApiError:
    return ApiError(503, "ServiceUnavailableError", message)


def bad_request(message: str, field: str | None) -> ApiError:
    return ApiError(400, "BadRequestError", message, field)


class ModelBody(msgspec.Struct):
    model: str


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class GenerationBody(ModelBody, kw_only=True):
    """What chat and text completion have in common. Sampling parameters are checked for type and change nothing."""

    max_tokens: Positive | None = None
    min_tokens: Natural = 0
    ignore_eos: bool = False
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = 1
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None


class Part(msgspec.Struct):
    type: str
    text: str = ""


class Message(msgspec.Struct):
    role: str
    content: str | list[Part] | None = None


class ChatBody(GenerationBody, kw_only=True):
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    max_completion_tokens: Positive | None = None
    tools: list[msgspec.Raw] | None = None


class CompletionBody(GenerationBody, kw_only=True):
    prompt: str | list[str | int]


class EmbeddingBody(ModelBody, kw_only=True):
    input: str | list[str | int | list[int]]
    encoding_format: str | None = "float"
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=MAX_DIMENSIONS)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt as the engine sees it. `seed` is a hash of its text: it decides length and words of the answer."""

    tokens: int
    prefix: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many tokens a request will produce and what will end it."""

    output_tokens: int
    finish: FinishReason


EMBEDDING = Plan(output_tokens=0, finish=FinishReason.STOP)


def parse(body: bytes, kind: type[Body]) -> Body:
    """The body as a value; raises `ApiError` 400 with the path of the offending field as `param`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        text = str(error)
        at = re.search(r"at `\$\.?([^`]*)`", text)
        missing = re.search(r"missing required field `(\w+)`", text)
        path = [part for part in (at and at[1], missing and missing[1]) if part]
        raise bad_request(text.replace("`$.", "`"), ".".join(path) or None) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"The body is not JSON: {error}", None) from None


def chat_prompt(body: ChatBody) -> Prompt:
    """The texts of all messages and tools, one after the other; a chat template adds no tokens here."""
    texts = [bytes(tool).decode() for tool in body.tools or ()]
    for index, message in enumerate(body.messages):
        if isinstance(message.content, str):
            texts.append(message.content)
        for part in message.content if isinstance(message.content, list) else ():
            if part.type != "text":
                field = f"messages[{index}].content"
                raise bad_request(f"This model reads text, not {part.type!r} parts.", field)
            texts.append(part.text)
    return text_prompt(texts)


def completion_prompt(body: CompletionBody) -> Prompt:
    if isinstance(body.prompt, str):
        return text_prompt([body.prompt])
    texts = [item for item in body.prompt if isinstance(item, str)]
    if len(texts) == 1 == len(body.prompt):
        return text_prompt(texts)
    if texts:
        raise bad_request("Only one prompt per request is served.", "prompt")
    return ids_prompt([item for item in body.prompt if isinstance(item, int)])


def embedding_prompts(body: EmbeddingBody) -> list[Prompt]:
    """One prompt per input; a list of numbers is one input of token ids."""
    if isinstance(body.input, str):
        return [text_prompt([body.input])]
    ids = [item for item in body.input if isinstance(item, int)]
    if ids and len(ids) == len(body.input):
        return [ids_prompt(ids)]
    if ids:
        raise bad_request("Token ids and texts cannot be mixed.", "input")
    if not body.input:
        raise bad_request("There is nothing to embed.", "input")
    return [
        text_prompt([item]) if isinstance(item, str) else ids_prompt(item)
        for item in body.input
        if not isinstance(item, int)
    ]


def text_prompt(texts: list[str]) -> Prompt:
    prefix, tokens = prefix_hashes(texts)
    return Prompt(tokens=tokens, prefix=prefix, seed=_seed("\n".join(texts).encode(errors="surrogatepass")))


def ids_prompt(ids: list[int]) -> Prompt:
    return Prompt(tokens=len(ids), prefix=(), seed=_seed(msgspec.json.encode(ids)))


def plan(body: GenerationBody, prompt: Prompt, *, cap: int | None, context_tokens: int) -> Plan:
    """Length of the answer: its natural length, at least `min_tokens`, at most `cap` and what the context has left.

    `ignore_eos` means exactly the most. A request whose own cap exceeds the context is refused, as vLLM does.
    """
    if body.n not in (None, 1):
        raise bad_request("Only n = 1 is served.", "n")
    if body.stream_options is not None and not body.stream:
        raise bad_request("Stream options can only be defined when `stream` is true.", "stream_options")
    room = context_tokens - prompt.tokens
    field = "messages" if isinstance(body, ChatBody) else "prompt"
    if room < 1:
        raise _context_error(f"your prompt has {prompt.tokens} tokens", context_tokens, field)
    if cap is not None and cap > room:
        asked = f"you asked for {cap} output tokens and your prompt has {prompt.tokens}"
        raise _context_error(asked, context_tokens, "max_tokens")
    most = room if cap is None else cap
    if body.min_tokens > most:
        raise bad_request(f"min_tokens is {body.min_tokens}, more than the {most} allowed.", "min_tokens")
    natural = max(natural_tokens(prompt.seed), body.min_tokens)
    if body.ignore_eos or natural >= most:
        return Plan(output_tokens=most, finish=FinishReason.LENGTH)
    return Plan(output_tokens=natural, finish=FinishReason.STOP)


def natural_tokens(seed: int) -> int:
    """Where the answer would end by itself: lognormal over seeds, the same for the same prompt."""
    quantile = ((seed >> 11) + 0.5) / (1 << 53)
    return max(1, round(OUTPUT_MEDIAN_TOKENS * exp(OUTPUT_SIGMA * NormalDist().inv_cdf(quantile))))


def _context_error(asked: str, context_tokens: int, field: str) -> ApiError:
    return bad_request(f"This model's maximum context length is {context_tokens} tokens, but {asked}.", field)


def _seed(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest())
