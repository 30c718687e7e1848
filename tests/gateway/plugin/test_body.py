"""Five kinds of body, weighed as the gateway weighs its own."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator.tokens_text import typical_size
from gateway.openai import Endpoint, ParsedRequest, parse
from gateway.plugin.body import kind_of, read_call


def read(kind: str, body: dict[str, Any], *, streams: bool = False) -> ParsedRequest:
    return read_call(kind, "chat", body, lambda _model: typical_size, streams=streams)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        pytest.param("/v1/chat/completions", "/chat/completions", id="chat"),
        pytest.param("/chat/completions", "/chat/completions", id="without a version"),
        pytest.param("/openai/deployments/chat/chat/completions", "/chat/completions", id="Azure's path"),
        pytest.param("/v1/completions/", "/completions", id="completions, with a slash"),
        pytest.param("/engines/chat/completions", "/chat/completions", id="a model named chat"),
        pytest.param("/v1/embeddings", "/embeddings", id="embeddings"),
        pytest.param("/v1/responses", "/responses", id="responses"),
        pytest.param("/v1/messages", "/messages", id="messages"),
        pytest.param("/v1/messages/count_tokens", None, id="counting is no work for a replica"),
        pytest.param("/v1/audio/transcriptions", None, id="audio"),
        pytest.param("/v1/images/generations", None, id="images"),
    ],
)
def test_what_is_weighed_is_known_by_the_path(path: str, kind: str | None) -> None:
    assert kind_of(path, messages=True) == kind


def test_a_call_without_a_path_is_a_chat_when_it_has_messages() -> None:
    assert kind_of(None, messages=True) == "/chat/completions"
    assert kind_of(None, messages=False) is None


CHAT = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello, who are you?"}]}


def test_a_chat_is_read_as_the_gateway_reads_it() -> None:
    body = {**CHAT, "max_tokens": 100, "n": 2, "metadata": {"headers": {"host": "x"}}, "temperature": 0.5}
    expected = parse(Endpoint.CHAT, msgspec.json.encode({"model": "chat", **body}))
    assert read("/chat/completions", body) == expected


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        pytest.param(
            "/responses",
            {"instructions": "Be brief.", "input": "Hello, who are you?", "max_output_tokens": 100},
            id="responses",
        ),
        pytest.param(
            "/responses",
            {
                "instructions": "Be brief.",
                "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hello, who are you?"}]}],
                "max_output_tokens": 100,
            },
            id="responses with items",
        ),
        pytest.param(
            "/messages",
            {
                "system": "Be brief.",
                "messages": [{"role": "user", "content": "Hello, who are you?"}],
                "max_tokens": 100,
            },
            id="messages",
        ),
        pytest.param(
            "/messages",
            {
                "system": [{"type": "text", "text": "Be brief."}],
                "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello, who are you?"}]}],
                "max_tokens": 100,
            },
            id="messages with blocks",
        ),
    ],
)
def test_the_same_conversation_weighs_the_same_whatever_its_form(kind: str, body: dict[str, Any]) -> None:
    chat = read("/chat/completions", {**CHAT, "max_tokens": 100})
    other = read(kind, body)
    assert other.size == chat.size
    assert other.max_output_tokens == 100
    assert other.shape == chat.shape


def test_a_completion_keeps_its_token_ids() -> None:
    parsed = read("/completions", {"prompt": [1, 2, 3], "max_tokens": 7}, streams=True)
    assert (parsed.known_tokens, parsed.max_output_tokens, parsed.streams) == (3, 7, True)


def test_embeddings_have_no_output() -> None:
    assert read("/embeddings", {"input": ["a", "b"]}).choices == 0


def test_what_tools_were_told_and_returned_is_part_of_the_prompt() -> None:
    plain = read("/messages", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 5})
    blocks = [
        {"type": "tool_use", "id": "1", "name": "search", "input": {"query": "gpu prices " * 20}},
        {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "a long result " * 50}]},
    ]
    told = read(
        "/messages",
        {"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": blocks}], "max_tokens": 5},
    )
    assert told.size != plain.size
    called = [
        {"type": "function_call", "name": "search", "arguments": "{}"},
        {"type": "function_call_output", "output": "y " * 90},
    ]
    assert read("/responses", {"input": called}).size != read("/responses", {"input": "x"}).size


def test_an_image_in_a_message_is_a_medium() -> None:
    image = [
        {"type": "image", "source": {"type": "base64", "data": "A" * 4000}},
        {"type": "text", "text": "what is it?"},
    ]
    parsed = read("/messages", {"messages": [{"role": "user", "content": image}], "max_tokens": 5})
    text = read("/messages", {"messages": [{"role": "user", "content": "what is it?"}], "max_tokens": 5})
    assert parsed.size != text.size


@pytest.mark.parametrize("cap", [pytest.param(cap, id=repr(cap)) for cap in (None, 0, -5, "many", 1 << 40, True, 2.5)])
def test_a_cap_that_is_none_is_no_cap(cap: Any) -> None:
    assert read("/chat/completions", {**CHAT, "max_tokens": cap}).max_output_tokens is None


def test_a_body_that_cannot_be_read_is_weighed_by_its_length() -> None:
    short = read("/chat/completions", {"messages": "nonsense"})
    long = read("/chat/completions", {"messages": "nonsense " * 1000})
    assert short.model == long.model == "chat"
    assert long.size != short.size


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
bodies = st.dictionaries(
    st.sampled_from(["messages", "input", "prompt", "system", "instructions", "tools", "n", "max_tokens", "text"]),
    values,
)


@given(
    kind=st.sampled_from(["/chat/completions", "/completions", "/embeddings", "/responses", "/messages"]), body=bodies
)
def test_any_body_has_a_weight(kind: str, body: dict[str, Any]) -> None:
    assert read(kind, body).model == "chat"
