"""Sizes by a tokenizer's counts: exact up to a bound on the work, scaled beyond it."""

import re
from collections.abc import Callable
from random import Random
from string import ascii_lowercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator import tokens_exact
from estimator.tokens import EXACT, LEAST_TEXT_FACTOR, MOST_TEXT_FACTOR, TYPICAL, TokenFactors
from estimator.tokens_exact import CALL_CHARACTERS, COUNTED_CHARACTERS, PIECE_CHARACTERS, SAMPLES, ExactSizer
from estimator.tokens_text import NO_TEXT, TextSize

PROSE = "What a request weighs is known before it runs. "
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=3000)


class Counter:
    """A tokenizer of one token per two characters that remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, text: str) -> int:
        self.asked.append(text)
        return (len(text) + 1) // 2

    @property
    def asked_characters(self) -> int:
        return sum(len(text) for text in self.asked)


@pytest.fixture
def counter() -> Counter:
    return Counter()


def test_each_piece_is_counted_by_itself(counter: Counter) -> None:
    size = ExactSizer(counter)(["abc", "", "de"], (b'{"a":"\xc3\xa9"}', b""), messages=3, media=1)
    assert counter.asked == ["abc", "de", '{"a":"é"}']
    assert size == TextSize(words=2 + 1 + 5, messages=3, media=1)


def test_nothing_is_nothing(counter: Counter) -> None:
    assert ExactSizer(counter)([]) == NO_TEXT
    assert counter.asked == []


def merged(text: str) -> int:
    """A tokenizer of four letters a token that makes one token of a mark that is repeated."""
    return sum(1 for _ in re.finditer(r"\w{1,4}|(\W)\1*", text))


def test_a_text_up_to_the_bound_is_counted_whole(counter: Counter) -> None:
    assert ExactSizer(counter)(["x" * PIECE_CHARACTERS]).words == PIECE_CHARACTERS / 2
    assert counter.asked == ["x" * PIECE_CHARACTERS]


def test_beyond_the_bound_kinds_of_bytes_are_scaled_by_what_the_tokenizer_makes_of_samples(counter: Counter) -> None:
    text = PROSE * 2000
    size = ExactSizer(counter)([text])
    first, *samples = counter.asked
    assert text.startswith(first)
    assert PIECE_CHARACTERS - 10 < len(first) <= PIECE_CHARACTERS
    assert len(samples) == SAMPLES
    assert all(sample.startswith(" ") and sample in text for sample in samples)
    assert size.words == pytest.approx(len(text) / 2, rel=0.02)


def test_samples_are_of_all_parts_of_the_text(counter: Counter) -> None:
    letters = "abcdefgh"
    ExactSizer(counter)(["x" * PIECE_CHARACTERS + "".join(letter * 5000 for letter in letters)])
    assert [sample[0] for sample in counter.asked[1:]] == list(letters)


@pytest.mark.parametrize("padding", ["-", " ", "\n", "="])
@pytest.mark.parametrize("characters", [2048, 4096, 9000])
def test_a_head_of_padding_does_not_make_the_rest_light(padding: str, characters: int) -> None:
    head, rest = padding * characters, PROSE * 700
    size = ExactSizer(merged)([head + rest])
    assert 0.5 < size.words / merged(rest) < 2.0


@pytest.mark.parametrize(
    ("tokens", "ratio"), [pytest.param(0, LEAST_TEXT_FACTOR, id="few"), pytest.param(900, MOST_TEXT_FACTOR, id="many")]
)
def test_what_is_not_counted_is_scaled_within_the_bounds_of_factors(tokens: int, ratio: float) -> None:
    letters = "".join(Random(1).choices(ascii_lowercase, k=200_000))
    sizes = [ExactSizer(lambda _: tokens)([letters[:length]]).words for length in (100_000, 200_000)]
    # A lower-case letter is 0.212 typical tokens.
    assert sizes[1] - sizes[0] == pytest.approx(100_000 * 0.212 * ratio, rel=0.01)


def test_digits_after_prose_are_worth_more_than_prose() -> None:
    def each_digit(text: str) -> int:
        return sum(1 for _ in re.finditer(r" ?[A-Za-z]+|.", text))

    text = PROSE * 2000 + "7" * 94_000
    assert ExactSizer(each_digit)([text]).words == pytest.approx(each_digit(text), rel=0.1)


@given(pieces=st.lists(texts, max_size=30), raw=st.lists(texts.map(str.encode), max_size=3))
def test_the_work_of_one_request_is_bounded(pieces: list[str], raw: list[bytes]) -> None:
    counter = Counter()
    ExactSizer(counter)(pieces, raw)
    assert counter.asked_characters <= COUNTED_CHARACTERS
    assert len(counter.asked) <= COUNTED_CHARACTERS // CALL_CHARACTERS


@given(text=st.text(st.sampled_from("ab \n日🎉"), max_size=4 * PIECE_CHARACTERS))
def test_a_long_text_is_counted_whole_when_it_came_before(text: str) -> None:
    counter = Counter()
    sizer = ExactSizer(counter)
    sizes = [sizer([text]).words for _ in range(10)]
    asked = len(counter.asked)
    assert sizer([text]).words == sizes[-1]
    assert len(counter.asked) == asked
    # Each piece may have one letter more than its pairs.
    assert len(text) / 2 <= sizes[-1] <= len(text) / 2 + 4.5


def test_a_long_text_is_cut_before_a_space(counter: Counter) -> None:
    sizer = ExactSizer(counter)
    for _ in range(3):
        sizer([PROSE * 100])
    assert counter.asked[0].startswith("What")
    assert {piece[0] for piece in counter.asked[1:]} == {" "}


@pytest.mark.parametrize("letter", ["x", "é", "日", "🎉"])
def test_a_longer_text_never_has_fewer_tokens(letter: str) -> None:
    def words(length: int) -> float:
        return ExactSizer(Counter())([letter * length]).words

    sizes = [words(length) for length in range(COUNTED_CHARACTERS - 80, COUNTED_CHARACTERS + 40)]
    assert sizes == sorted(sizes)


def test_what_was_counted_is_not_counted_again(counter: Counter) -> None:
    sizer = ExactSizer(counter)
    first = sizer(["a system prompt", "a question"])
    again = sizer(["a system prompt", "a question", "an answer"])
    assert counter.asked == ["a system prompt", "a question", "an answer"]
    assert again.words == first.words + 5


def test_a_long_chat_is_counted_whole_when_its_turns_came_before(counter: Counter) -> None:
    sizer = ExactSizer(counter)
    turns = [f"{turn}: " + PROSE * 40 for turn in range(8)]
    for end in range(1, 9):
        size = sizer(turns[:end])
    assert size.words == sum((len(turn) + 1) // 2 for turn in turns) > COUNTED_CHARACTERS


def test_what_was_not_used_for_longest_is_forgotten_first(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_exact, "REMEMBERED_COUNTS", 2)
    sizer = ExactSizer(counter)
    for text in ("a", "b", "a", "c", "a", "b"):
        sizer([text])
    assert counter.asked == ["a", "b", "c", "b"]


def test_no_request_looks_up_more_pieces_than_are_remembered(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_exact, "REMEMBERED_COUNTS", 5)
    sizer = ExactSizer(counter)
    messages = [f"{n} is it" for n in range(9)]
    sizes = [sizer(messages).words for _ in range(3)]
    # The four beyond are sampled each time, as one text, and never remembered.
    assert [asked for asked in counter.asked if asked in messages] == messages[:5]
    assert sum(len(asked) for asked in counter.asked) == 5 * 7 + 3 * 4 * 7
    assert sizes == [sizes[0]] * 3


def template(size: TextSize) -> int:
    return round(size.words) + 4 * size.messages + 35


@pytest.mark.parametrize(
    ("tokens_of", "reports"),
    [
        pytest.param(template, 10, id="a chat template"),
        pytest.param(lambda size: round(1.15 * size.words) + 20, 60, id="another tokenizer"),
    ],
)
def test_what_the_template_adds_is_learned(tokens_of: Callable[[TextSize], int], reports: int) -> None:
    factors = TokenFactors(prior=EXACT)
    sizes = [TextSize(words=float(30 + 97 * (n * n % 13)), messages=1 + n % 5) for n in range(reports + 20)]
    for size in sizes[:reports]:
        factors.observe(size, tokens_of(size))
    for size in sizes[reports:]:
        assert factors.estimate(size) == pytest.approx(tokens_of(size), abs=2)


def test_a_report_about_counted_text_moves_the_text_less() -> None:
    size = TextSize(words=1000.0, messages=1)
    exact, typical = TokenFactors(prior=EXACT), TokenFactors(prior=TYPICAL)
    for factors in (exact, typical):
        factors.observe(size, 1200)
    assert 1.0 < exact.factors[0] < typical.factors[0]
