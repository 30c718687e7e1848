"""Trace loaders, the synthetic workload and the prompts made from them."""

import random
import statistics
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.tokenizer import prompt_tokens
from weighbridge.replay.prompt import PromptWriter, chat_body
from weighbridge.replay.synthetic import REQUESTS_PER_S, synthetic_trace
from weighbridge.replay.trace import (
    MOONCAKE_TICK_S,
    BadTrace,
    TracedRequest,
    first_minutes,
    load_trace,
    read_azure,
    read_mooncake,
)

TRACES = Path(__file__).parents[3] / "shared" / "data" / "traces"
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def azure(*rows: str) -> list[TracedRequest]:
    return read_azure([HEADER, *(f"{row}\n" for row in rows)], name="a.csv")


def mooncake(*rows: str, seed: int = 1) -> list[TracedRequest]:
    return read_mooncake(rows, name="m.jsonl", rng=random.Random(seed))


def test_azure_rows_become_requests_counted_from_the_first() -> None:
    assert azure("2023-11-16 18:15:46.6805900,374,44", "2023-11-16 18:15:50.6805900,396,109") == [
        TracedRequest(at_s=0.0, input_tokens=374, output_tokens=44),
        TracedRequest(at_s=4.0, input_tokens=396, output_tokens=109),
    ]


def test_azure_rows_out_of_order_are_sorted_by_arrival() -> None:
    requests = azure("2024-05-10 00:00:09+00:00,9,1", "2024-05-10 00:00:01+00:00,1,1")
    assert [(request.at_s, request.input_tokens) for request in requests] == [(0.0, 1), (8.0, 9)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param("yesterday,1,1", "a.csv, line 3, column TIMESTAMP: must be an ISO date", id="not a time"),
        pytest.param("2023-11-16 18:15:47,x,1", "ContextTokens: must be a whole number, is 'x'", id="not a number"),
        pytest.param("2023-11-16 18:15:47,1,0", "line 3, column GeneratedTokens: must be at least 1, is 0", id="zero"),
        pytest.param("2023-11-16 18:15:47,1", "line 3, column -: must have 3 columns, has 2", id="short row"),
    ],
)
def test_a_bad_azure_row_is_named_by_file_line_column_and_rule(row: str, message: str) -> None:
    with pytest.raises(BadTrace, match=message):
        azure("2023-11-16 18:15:46,374,44", row)


def test_an_azure_file_with_another_header_or_no_requests_is_refused() -> None:
    with pytest.raises(BadTrace, match="line 1, column -: the header must be"):
        read_azure(["a,b,c\n"], name="a.csv")
    with pytest.raises(BadTrace, match="must have at least one request"):
        read_azure([HEADER], name="a.csv")


LINE = '{"timestamp": 3000, "input_length": 600, "output_length": 5, "hash_ids": [7, 8]}'


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param("{", "m.jsonl, line 2, column -: must be one JSON object", id="not JSON"),
        pytest.param(LINE.replace("600", '"x"'), "line 2, column input_length: Expected `int`", id="wrong type"),
        pytest.param(LINE.replace('"output_length": 5, ', ""), "missing required field `output_length`", id="missing"),
        pytest.param(
            LINE.replace("600", "513000"),
            "hash_ids: must have one id per .* .1002., has 2",
            id="ids",
        ),
        pytest.param(LINE.replace(" 5", " 0"), "column output_length: must be at least 1, is 0", id="zero"),
        pytest.param(LINE.replace("3000", "-1"), "column timestamp: must be at least 0", id="negative time"),
    ],
)
def test_a_bad_mooncake_line_is_named_by_file_line_column_and_rule(row: str, message: str) -> None:
    with pytest.raises(BadTrace, match=message):
        mooncake(LINE, row)


def test_mooncake_arrivals_are_spread_inside_their_tick_and_repeat_with_the_seed() -> None:
    rows = [LINE] * 200 + [LINE.replace("3000", "6000")] * 200
    requests = mooncake(*rows)
    assert requests == mooncake(*rows)
    assert requests != mooncake(*rows, seed=2)
    assert len({request.at_s for request in requests}) == 400
    assert requests[-1].at_s <= 2 * MOONCAKE_TICK_S
    assert 1.2 < statistics.mean(request.at_s for request in requests[:200]) < 1.8


def test_load_trace_reads_both_formats_by_their_suffix(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(LINE + "\n\n")
    (tmp_path / "a.csv").write_text(HEADER + "2023-11-16 18:15:46,374,44\n")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    rng = random.Random(1)
    assert load_trace(tmp_path / "m.jsonl", rng=rng)[0].prefix_blocks == (7, 8)
    assert load_trace(tmp_path / "a.csv", rng=rng)[0].input_tokens == 374
    with pytest.raises(BadTrace, match="must be UTF-8"):
        load_trace(tmp_path / "b.csv", rng=rng)


@pytest.mark.skipif(not TRACES.is_dir(), reason="the recorded traces are not beside this checkout")
def test_the_recorded_traces_load_whole() -> None:
    chat = load_trace(TRACES / "azure2023_conv.csv", rng=random.Random(1))
    long = load_trace(TRACES / "mooncake_conversation.jsonl", rng=random.Random(1))
    assert (len(chat), len(long)) == (19_366, 12_031)
    assert len(first_minutes(chat, 1)) == 191


def test_the_synthetic_workload_has_the_statistics_of_the_chat_trace() -> None:
    requests = synthetic_trace(minutes=60, rng=random.Random(5))
    gaps = [b.at_s - a.at_s for a, b in pairwise(requests)]
    inputs = [request.input_tokens for request in requests]
    outputs = [request.output_tokens for request in requests]
    assert len(requests) / 3600 == pytest.approx(REQUESTS_PER_S, rel=0.03)
    assert statistics.pstdev(gaps) / statistics.mean(gaps) == pytest.approx(1.094, rel=0.05)
    assert statistics.mean(inputs) == pytest.approx(1154.7, rel=0.04)
    assert statistics.median(inputs) == pytest.approx(1020, rel=0.02)
    assert statistics.mean(outputs) == pytest.approx(211.1, rel=0.03)
    assert statistics.median(outputs) == pytest.approx(129, rel=0.05)
    assert min(inputs) >= 2
    assert max(outputs) <= 1000


@given(st.integers(1, 5000), st.integers(0, 10**9), st.integers(0, 99))
def test_a_prompt_has_exactly_the_tokens_of_the_trace(tokens: int, index: int, seed: int) -> None:
    request = TracedRequest(at_s=0, input_tokens=tokens, output_tokens=1)
    assert prompt_tokens(PromptWriter(seed=seed).prompt(index, request)) == tokens
    template = PromptWriter(seed=seed, template_tokens=30)
    assert prompt_tokens(template.prompt(index, request)) == max(1, tokens - 30)


@given(st.integers(1, 511), st.lists(st.integers(0, 10**6), max_size=6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_prompts_share_a_prefix_exactly_as_far_as_their_blocks_agree(
    tail: int, shared: list[int], one: int, other: int
) -> None:
    writer = PromptWriter(seed=3)

    def words(last: int) -> list[str]:
        tokens = 512 * len(shared) + tail
        blocks = (*shared, last)
        request = TracedRequest(at_s=0, input_tokens=tokens, output_tokens=1, prefix_blocks=blocks)
        text = writer.prompt(0, request)
        assert prompt_tokens(text) == tokens
        return text.split()

    a, b = words(one), words(other)
    common = next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))
    assert common == (len(a) if one == other else 512 * len(shared))


def test_prompts_without_blocks_differ_from_their_first_token_on() -> None:
    writer = PromptWriter(seed=3)
    request = TracedRequest(at_s=0, input_tokens=20, output_tokens=1)
    assert len({writer.prompt(index, request).split()[0] for index in range(5000)}) == 5000


def test_a_body_asks_for_exactly_the_traced_output_and_for_usage() -> None:
    assert msgspec.json.decode(chat_body("m", "hello", max_tokens=7)) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 7,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
