"""The lean engine does what the simulated model server's engine does, and loses nothing."""

import random
from collections.abc import Sequence
from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.engine import Engine
from simulator.request import EngineRequest, EngineSettings, RequestId
from tests.weighbridge.backtest.scenes import engine_settings, steps
from weighbridge.backtest.engine import Job, LeanEngine
from weighbridge.replay.synthetic import synthetic_trace
from weighbridge.replay.trace import TracedRequest

Times = list[tuple[float, float]]
"""TTFT and TPOT of each request."""


def chat(rate_per_s: float, requests: int = 300) -> list[TracedRequest]:
    trace = synthetic_trace(minutes=5, rng=random.Random(1))[:requests]
    speed = rate_per_s * trace[-1].at_s / len(trace)
    return [replace(request, at_s=request.at_s / speed) for request in trace]


def documents() -> list[TracedRequest]:
    """Prompts of many chunks between chats."""
    rng = random.Random(2)
    return [
        TracedRequest(at_s=6.0 * i, input_tokens=rng.choice((300, 9000, 30_000)), output_tokens=rng.randrange(1, 400))
        for i in range(120)
    ]


def on_engine(requests: Sequence[TracedRequest], settings: EngineSettings) -> tuple[Times, float]:
    engine = Engine(settings, steps())
    done = {}
    now_s = busy_s = 0.0
    index = 0
    while index < len(requests) or not engine.idle:
        if engine.idle:
            now_s = max(now_s, requests[index].at_s)
        while index < len(requests) and requests[index].at_s <= now_s:
            request = requests[index]
            asked = EngineRequest(
                request_id=RequestId(str(index)),
                input_tokens=request.input_tokens,
                output_tokens=request.output_tokens,
            )
            assert engine.submit(asked, request.at_s) is None
            index += 1
        step = engine.step(now_s)
        now_s = step.ended_at_s
        busy_s += step.duration_s
        done.update({int(completion.request_id): completion for completion in step.completions})
    ended = [done[index] for index in range(len(requests))]
    return [
        (
            one.first_token_at_s - one.arrived_at_s,
            (one.finished_at_s - one.first_token_at_s) / max(1, one.output_tokens - 1),
        )
        for one in ended
    ], busy_s


def on_lean_engine(jobs: Sequence[Job], settings: EngineSettings) -> LeanEngine:
    """The engine after all jobs, checked after each event."""
    engine = LeanEngine(settings, steps())
    ended: list[Job] = []
    index = 0
    while index < len(jobs) or engine.ends_at_s < inf:
        if index < len(jobs) and jobs[index].arrived_at_s <= engine.ends_at_s:
            engine.submit(jobs[index], jobs[index].arrived_at_s)
            index += 1
        else:
            ended += engine.advance(engine.ends_at_s)[1]
        assert engine.running <= settings.max_sequences
        assert engine.running + engine.waiting == index - len(ended)
    assert sorted(map(id, ended)) == sorted(map(id, jobs))
    return engine


def jobs_of(requests: Sequence[TracedRequest]) -> list[Job]:
    return [Job(request.input_tokens, request.output_tokens, request.at_s) for request in requests]


def times_of(jobs: Sequence[Job]) -> Times:
    return [
        (
            job.first_token_at_s - job.arrived_at_s,
            (job.finished_at_s - job.first_token_at_s) / max(1, job.output_tokens - 1),
        )
        for job in jobs
    ]


def met_ratio(times: Times, limits_s: tuple[float, float]) -> float:
    return sum(ttft <= limits_s[0] and tpot <= limits_s[1] for ttft, tpot in times) / len(times)


@pytest.mark.parametrize(
    ("requests", "settings"),
    [
        pytest.param(chat(2.0), engine_settings(), id="half-full"),
        pytest.param(chat(4.5), engine_settings(), id="full"),
        pytest.param(chat(5.0), engine_settings(32_000), id="kv-bound-with-preemptions"),
        pytest.param(chat(6.0), engine_settings(max_sequences=24), id="all-places-taken"),
        pytest.param(documents(), engine_settings(), id="prompts-of-many-chunks"),
    ],
)
def test_it_agrees_with_the_simulated_model_server(requests: Sequence[TracedRequest], settings: EngineSettings) -> None:
    exact, busy_s = on_engine(requests, replace(settings, max_waiting=len(requests)))
    jobs = jobs_of(requests)
    lean = on_lean_engine(jobs, settings)
    assert lean.busy_s == pytest.approx(busy_s, rel=0.02)
    lean_times = times_of(jobs)
    for limits_s in ((2.0, inf), (0.5, inf), (inf, 0.06), (inf, 0.1), (2.0, 0.1)):
        assert abs(met_ratio(lean_times, limits_s) - met_ratio(exact, limits_s)) <= 0.01 + 1e-9, limits_s
    for kind in (0, 1):
        for ratio in (0.5, 0.9, 0.99):
            simulated_s, exact_s = (sorted(time[kind] for time in times) for times in (lean_times, exact))
            index = int(ratio * len(exact))
            assert simulated_s[index] == pytest.approx(exact_s[index], rel=0.05, abs=0.01), (kind, ratio)


def test_preemption_happens_and_costs_the_youngest() -> None:
    jobs = jobs_of(chat(5.0))
    assert on_lean_engine(jobs, engine_settings(32_000)).preemptions > 0


def test_a_request_that_arrives_during_a_stretch_enters_at_the_next_step() -> None:
    first, second = Job(100, 1000, 0.0), Job(100, 10, 5.0)
    on_lean_engine([first, second], engine_settings())
    alone_s = steps().time_s(prefill_tokens=0, prefill_pairs=0.0, decode_sequences=1, decode_kv_tokens=1100)
    assert second.first_token_at_s - 5.0 < 3 * alone_s


def test_a_single_output_token_ends_with_the_prefill() -> None:
    job = Job(500, 1, 0.0)
    on_lean_engine([job], engine_settings())
    assert job.finished_at_s == job.first_token_at_s < inf


JOBS = st.lists(
    st.tuples(st.integers(1, 3000), st.integers(1, 300), st.floats(0, 20, allow_nan=False)), min_size=1, max_size=25
)


@given(JOBS)
def test_every_request_ends_once_in_any_history_and_nothing_stays_held(
    drawn: list[tuple[int, int, float]],
) -> None:
    jobs = [Job(new, output, at_s) for new, output, at_s in sorted(drawn, key=lambda entry: entry[2])]
    engine = on_lean_engine(jobs, engine_settings(4000, max_sequences=8))
    assert all(job.arrived_at_s < job.first_token_at_s <= job.finished_at_s < inf for job in jobs)
    assert engine.held_tokens == 0
