"""What of a client's body a provider is asked: nothing that only one server knows, and no switch of the SDK."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.spill.arguments import DROPPED, PORTABLE, Call, NotPortable, arguments

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def of(body: Any, call: Call = Call.CHAT) -> dict[str, Any]:
    return arguments(call, json.dumps(body).encode())


def test_fields_of_the_api_are_passed_on_and_the_model_is_not() -> None:
    assert of({**CHAT, "temperature": 0.5, "stream": True, "tools": []}) == {
        "messages": CHAT["messages"],
        "temperature": 0.5,
        "stream": True,
        "tools": [],
    }
    assert of({"model": "m", "prompt": "hello", "max_tokens": 3}, Call.COMPLETIONS) == {
        "prompt": "hello",
        "max_tokens": 3,
    }


def test_what_is_null_or_says_nothing_of_the_answer_is_left_out() -> None:
    assert of({**CHAT, "seed": None, "top_k": None, "store": True, "metadata": {"a": "b"}}) == {
        "messages": CHAT["messages"]
    }


@pytest.mark.parametrize(
    "name",
    [
        "api_base", "api_key", "base_url", "custom_llm_provider", "extra_body", "extra_headers", "fallbacks",
        "guided_json", "mock_response", "mock_tool_calls", "model_list", "timeout", "top_k", "num_retries", "caching",
        "prompt",
    ],
)  # fmt: skip
def test_a_field_that_only_some_know_or_that_steers_the_sdk_makes_it_not_portable(name: str) -> None:
    with pytest.raises(NotPortable, match=name) as caught:
        of({**CHAT, name: "secret"})
    assert "secret" not in str(caught.value)


def part(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


DATA = "data:image/png;base64,AAAA"


@pytest.mark.parametrize(
    "content",
    [
        "http://a.example is text",
        None,
        [part("text", text="hello"), part("image_url", image_url={"url": DATA})],
        [part("image_url", image_url=DATA), part("input_audio", input_audio={"data": "AAAA", "format": "wav"})],
    ],
    ids=["text", "nothing", "parts", "a short form"],
)
def test_a_message_that_holds_all_it_is_about_is_portable(content: Any) -> None:
    messages = [{"role": "user", "content": content}]
    assert of({"messages": messages}) == {"messages": messages}


@pytest.mark.parametrize(
    "content",
    [
        [part("image_url", image_url={"url": "http://169.254.169.254/latest/meta-data"})],
        [part("image_url", image_url="https://a.example/i.png")],
        [part("image_url", image_url={"url": "file:///etc/passwd"})],
        [part("image_url", image_url={"url": ["data:"]})],
        [part("image_url")],
        [part("text", text="a"), part("file", file={"file_id": "https://a.example/f.pdf"})],
        [part("video_url", video_url={"url": DATA})],
        {"type": "image_url", "image_url": "http://a.example"},
        ["http://a.example"],
        [{}],
    ],
)
def test_nobody_has_an_address_fetched_from_inside(content: Any) -> None:
    with pytest.raises(NotPortable, match="images and audio as data"):
        of({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": content}]})


@pytest.mark.parametrize("tool", [{"type": "mcp", "server_url": "http://a.example"}, {"type": "web_search"}, "x"])
def test_tools_are_the_clients_own_functions(tool: Any) -> None:
    function = {"type": "function", "function": {"name": "f"}}
    assert of({**CHAT, "tools": [function]})["tools"] == [function]
    with pytest.raises(NotPortable, match="functions of the client"):
        of({**CHAT, "tools": [function, tool]})


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        pytest.param(b"{", "not JSON", id="cut off"),
        pytest.param(b"\xff", "not JSON", id="not text"),
        pytest.param(b"[]", "not an object", id="a list"),
        pytest.param(b"{}", "messages is missing", id="nothing"),
        pytest.param(b"[" * 100_000, "not JSON", id="deep"),
    ],
)
def test_what_is_no_request_is_not_portable(body: bytes, rule: str) -> None:
    with pytest.raises(NotPortable, match=rule):
        arguments(Call.CHAT, body)


@given(
    st.sampled_from(Call),
    st.dictionaries(
        st.sampled_from(sorted({*PORTABLE[Call.CHAT], *PORTABLE[Call.COMPLETIONS], *DROPPED})) | st.text(max_size=8),
        st.none() | st.booleans() | st.text(max_size=5) | st.lists(st.integers(0, 3), max_size=2),
    ),
)
def test_only_listed_fields_ever_pass_with_their_values(call: Call, body: dict[str, Any]) -> None:
    try:
        given = of(body, call)
    except NotPortable:
        return
    assert given.keys() <= PORTABLE[call]
    assert all(body[name] == value for name, value in given.items())
    assert all(body[name] is None for name in body.keys() & PORTABLE[call] - given.keys())
