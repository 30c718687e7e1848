import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measurement import PROMPT_BYTES
from benchmarks.prompts import chat_body


@given(
    size_bytes=st.one_of(st.integers(500, 3000), st.sampled_from(list(PROMPT_BYTES.values()))),
    seed=st.integers(0, 99),
    stream=st.booleans(),
)
def test_a_prompt_has_exactly_the_size_asked_for(size_bytes: int, seed: int, stream: bool) -> None:
    body = chat_body(size_bytes, random.Random(seed), stream=stream)
    assert len(body.encode()) == size_bytes
    assert json.loads(body)["stream"] is stream
    assert "\n" not in body


def test_prompts_differ_by_seed_and_repeat_with_it() -> None:
    assert chat_body(1300, random.Random(1)) == chat_body(1300, random.Random(1)) != chat_body(1300, random.Random(2))


def test_a_size_without_room_for_a_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        chat_body(100, random.Random(0))
