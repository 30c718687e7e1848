"""The HTTP surface of one model server: routes, checks, and answers that follow the engine's tokens."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from hmac import compare_digest
from uuid import uuid4

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from simulator import api, render
from simulator.api import ApiError, Body, Prompt
from simulator.realtime import Generation, RealTimeEngine
from simulator.request import Completion, EngineRequest, Rejection, RejectionReason, RequestId
from simulator.settings import SimulatorSettings

JSON = "application/json"


@dataclass(slots=True)
class Readiness:
    ready: bool = False


class TokenStream(Response):
    """Server-sent events of one generation, up to its last token or until the client goes or the server stops."""

    def __init__(self, realtime: RealTimeEngine, generation: Generation, reply: render.Reply, *, usage: bool) -> None:
        super().__init__(media_type="text/event-stream")
        del self.headers["content-length"]
        self._realtime = realtime
        self._generation = generation
        self._reply = reply
        self._usage = usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with watched(self._realtime, [self._generation], receive):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._relay(send)

    async def _relay(self, send: Send) -> None:
        generation, reply = self._generation, self._reply
        total, sent = generation.request.output_tokens, 0
        while sent < total:
            produced = await generation.more(sent)
            if generation.aborted:
                stopping = render.error_event(api.unavailable("The server is stopping.").body())
                await send({"type": "http.response.body", "body": stopping})
                return
            events = [] if sent else [reply.opening()]
            events += [
                reply.token(index, generation.finish if index == total - 1 else None) for index in range(sent, produced)
            ]
            sent = produced
            if generation.completion is not None:
                events += [reply.usage(generation.completion)] if self._usage else []
                events.append(render.DONE)
            await send({"type": "http.response.body", "body": b"".join(events), "more_body": sent < total})


@contextlib.asynccontextmanager
async def watched(realtime: RealTimeEngine, generations: list[Generation], receive: Receive) -> AsyncIterator[None]:
    """While open, a client that disconnects aborts its generations; on leaving, whatever has not ended is aborted."""

    def abort() -> None:
        for generation in generations:
            realtime.abort(generation)

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        abort()

    watcher = asyncio.create_task(watch(), name="watch for a disconnect")
    try:
        yield
    finally:
        abort()
        watcher.cancel()


class ModelApp:
    """Endpoints over one `RealTimeEngine`. `clock` returns Unix seconds, for the `created` fields only."""

    def __init__(
        self,
        settings: SimulatorSettings,
        realtime: RealTimeEngine,
        registry: CollectorRegistry,
        readiness: Readiness,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._realtime = realtime
        self._registry = registry
        self._readiness = readiness
        self._clock = clock
        self._started_at_s = int(clock())

    def asgi(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/completions", self.complete, methods=["POST"]),
                Route("/v1/embeddings", self.embed, methods=["POST"]),
                Route("/v1/models", self.models, methods=["GET"]),
                Route("/health", self.health, methods=["GET"]),
                Route("/metrics", self.metrics, methods=["GET"]),
            ],
            exception_handlers={ApiError: _refuse, HTTPException: _refuse, ClientDisconnect: _ignore},
        )

    async def chat(self, request: Request) -> Response:
        body = await self._read(request, api.ChatBody)
        cap = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
        return await self._generate(request, body, api.chat_prompt(body), cap)

    async def complete(self, request: Request) -> Response:
        body = await self._read(request, api.CompletionBody)
        cap = api.COMPLETION_DEFAULT_TOKENS if body.max_tokens is None else body.max_tokens
        return await self._generate(request, body, api.completion_prompt(body), cap)

    async def embed(self, request: Request) -> Response:
        body = await self._read(request, api.EmbeddingBody)
        if body.encoding_format not in (None, "float", "base64"):
            raise api.bad_request("The formats are float and base64.", "encoding_format")
        reply_id = _reply_id("embd")
        prompts = api.embedding_prompts(body)
        generations: list[Generation] = []
        async with watched(self._realtime, generations, request.receive):
            for index, prompt in enumerate(prompts):
                generations.append(self._submit(f"{reply_id}-{index}", prompt, api.EMBEDDING, "input"))
            completions = [await _completion(generation) for generation in generations]
        content = render.embeddings(
            completions,
            [prompt.seed for prompt in prompts],
            reply_id=reply_id,
            model=body.model,
            created_at_s=int(self._clock()),
            size=body.dimensions or self._settings.embedding_dimensions,
            packed=body.encoding_format == "base64",
        )
        return Response(content, media_type=JSON)

    async def models(self, request: Request) -> Response:
        self._guard(request)
        content = render.models(
            self._settings.model,
            created_at_s=self._started_at_s,
            context_tokens=self._settings.engine.max_context_tokens,
        )
        return Response(content, media_type=JSON)

    async def health(self, request: Request) -> Response:
        """200 once the model is loaded, 503 before and while stopping; needs no key."""
        return Response(status_code=200 if self._readiness.ready and not self._realtime.stopped else 503)

    async def metrics(self, request: Request) -> Response:
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    async def _generate(self, request: Request, body: api.GenerationBody, prompt: Prompt, cap: int | None) -> Response:
        chat = isinstance(body, api.ChatBody)
        plan = api.plan(body, prompt, cap=cap, context_tokens=self._settings.engine.max_context_tokens)
        reply_id = _reply_id("chatcmpl" if chat else "cmpl")
        generation = self._submit(reply_id, prompt, plan, "messages" if chat else "prompt")
        reply = render.Reply(
            reply_id=reply_id, model=body.model, created_at_s=int(self._clock()), seed=prompt.seed, chat=chat
        )
        if body.stream:
            usage = body.stream_options is not None and body.stream_options.include_usage
            return TokenStream(self._realtime, generation, reply, usage=usage)
        async with watched(self._realtime, [generation], request.receive):
            completion = await _completion(generation)
        return Response(reply.whole(completion, generation.finish), media_type=JSON)

    async def _read(self, request: Request, kind: type[Body]) -> Body:
        self._guard(request)
        body = api.parse(await request.body(), kind)
        if body.model != self._settings.model:
            raise ApiError(404, "NotFoundError", f"The model `{body.model}` does not exist.", "model")
        return body

    def _guard(self, request: Request) -> None:
        """Who may ask, and whether there is anyone to answer."""
        key = self._settings.api_key
        if key is not None and not compare_digest(
            request.headers.get("authorization", "").encode(), f"Bearer {key}".encode()
        ):
            raise ApiError(401, "AuthenticationError", "The API key is missing or wrong.")
        if self._realtime.stopped:
            raise api.unavailable("The server is stopping.")
        if not self._readiness.ready:
            raise api.unavailable("The model is loading.")

    def _submit(self, request_id: str, prompt: Prompt, plan: api.Plan, field: str) -> Generation:
        if self._realtime.stopped:
            # It may have stopped while the body was read.
            raise api.unavailable("The server is stopping.")
        engine_request = EngineRequest(
            request_id=RequestId(request_id),
            input_tokens=prompt.tokens,
            output_tokens=plan.output_tokens,
            prefix=prompt.prefix,
        )
        outcome = self._realtime.submit(engine_request, finish=plan.finish)
        if isinstance(outcome, Generation):
            return outcome
        raise _rejected(outcome, field)


async def _completion(generation: Generation) -> Completion:
    """The end of a generation that nobody streams."""
    await generation.end()
    if generation.completion is None:
        raise api.unavailable("The server is stopping.")
    return generation.completion


def _rejected(rejection: Rejection, field: str) -> ApiError:
    if rejection.reason is RejectionReason.QUEUE_FULL:
        return api.unavailable(f"The queue is full: {rejection.detail}.")
    return api.bad_request(f"The request cannot run: {rejection.detail}.", field)


def _reply_id(prefix: str) -> str:
    """Not from `x-request-id`: a client may send one twice, and the engine tells requests apart by it."""
    return f"{prefix}-{uuid4().hex}"


async def _refuse(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        error = ApiError(error.status_code, "NotFoundError", error.detail)
    assert isinstance(error, ApiError)
    return Response(error.body(), status_code=error.status, media_type=JSON)


async def _ignore(request: Request, error: Exception) -> Response:
    """The client left before its body was complete: nobody reads this."""
    return Response(status_code=400)
