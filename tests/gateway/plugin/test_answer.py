"""Tokens and output in what LiteLLM hands on, in its three shapes."""

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.plugin.answer import read_item, usage_of
from gateway.usage import Usage

CHAT_USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}}
DELTA = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"input_tokens":9,"output_tokens":4}}\n\n'
)


@pytest.mark.parametrize(
    ("response", "usage"),
    [
        pytest.param({"usage": CHAT_USAGE}, Usage(9, 4, 5), id="a mapping"),
        pytest.param(
            SimpleNamespace(usage=SimpleNamespace(prompt_tokens=9, completion_tokens=4, prompt_tokens_details=None)),
            Usage(9, 4, 0),
            id="an object",
        ),
        pytest.param(
            {"usage": {"input_tokens": 9, "output_tokens": 4, "cache_read_input_tokens": 2}},
            Usage(9, 4, 2),
            id="messages",
        ),
        pytest.param({"usage": {"prompt_tokens": 3, "total_tokens": 3}}, Usage(3, 0, 0), id="embeddings"),
        pytest.param(
            SimpleNamespace(response=SimpleNamespace(usage={"input_tokens": 9, "output_tokens": 4})),
            Usage(9, 4, 0),
            id="an event of responses",
        ),
        pytest.param({"usage": {"prompt_tokens": 0, "completion_tokens": 0}}, None, id="zeros tell nothing"),
        pytest.param(
            {"usage": {"prompt_tokens": 9, "cached": 1, "prompt_tokens_details": {"cached_tokens": 99}}},
            Usage(9, 0, 9),
            id="more cached than there are",
        ),
        pytest.param({"usage": None}, None, id="none"),
        pytest.param("text", None, id="text"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_usage_is_found_in_every_shape(response: Any, usage: Usage | None) -> None:
    assert usage_of(response) == usage


@pytest.mark.parametrize(
    ("item", "output", "usage"),
    [
        pytest.param(SimpleNamespace(choices=[1], usage=None), True, None, id="a chunk"),
        pytest.param(SimpleNamespace(choices=[], usage=CHAT_USAGE), False, Usage(9, 4, 5), id="the last chunk"),
        pytest.param(SimpleNamespace(type="response.output_text.delta"), True, None, id="text of responses"),
        pytest.param(SimpleNamespace(type="response.created", response=None), False, None, id="responses begin"),
        pytest.param(
            b'event: content_block_delta\ndata: {"type":"content_block_delta"}\n\n', True, None, id="text of messages"
        ),
        pytest.param(
            b'data: {"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}\n\n',
            False,
            Usage(9, 1, 0),
            id="messages begin",
        ),
        pytest.param(DELTA, True, Usage(9, 4, 0), id="messages end"),
        pytest.param(b'data: {"usage":{"output_tokens":4}}', False, Usage(0, 4, 0), id="the output alone"),
        pytest.param(b'data: {"usage": \xff broken', False, None, id="not JSON"),
        pytest.param('data: {"choices":[1]}\n\n', True, None, id="as text"),
    ],
)
def test_items_of_streams(item: Any, output: bool, usage: Usage | None) -> None:
    assert read_item(item) == (output, usage)
