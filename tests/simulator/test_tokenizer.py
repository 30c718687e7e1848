from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.tokenizer import BLOCK_TOKENS, VOCABULARY, prefix_hashes, prompt_tokens, text_of, token_text

TEXTS = st.text(alphabet=st.sampled_from("ab c\n\té漢🙂.{}\"'\x00"), max_size=400)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        pytest.param("", 0, id="nothing"),
        pytest.param(" \n\t ", 0, id="white space"),
        pytest.param("one two", 2, id="short words"),
        pytest.param("sevenly", 2, id="a word of seven letters is two tokens"),
        pytest.param("a" * 60, 10, id="text without spaces still costs"),
        pytest.param("漢字", 2, id="one token for each Chinese character"),
        pytest.param('{"a":1}', 2, id="punctuation counts like letters"),
    ],
)
def test_tokens_of_known_texts(text: str, tokens: int) -> None:
    assert prompt_tokens(text) == tokens


@given(tokens=st.integers(0, 3000), seed=st.integers(-(2**70), 2**70))
def test_text_of_has_exactly_the_tokens_asked_for(tokens: int, seed: int) -> None:
    assert prompt_tokens(text_of(tokens, seed)) == tokens


@given(tokens=st.integers(0, 50), seed=st.integers(0, 2**64))
def test_pieces_join_to_the_text(tokens: int, seed: int) -> None:
    assert "".join(token_text(index, seed) for index in range(tokens)) == text_of(tokens, seed)


@given(first=TEXTS, second=TEXTS)
def test_tokens_add_up_over_texts_joined_by_a_space(first: str, second: str) -> None:
    assert prompt_tokens(f"{first} {second}") == prompt_tokens(first) + prompt_tokens(second)


@given(texts=st.lists(TEXTS, max_size=4))
def test_prefix_hashes_count_tokens_as_prompt_tokens_does(texts: list[str]) -> None:
    hashes, tokens = prefix_hashes(texts)
    assert tokens == sum(prompt_tokens(text) for text in texts)
    assert len(hashes) == tokens // BLOCK_TOKENS


@given(shared=st.integers(0, 100), seed=st.integers(0, 1000))
def test_prompts_share_the_hashes_of_their_common_blocks_and_no_others(shared: int, seed: int) -> None:
    one, _ = prefix_hashes([text_of(shared, seed), text_of(80, seed + 1)])
    two, _ = prefix_hashes([text_of(shared, seed), text_of(80, seed + 2)])
    common = sum(a == b for a, b in zip(one, two, strict=True))
    assert common == shared // BLOCK_TOKENS
    assert one[:common] == two[:common]


def test_text_has_about_four_and_a_half_bytes_for_each_token() -> None:
    sizes = [len(text_of(1000, seed)) / 1000 for seed in range(50)]
    assert all(4.0 < size < 4.8 for size in sizes)
    assert len(set(sizes)) > 3


def test_near_seeds_begin_with_different_words() -> None:
    starts = Counter(text_of(4, seed) for seed in range(1000))
    assert max(starts.values()) == 1
    assert len(set(VOCABULARY)) == len(VOCABULARY) == 2357
