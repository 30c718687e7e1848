import pytest

from simulator.request import EngineSettings, RejectionReason, RequestId
from tests.simulator.engines import UnitSteps, engine, kinds, request, run_to_end


def test_a_request_prefills_then_decodes_one_token_a_step() -> None:
    subject = engine()
    assert subject.submit(request("a", 10, 3), 0.5) is None
    results = run_to_end(subject, 1.0)
    assert [kinds(result) for result in results] == [
        [("first-token", "a")],
        [("token", "a")],
        [("token", "a"), ("finished", "a")],
    ]
    done = results[-1].completions[0]
    assert (done.arrived_at_s, done.scheduled_at_s, done.first_token_at_s, done.finished_at_s) == (0.5, 1.0, 2.0, 4.0)
    assert (done.input_tokens, done.output_tokens, done.cached_tokens, done.preemptions) == (10, 3, 0, 0)


def test_a_long_prompt_is_prefilled_in_chunks_of_the_budget_with_the_pairs_of_each() -> None:
    steps = UnitSteps()
    subject = engine(steps=steps)
    subject.submit(request("a", 150, 1), 0.0)
    run_to_end(subject)
    assert [call["prefill_tokens"] for call in steps.calls] == [64, 64, 22]
    assert sum(call["prefill_pairs"] for call in steps.calls) == 150 * 151 / 2


def test_decodes_come_before_prefill_in_the_budget_of_a_step() -> None:
    steps = UnitSteps()
    subject = engine(steps=steps)
    subject.submit(request("a", 10, 20), 0.0)
    subject.step(0.0)
    subject.submit(request("b", 200, 1), 1.0)
    result = subject.step(1.0)
    assert kinds(result) == [("token", "a")]
    assert steps.calls[-1] == {
        "prefill_tokens": 63,
        "prefill_pairs": 63 * 64 / 2,
        "decode_sequences": 1,
        "decode_kv_tokens": 11,
    }


def test_requests_start_first_come_first_served_and_a_small_one_does_not_overtake() -> None:
    subject = engine(kv_tokens=64)
    subject.submit(request("big", 40, 8), 0.0)
    subject.step(0.0)
    subject.submit(request("second", 30, 1), 1.0)
    subject.submit(request("small", 1, 1), 1.0)
    subject.step(1.0)
    assert (subject.running, subject.waiting) == (1, 2)
    order = [done.request_id for result in run_to_end(subject, 2.0) for done in result.completions]
    assert order == ["big", "second", "small"]


def test_no_more_sequences_run_than_are_allowed() -> None:
    subject = engine(max_sequences=2)
    for name in "abc":
        subject.submit(request(name, 4, 4), 0.0)
    subject.step(0.0)
    assert (subject.running, subject.waiting) == (2, 1)


def test_blocks_are_taken_as_tokens_come() -> None:
    subject = engine()
    subject.submit(request("a", 15, 20), 0.0)
    used = []
    while not subject.idle:
        subject.step(0.0)
        used.append(subject.kv.used_blocks)
    # 15 input tokens fill one block but for one token. The last output token is never computed, so 34 are held at most.
    assert used == [1] * 2 + [2] * 16 + [3] + [0]


def test_when_blocks_run_out_the_youngest_is_preempted_and_later_computed_again() -> None:
    steps = UnitSteps()
    subject = engine(kv_tokens=64, steps=steps)
    subject.submit(request("old", 31, 10), 0.0)
    subject.submit(request("young", 31, 10), 0.0)
    results = run_to_end(subject)
    preempted = [result for result in results if ("preempted", "young") in kinds(result)]
    assert len(preempted) == 1
    assert kinds(preempted[0]) == [("preempted", "young"), ("token", "old")]
    finished = {done.request_id: done for result in results for done in result.completions}
    assert finished[RequestId("old")].finished_at_s < finished[RequestId("young")].finished_at_s
    assert finished[RequestId("young")].preemptions == subject.totals.preemptions == 1
    # Both had two tokens when the third block was needed: the young one prefills 33 tokens again, not 31.
    assert [call["prefill_tokens"] for call in steps.calls if call["prefill_tokens"]] == [62, 33]
    assert (subject.totals.input_tokens, subject.totals.output_tokens) == (62, 20)


def test_a_preempted_request_goes_before_those_that_wait() -> None:
    subject = engine(kv_tokens=64, max_sequences=2)
    for name, tokens in (("old", 31), ("young", 31), ("third", 1)):
        subject.submit(request(name, tokens, 10), 0.0)
    results = run_to_end(subject)
    finished = {str(done.request_id): done for result in results for done in result.completions}
    # There is room for the third while the young one is out, but it stays behind it.
    assert finished["third"].scheduled_at_s >= finished["old"].finished_at_s
    assert subject.totals.preemptions == 1


def test_a_preempted_request_gets_no_second_first_token() -> None:
    subject = engine(kv_tokens=64)
    subject.submit(request("old", 31, 10), 0.0)
    subject.submit(request("young", 31, 10), 0.0)
    events = [event for result in run_to_end(subject) for event in kinds(result)]
    assert events.count(("first-token", "young")) == 1
    assert events.count(("token", "young")) == 9


@pytest.mark.parametrize("steps_before", [0, 1, 3], ids=["waiting", "in prefill", "decoding"])
def test_an_aborted_request_is_gone_at_once_with_its_blocks(steps_before: int) -> None:
    subject = engine()
    subject.submit(request("a", 100, 50), 0.0)
    for step in range(steps_before):
        subject.step(float(step))
    assert subject.abort(RequestId("a"))
    assert (subject.idle, subject.running, subject.waiting, subject.kv.used_blocks) == (True, 0, 0, 0)
    assert not subject.abort(RequestId("a"))
    assert subject.step(9.0).events == ()


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        pytest.param(request("b", 1600, 1), RejectionReason.CONTEXT_EXCEEDED, id="can never fit"),
        pytest.param(request("b", 0, 1), RejectionReason.NO_INPUT, id="empty prompt"),
        pytest.param(request("a", 5, 5), RejectionReason.DUPLICATE_ID, id="id in progress"),
        pytest.param(request("b", 5, 5), RejectionReason.QUEUE_FULL, id="queue full"),
    ],
)
def test_rejected_requests_leave_no_trace(asked: object, reason: RejectionReason) -> None:
    subject = engine(max_waiting=1)
    subject.submit(request("a", 5, 5), 0.0)
    rejection = subject.submit(asked, 0.0)  # type: ignore[arg-type]
    assert rejection is not None
    assert rejection.reason is reason
    assert rejection.detail
    assert subject.waiting == 1


def test_a_request_of_exactly_the_whole_cache_runs() -> None:
    subject = engine(kv_tokens=160)
    assert subject.submit(request("a", 100, 60), 0.0) is None
    assert run_to_end(subject)[-1].completions[0].output_tokens == 60


def test_a_request_without_output_ends_with_its_prefill() -> None:
    subject = engine()
    subject.submit(request("a", 100, 0), 0.0)
    results = run_to_end(subject)
    assert [kinds(result) for result in results] == [[], [("finished", "a")]]
    assert results[-1].completions[0].first_token_at_s == 2.0


def test_a_prompt_that_was_seen_before_is_prefilled_from_its_first_new_block() -> None:
    steps = UnitSteps()
    subject = engine(steps=steps)
    subject.submit(request("a", 50, 1, prefix=(1, 2, 3)), 0.0)
    run_to_end(subject)
    subject.submit(request("b", 48, 1, prefix=(1, 2, 3)), 0.0)
    done = run_to_end(subject)[-1].completions[0]
    # The last token is computed even when its block is known, hence two blocks and not three.
    assert done.cached_tokens == 32
    assert steps.calls[-1]["prefill_tokens"] == 16
    assert (subject.totals.prefix_queried_tokens, subject.totals.prefix_hit_tokens) == (98, 32)


def test_without_a_prefix_cache_nothing_is_used_again() -> None:
    subject = engine(prefix_cache=False)
    for name in "ab":
        subject.submit(request(name, 50, 1, prefix=(1, 2, 3)), 0.0)
        assert run_to_end(subject)[-1].completions[0].cached_tokens == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_sequences", 0),
        ("max_waiting", 0),
        ("max_batched_tokens", 7),
        ("max_context_tokens", 1601),
        ("block_tokens", 0),
        ("kv_tokens", 15),
    ],
)
def test_limits_that_cannot_work_are_refused_by_name(field: str, value: int) -> None:
    limits = {"kv_tokens": 1600, "max_context_tokens": 1600, "max_sequences": 8, "max_batched_tokens": 64}
    with pytest.raises(ValueError, match=r"max_context_tokens" if field == "kv_tokens" else field):
        EngineSettings(**{**limits, field: value})
