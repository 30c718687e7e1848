"""Usage is found in any response that reports it, and never in text that a model wrote."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.usage import Usage, find_usage


@pytest.mark.parametrize(
    ("text", "usage"),
    [
        pytest.param('{"usage":{"prompt_tokens":5,"completion_tokens":7}}', Usage(5, 7, 0), id="the two counts"),
        pytest.param(
            '{"usage":{"prompt_tokens":5,"total_tokens":12,"completion_tokens":7,"prompt_tokens_details":'
            '{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}}',
            Usage(5, 7, 4),
            id="nested details after",
        ),
        pytest.param(
            '{"usage":{"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},"prompt_tokens":5,'
            '"completion_tokens":7}}',
            Usage(5, 7, 4),
            id="nested details before",
        ),
        pytest.param('{"usage":{"prompt_tokens":5,"total_tokens":5}}', Usage(5, 0, 0), id="embeddings have no output"),
        pytest.param(
            '{"usage" : {\n  "prompt_tokens" : 5,\n  "completion_tokens": 7\n}}', Usage(5, 7, 0), id="pretty printed"
        ),
        pytest.param(
            '{"usage":{"prompt_tokens":5,"completion_tokens":7,"prompt_tokens_details":null}}',
            Usage(5, 7, 0),
            id="details are null",
        ),
        pytest.param(
            '{"usage":{"prompt_tokens":1,"completion_tokens":1}}{"usage":{"prompt_tokens":5,"completion_tokens":7}}',
            Usage(5, 7, 0),
            id="the last of several",
        ),
        pytest.param(
            '{"usage":{"prompt_tokens":1}}{"usage":{"prompt_tokens":5,"completion_tokens":7}}{"usage":null}',
            Usage(5, 7, 0),
            id="the last that is one",
        ),
        pytest.param('{"choices":[],"usage":null}', None, id="null"),
        pytest.param('{"choices":[]}', None, id="absent"),
        pytest.param('{"usage":{}}', None, id="empty"),
        pytest.param('{"usage":{"prompt_tokens":null}}', None, id="null counts"),
        pytest.param('{"usage":{"prompt_tokens":5,"completion_to', None, id="cut off"),
        pytest.param("", None, id="nothing"),
        pytest.param(
            '{"content":"\\"usage\\":{\\"prompt_tokens\\":9,\\"completion_tokens\\":9}"}', None, id="in model text"
        ),
    ],
)
def test_usage_is_read_from(text: str, usage: Usage | None) -> None:
    assert find_usage(text.encode()) == usage


COUNTS = st.integers(0, 10**9)


@given(st.text(max_size=200), COUNTS, COUNTS, COUNTS, st.booleans())
def test_counts_survive_any_model_text_before_and_after(
    text: str, input_tokens: int, output_tokens: int, cached_tokens: int, plain: bool
) -> None:
    fake = '"usage":{"prompt_tokens":1,"completion_tokens":1}'
    body = {
        "choices": [{"message": {"content": fake + text}}],
        "usage": {
            "prompt_tokens": input_tokens,
            "completion_tokens": output_tokens,
            "prompt_tokens_details": {"cached_tokens": cached_tokens},
        },
        "system_fingerprint": text + fake,
    }
    data = json.dumps(body, ensure_ascii=plain).encode("utf-8", "ignore")
    assert find_usage(data) == Usage(input_tokens, output_tokens, cached_tokens)


@given(st.text(max_size=200))
def test_model_text_alone_never_looks_like_usage(text: str) -> None:
    body = {"choices": [{"delta": {"content": '"usage":{"prompt_tokens":1}' + text}}], "usage": None}
    assert find_usage(json.dumps(body).encode()) is None
