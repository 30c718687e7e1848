"""The event filter: the same bytes for any chunking, nothing lost, usage read and hidden."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sse import MAX_EVENT_BYTES, EventFilter
from gateway.usage import Usage
from tests.gateway.builders import cut

USAGE = '{"id":"1","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}'
WITH_CHOICES = '{"choices":[{"delta":{"content":"x"}}],"usage":{"prompt_tokens":5,"completion_tokens":1}}'


def delta(text: str) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]})


def stream(*events: str, end: str = "\n\n") -> bytes:
    return "".join(event + end for event in events).encode()


def run(pieces: list[bytes], *, hide_usage: bool = True) -> tuple[bytes, EventFilter]:
    events = EventFilter(hide_usage=hide_usage)
    out = b"".join([events.feed(piece) for piece in pieces])
    return out + events.end(), events


@pytest.mark.parametrize("end", [pytest.param("\n\n", id="lf"), pytest.param("\r\n\r\n", id="crlf")])
@pytest.mark.parametrize("pieces", [pytest.param("whole", id="whole"), pytest.param("bytes", id="byte at a time")])
@pytest.mark.parametrize("space", [pytest.param(" ", id="space"), pytest.param("", id="no space")])
def test_a_plain_stream_passes_and_its_usage_is_hidden(end: str, pieces: str, space: str) -> None:
    head = [f"data:{space}{delta('a')}", f"data:{space}{delta('b')}"]
    data = stream(*head, f"data:{space}{USAGE}", f"data:{space}[DONE]", end=end)
    out, events = run([data] if pieces == "whole" else [data[n : n + 1] for n in range(len(data))])
    assert out == stream(*head, f"data:{space}[DONE]", end=end)
    assert (events.events, events.done, events.usage) == (2, True, Usage(5, 2, 0))


def test_usage_that_the_client_asked_for_stays() -> None:
    data = stream(f"data: {delta('a')}", f"data: {USAGE}", "data: [DONE]")
    out, events = run([data], hide_usage=False)
    assert out == data
    assert (events.events, events.usage) == (2, Usage(5, 2, 0))


def test_an_event_with_choices_and_usage_is_kept_and_read() -> None:
    data = stream(f"data: {WITH_CHOICES}", "data: [DONE]")
    out, events = run([data])
    assert out == data
    assert events.usage == Usage(5, 1, 0)


def test_usage_of_null_in_every_chunk_hides_nothing() -> None:
    data = stream(*[f'data: {{"choices":[{{"delta":{{"content":"{n}"}}}}],"usage":null}}' for n in range(3)])
    out, events = run([data])
    assert out == data
    assert (events.events, events.usage) == (3, None)


def test_done_in_model_text_is_not_the_end() -> None:
    data = stream(f"data: {delta('data: [DONE]')}", f"data: {delta('x' + chr(10) + 'data: [DONE]' + chr(10) * 2)}")
    out, events = run([data])
    assert out == data
    assert (events.events, events.done) == (2, False)


def test_comments_and_named_events_pass_and_only_data_counts() -> None:
    data = stream(": ping", "event: delta\ndata: 1", "id: 7\ndata: 2\nretry: 5", ": ping", "event: end\ndata: [DONE]")
    out, events = run([data])
    assert out == data
    assert (events.events, events.done) == (2, True)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"], ids=["no line break", "one line break", "one crlf"])
def test_a_stream_that_ends_without_a_blank_line_is_read_like_any_other(end: str) -> None:
    first = stream(f"data: {delta('a')}")
    out, events = run([first + f"data: [DONE]{end}".encode()])
    assert out == first + f"data: [DONE]{end}".encode()
    assert (events.events, events.done) == (1, True)
    out, events = run([first + f"data: {USAGE}{end}".encode()])
    assert out.strip() == first.strip()
    assert events.usage == Usage(5, 2, 0)


def test_nothing_is_given_before_an_event_is_whole() -> None:
    events = EventFilter(hide_usage=True)
    assert events.feed(b'data: {"choices":[]') == b""
    assert events.feed(b"}\n") == b""
    assert events.feed(b"\ndata: next") == b'data: {"choices":[]}\n\n'


def test_an_event_that_is_too_long_to_hold_passes_in_pieces_and_counts_once() -> None:
    long = b"data: " + b"x" * (3 * MAX_EVENT_BYTES) + b"\n\n"
    data = stream("data: 1") + long + stream(f"data: {USAGE}", "data: 2", "data: [DONE]")
    pieces = [data[n : n + 400_000] for n in range(0, len(data), 400_000)]
    events = EventFilter(hide_usage=True)
    out, held, fed = b"", 0, 0
    for piece in pieces:
        fed += len(piece)
        out += events.feed(piece)
        held = max(held, fed - len(out))
    assert out + events.end() == data.replace(stream(f"data: {USAGE}"), b"")
    assert held <= MAX_EVENT_BYTES + 400_000
    assert (events.events, events.done, events.usage) == (3, True, Usage(5, 2, 0))


# Properties over any stream

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["[DONE]", "data: [DONE]", '"usage":{"prompt_tokens":1}', "\n\n", "\r\n\r\n"]
)
PAYLOADS = TEXT.map(delta) | st.just(USAGE) | st.just(WITH_CHOICES) | st.just('{"choices":[{"delta":{}}],"usage":null}')
EVENTS = st.one_of(
    PAYLOADS.map(lambda text: f"data: {text}"),
    PAYLOADS.map(lambda text: f"data:{text}"),
    st.just(": ping"),
    st.just("data: [DONE]"),
    st.just("event: delta\ndata: {}"),
    st.just(""),
)
ENDS = st.sampled_from(["\n\n", "\r\n\r\n", "\n\n\n"])
STREAMS = st.lists(st.tuples(EVENTS, ENDS), max_size=10)
CUTS = st.lists(st.integers(0, 2000), max_size=12)


def facts(events: EventFilter) -> tuple[int, bool, Usage | None]:
    return events.events, events.done, events.usage


@given(STREAMS, CUTS, st.booleans(), st.booleans())
def test_chunking_changes_nothing(parts: list[tuple[str, str]], cuts: list[int], hide: bool, whole_end: bool) -> None:
    data = "".join(event + end for event, end in parts).encode()
    data = data if whole_end else data.rstrip()
    whole, of_whole = run([data], hide_usage=hide)
    pieces, of_pieces = run(cut(data, cuts), hide_usage=hide)
    single, of_single = run([data[n : n + 1] for n in range(len(data))], hide_usage=hide)
    assert whole == pieces == single
    assert facts(of_whole) == facts(of_pieces) == facts(of_single)


@given(STREAMS, CUTS)
def test_bytes_out_are_bytes_in_when_nothing_is_hidden(parts: list[tuple[str, str]], cuts: list[int]) -> None:
    data = "".join(event + end for event, end in parts).encode()
    assert run(cut(data, cuts), hide_usage=False)[0] == data


@given(STREAMS, CUTS)
def test_only_the_usage_event_is_missing_when_it_is_hidden(parts: list[tuple[str, str]], cuts: list[int]) -> None:
    hidden = (f"data: {USAGE}", f"data:{USAGE}")
    data = "".join(event + end for event, end in parts).encode()
    kept = "".join(event + end for event, end in parts if event not in hidden).encode()
    # Line breaks beyond a hidden event's blank line stay, so only the text is compared.
    assert b"".join(run(cut(data, cuts))[0].split()) == b"".join(kept.split())
