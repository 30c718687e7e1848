"""What the OpenAI endpoints answer."""

from typing import Any

import openai
import pytest

from simulator.tokenizer import prompt_tokens, text_of
from tests.simulator.servers import chat, running, settings


async def test_a_chat_stream_begins_with_the_role_and_ends_with_a_reason_and_done() -> None:
    async with running() as client:
        *chunks, done = await client.events("/v1/chat/completions", chat(max_tokens=5, ignore_eos=True))
    assert done == "[DONE]"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 5 + ["length"]
    assert prompt_tokens("".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)) == 5
    assert {(chunk["object"], chunk["model"]) for chunk in chunks} == {("chat.completion.chunk", "tiny")}
    assert len({chunk["id"] for chunk in chunks}) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", chat()), ("/v1/completions", {"model": "tiny", "prompt": "how much"})],
    ids=["chat", "text"],
)
@pytest.mark.parametrize("asked", [True, False, None])
async def test_a_usage_chunk_comes_only_when_asked_for(path: str, body: dict[str, Any], asked: bool | None) -> None:
    options = {} if asked is None else {"stream_options": {"include_usage": asked}}
    async with running() as client:
        *chunks, _ = await client.events(path, {**body, **options, "max_tokens": 3, "ignore_eos": True})
    assert ["usage" in chunk for chunk in chunks].count(True) == bool(asked)
    if asked:
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"]["completion_tokens"] == 3


async def test_streamed_or_not_the_same_prompt_has_the_same_answer() -> None:
    async with running() as client:
        _, whole = await client.answer("/v1/chat/completions", chat())
        *chunks, _ = await client.events("/v1/chat/completions", chat())
    message = whole["choices"][0]["message"]
    assert message == {
        "role": "assistant",
        "content": "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks),
    }
    assert whole["choices"][0]["finish_reason"] == "stop" == chunks[-1]["choices"][0]["finish_reason"]
    tokens = prompt_tokens(message["content"])
    assert whole["usage"] == {"prompt_tokens": 5, "total_tokens": 5 + tokens, "completion_tokens": tokens}


async def test_prompt_tokens_are_those_of_all_messages_and_parts() -> None:
    messages = [
        {"role": "system", "content": text_of(7, 1)},
        {"role": "assistant", "content": None},
        {"role": "user", "content": [{"type": "text", "text": text_of(5, 2)}, {"type": "text", "text": text_of(3, 3)}]},
    ]
    async with running() as client:
        _, answer = await client.answer(
            "/v1/chat/completions", {"model": "tiny", "messages": messages, "max_tokens": 1}
        )
    assert answer["usage"]["prompt_tokens"] == 15


@pytest.mark.parametrize(
    ("limits", "tokens", "finish"),
    [
        pytest.param({"max_tokens": 4}, 4, "length", id="capped"),
        pytest.param({"max_tokens": 9, "max_completion_tokens": 3}, 3, "length", id="the newer name wins"),
        pytest.param({"max_tokens": 900, "ignore_eos": True}, 900, "length", id="exactly the cap"),
        pytest.param({"max_tokens": 900, "min_tokens": 900}, 900, "length", id="at least the cap"),
        pytest.param({"max_tokens": 2000, "min_tokens": 1500}, 1500, "stop", id="at least so many"),
    ],
)
async def test_limits_decide_the_length(limits: dict[str, Any], tokens: int, finish: str) -> None:
    async with running(settings(step_s=0.0001)) as client:
        _, answer = await client.answer("/v1/chat/completions", chat(**limits))
    assert answer["usage"]["completion_tokens"] == tokens
    assert answer["choices"][0]["finish_reason"] == finish


@pytest.mark.parametrize(
    ("prompt", "tokens"), [("one two", 2), (["one two"], 2), ([1, 2, 3], 3)], ids=["text", "list", "ids"]
)
async def test_a_text_completion_takes_a_text_or_token_ids_and_is_16_tokens_by_default(
    prompt: Any, tokens: int
) -> None:
    async with running() as client:
        body = {"model": "tiny", "prompt": prompt, "ignore_eos": True}
        _, answer = await client.answer("/v1/completions", body)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens + 16, "completion_tokens": 16}
    assert prompt_tokens(answer["choices"][0]["text"]) == 16


async def test_input_that_the_prefix_cache_holds_is_reported() -> None:
    long = chat(text_of(100, 1), max_tokens=1)
    async with running() as client:
        _, first = await client.answer("/v1/chat/completions", long)
        _, second = await client.answer("/v1/chat/completions", long)
    assert "prompt_tokens_details" not in first["usage"]
    assert second["usage"]["prompt_tokens_details"] == {"cached_tokens": 96}


@pytest.mark.parametrize(
    ("path", "change", "field"),
    [
        pytest.param("chat/completions", {"model": 3}, "model", id="model is a number"),
        pytest.param("chat/completions", {"model": None}, "model", id="no model"),
        pytest.param("chat/completions", {"messages": []}, "messages", id="no messages"),
        pytest.param("chat/completions", {"messages": "hi"}, "messages", id="messages is a text"),
        pytest.param("chat/completions", {"messages": [{"content": "x"}]}, "messages[0].role", id="no role"),
        pytest.param("chat/completions", {"max_tokens": 0}, "max_tokens", id="no tokens"),
        pytest.param("chat/completions", {"max_tokens": "5"}, "max_tokens", id="tokens as text"),
        pytest.param("chat/completions", {"max_tokens": 160_000}, "max_tokens", id="more than the context"),
        pytest.param("chat/completions", {"max_tokens": 3, "min_tokens": 4}, "min_tokens", id="least above most"),
        pytest.param("chat/completions", {"n": 2}, "n", id="two choices"),
        pytest.param("chat/completions", {"stream": "yes"}, "stream", id="stream is a text"),
        pytest.param("chat/completions", {"stream_options": {}}, "stream_options", id="options without stream"),
        pytest.param(
            "chat/completions", {"messages": [{"role": "user", "content": ""}]}, "messages", id="empty prompt"
        ),
        pytest.param(
            "chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content",
            id="image",
        ),
        pytest.param("completions", {"prompt": text_of(160_001, 1)}, "prompt", id="prompt above the context"),
        pytest.param("completions", {"prompt": ["a", "b"]}, "prompt", id="two prompts"),
        pytest.param("completions", {}, "prompt", id="no prompt"),
        pytest.param("embeddings", {"input": []}, "input", id="nothing to embed"),
        pytest.param("embeddings", {"input": ["a", ""]}, "input", id="an empty input"),
        pytest.param("embeddings", {"input": "a", "dimensions": 10**9}, "dimensions", id="too many dimensions"),
        pytest.param("embeddings", {"input": [1, "a"]}, "input", id="ids and texts"),
        pytest.param("embeddings", {"input": "a", "encoding_format": "int8"}, "encoding_format", id="unknown format"),
    ],
)
async def test_bad_requests_name_the_field(path: str, change: dict[str, Any], field: str) -> None:
    base = chat() if path == "chat/completions" else {"model": "tiny"}
    body = {key: value for key, value in {**base, **change}.items() if value is not None}
    async with running() as client:
        status, answer = await client.answer(f"/v1/{path}", body)
        assert client.serving.realtime.engine.idle
    assert status == 400
    assert answer["error"]["param"] == field
    assert (answer["error"]["type"], answer["error"]["code"]) == ("BadRequestError", 400)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"model": "\xff"}', b"[" * 100_000], ids=["empty", "cut", "bytes", "utf-8", "deep"]
)
async def test_a_body_that_is_not_json_is_a_bad_request(body: bytes) -> None:
    async with running() as client, client.http.post(client.serving.url + "/v1/completions", data=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]["message"]


async def test_an_unknown_model_or_path_is_not_found() -> None:
    async with running() as client:
        status, answer = await client.answer("/v1/chat/completions", {**chat(), "model": "other"})
        assert (status, answer["error"]["param"]) == (404, "model")
        status, answer = await client.answer("/v1/nothing", {})
        assert (status, answer["error"]["code"]) == (404, 404)


async def test_a_key_is_wanted_on_v1_alone() -> None:
    async with running(settings(api_key="secret")) as client:
        for headers in ({}, {"authorization": "Bearer wrong"}):
            status, answer = await client.answer("/v1/chat/completions", chat(), headers=headers)
            assert (status, answer["error"]["type"]) == (401, "AuthenticationError")
        status, _ = await client.answer("/v1/chat/completions", chat(), headers={"authorization": "Bearer secret"})
        assert status == 200
        async with client.get("/health") as health, client.get("/metrics") as metrics:
            assert (health.status, metrics.status) == (200, 200)


async def test_the_openai_library_can_talk_to_it() -> None:
    async with (
        running() as client,
        openai.AsyncOpenAI(base_url=client.serving.url + "/v1", api_key="none", max_retries=0) as sdk,
    ):
        assert [model.id async for model in sdk.models.list()] == ["tiny"]
        stream = await sdk.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=3,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 3
        # The library asks for base64 and unpacks it; plain numbers must say the same.
        packed = await sdk.embeddings.create(model="tiny", input=["one", "two words"], dimensions=8)
        plain = await sdk.embeddings.create(model="tiny", input="one", dimensions=8, encoding_format="float")
        assert packed.usage.prompt_tokens == 3
        assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
        with pytest.raises(openai.NotFoundError):
            await sdk.chat.completions.create(model="other", messages=[{"role": "user", "content": "hello"}])
