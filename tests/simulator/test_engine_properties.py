from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from simulator.engine import Engine
from simulator.request import EventKind, RequestId, StepResult
from tests.simulator.engines import engine, request

KV_TOKENS = 160


@dataclass(frozen=True)
class Arrival:
    step: int
    input_tokens: int
    output_tokens: int
    family: int
    abort_after: int | None


ARRIVALS = st.lists(
    st.builds(
        Arrival,
        step=st.integers(0, 30),
        input_tokens=st.integers(1, 90),
        output_tokens=st.integers(0, 60),
        family=st.integers(0, 2),
        abort_after=st.none() | st.integers(0, 15),
    ),
    max_size=12,
)
LIMITS = {"max_sequences": st.integers(1, 6), "budget": st.integers(6, 70), "prefix_cache": st.booleans()}


@dataclass
class Run:
    subject: Engine
    results: list[StepResult]
    accepted: set[str]
    aborted: set[str]


def play(arrivals: list[Arrival], max_sequences: int, budget: int, prefix_cache: bool) -> Run:
    """All arrivals and aborts at their steps, checking at each step that the KV books hold; then on to the end."""
    subject = engine(
        kv_tokens=KV_TOKENS,
        max_sequences=max_sequences,
        max_batched_tokens=budget,
        max_waiting=5,
        prefix_cache=prefix_cache,
    )
    run = Run(subject, [], set(), set())
    now_s, step = 0.0, 0
    while step <= 60 or not subject.idle:
        for index, arrival in enumerate(arrivals):
            name = f"r{index}"
            if arrival.step == step:
                prefix = [arrival.family * 100 + block for block in range(arrival.input_tokens // 16)]
                asked = request(name, arrival.input_tokens, arrival.output_tokens, prefix)
                if subject.submit(asked, now_s) is None:
                    run.accepted.add(name)
            ends = arrival.abort_after is not None and arrival.step + arrival.abort_after == step
            if ends and subject.abort(RequestId(name)):
                run.aborted.add(name)
        decoding = subject.running
        result = subject.step(now_s)
        run.results.append(result)
        assert 0 <= subject.kv.used_blocks <= subject.kv.blocks
        assert subject.running <= max_sequences
        assert result.prefill_tokens + result.decode_sequences <= budget
        assert subject.idle or result.duration_s > 0 or not decoding
        now_s, step = result.ended_at_s, step + 1
        assert step < 5000, "the engine stopped making progress"
    return run


@given(arrivals=ARRIVALS, **LIMITS)
def test_every_accepted_request_ends_exactly_once_with_all_its_tokens_and_frees_its_blocks(
    arrivals: list[Arrival], max_sequences: int, budget: int, prefix_cache: bool
) -> None:
    run = play(arrivals, max_sequences, budget, prefix_cache)
    finished = Counter(done.request_id for result in run.results for done in result.completions)
    assert set(finished) | run.aborted == run.accepted
    assert not set(finished) & run.aborted
    assert set(finished.values()) <= {1}
    tokens = Counter(
        event.request_id
        for result in run.results
        for event in result.events
        if event.kind in (EventKind.FIRST_TOKEN, EventKind.TOKEN)
    )
    for result in run.results:
        for done in result.completions:
            arrival = arrivals[int(done.request_id[1:])]
            assert tokens[done.request_id] == done.output_tokens == arrival.output_tokens
            assert done.arrived_at_s <= done.scheduled_at_s < done.first_token_at_s <= done.finished_at_s
    assert run.subject.kv.used_blocks == 0


@given(arrivals=ARRIVALS, **LIMITS)
def test_equal_input_gives_equal_steps(
    arrivals: list[Arrival], max_sequences: int, budget: int, prefix_cache: bool
) -> None:
    first = play(arrivals, max_sequences, budget, prefix_cache)
    assert first.results == play(arrivals, max_sequences, budget, prefix_cache).results


@given(arrivals=ARRIVALS, **LIMITS)
def test_a_decoding_sequence_gets_a_token_in_every_step_until_it_ends_or_is_preempted(
    arrivals: list[Arrival], max_sequences: int, budget: int, prefix_cache: bool
) -> None:
    run = play([arrival for arrival in arrivals if arrival.abort_after is None], max_sequences, budget, prefix_cache)
    decoding: set[str] = set()
    for result in run.results:
        by_kind = {kind: {e.request_id for e in result.events if e.kind is kind} for kind in EventKind}
        produced = by_kind[EventKind.FIRST_TOKEN] | by_kind[EventKind.TOKEN]
        assert decoding - by_kind[EventKind.PREEMPTED] <= produced
        decoding = (decoding | produced) - by_kind[EventKind.PREEMPTED] - by_kind[EventKind.FINISHED]
