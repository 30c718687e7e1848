"""The demo: its plan as values, and a short one for real."""

import random
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import weighbridge.demo as demo
from weighbridge.config import parse
from weighbridge.demo.plan import (
    AUTOSCALER,
    GPU,
    MODEL,
    DemoSettings,
    back_at_one,
    decision_lines,
    demo_config,
    demo_price,
    introduction,
    plan,
)
from weighbridge.replay.report import Replayed, Slo
from weighbridge.replay.sender import SenderCounts
from weighbridge.replay.status import PoolSample, SeenDecision, StatusSample
from weighbridge.replay.summary import summarize
from weighbridge.replay.synthetic import synthetic_trace
from weighbridge.replay.trace import TracedRequest

PRICE = demo_price()


def console_in(tmp_path: Path) -> Console:
    return Console(width=160, record=True, file=(tmp_path / "console").open("w"))


def test_the_demo_configuration_is_one_that_up_accepts() -> None:
    loaded = parse(yaml.safe_dump(demo_config("sk-demo-1", DemoSettings())), {}, source="demo")
    pool = loaded.config.pools[MODEL]
    assert (pool.gpu, pool.replicas.processes and pool.replicas.processes.max) == (GPU, 4)
    assert {name: getattr(loaded.config.autoscaler, name) for name in AUTOSCALER} == AUTOSCALER
    assert "sk-demo-1" not in repr(loaded.config)


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.floats(0.5, 4), st.floats(10, 300))
def test_no_minute_of_the_plan_offers_more_than_the_peak_load(seed: int, peak_erlangs: float, replay_s: float) -> None:
    trace = synthetic_trace(minutes=15, rng=random.Random(seed))
    workload = plan("t", trace, PRICE, DemoSettings(peak_erlangs=peak_erlangs, replay_s=replay_s))
    assert list(workload.requests) == [request for request in trace if request.at_s < replay_s * workload.speed]
    loads: dict[float, float] = {}
    for request in workload.requests:
        weight = PRICE.used(input_tokens=request.input_tokens, output_tokens=request.output_tokens)
        loads[request.at_s // 60] = loads.get(request.at_s // 60, 0.0) + weight.gpu_s / 60 * workload.speed
    assert max(loads.values()) < peak_erlangs * 1.001


def test_a_steady_trace_is_sped_up_to_the_peak_load() -> None:
    weight = PRICE.used(input_tokens=1000, output_tokens=100)
    trace = [TracedRequest(at_s=second, input_tokens=1000, output_tokens=100) for second in range(3600)]
    workload = plan("t", trace, PRICE, DemoSettings(peak_erlangs=2.0, replay_s=60))
    assert workload.speed * weight.gpu_s == pytest.approx(2.0)


def test_a_trace_too_short_for_its_speed_is_replayed_whole() -> None:
    trace = [TracedRequest(at_s=0, input_tokens=10, output_tokens=10)]
    assert list(plan("t", trace, PRICE, DemoSettings()).requests) == trace


def test_the_introduction_states_every_setting_that_differs_from_the_defaults() -> None:
    chosen = DemoSettings()
    text = introduction(plan("t", synthetic_trace(minutes=10, rng=random.Random(0)), PRICE, chosen), chosen)
    assert all(f"{name} {value}" in text for name, value in AUTOSCALER.items())
    assert "cold start 5 s" in text


def test_decision_lines_show_changes_with_their_reasons() -> None:
    decisions = tuple(
        SeenDecision(at_s=1000 + at_s, desired=desired, ready=1, headline=why, offered_load=None, backlog_gpu_s=None)
        for at_s, desired, why in ((0, 1, "calm"), (4, 3, "offered load 2.1"), (6, 3, "same"), (90, 2, "down"))
    )
    samples = [StatusSample(at_s=1, pools=(PoolSample(pool=MODEL, models=(MODEL,), decisions=decisions),))]
    counts = SenderCounts()
    replayed = Replayed(
        trace="t", model=MODEL, speed=1, seed=0, started_at_s=1000, wall_s=1, records=[], counts=counts, samples=samples
    )
    lines = decision_lines(summarize(replayed, Slo()))
    assert lines == ["   4.0 s  1 -> 3  offered load 2.1", "  90.0 s  3 -> 2  down"]


@pytest.mark.parametrize(
    ("ready", "starting", "draining", "back"),
    [(1, 0, 0, True), (2, 0, 0, False), (1, 1, 0, False), (1, 0, 1, False), (None, None, None, False)],
)
def test_the_fleet_is_back_when_one_ready_replica_is_all_there_is(
    ready: int | None, starting: int | None, draining: int | None, back: bool
) -> None:
    pool = PoolSample(pool=MODEL, models=(MODEL,), ready=ready, starting=starting, draining=draining)
    assert back_at_one(StatusSample(at_s=0, pools=(pool,))) is back
    assert not back_at_one(StatusSample(at_s=0, pools=()))


def test_a_short_demo_loses_nothing_and_exits_with_0(tmp_path: Path) -> None:
    rows = "".join(f"2023-11-16 18:15:0{second}.{tenth},200,8\n" for second in range(10) for tenth in range(0, 10, 5))
    (tmp_path / "chat.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    chosen = DemoSettings(replay_s=2, peak_erlangs=0.02, cold_start_s=0)
    console = console_in(tmp_path)
    with console.file:
        status = demo.run(chosen, console, trace=tmp_path / "chat.csv")
    text = console.export_text()
    assert status == 0, text
    assert "requests of chat.csv" in text
    assert "Scaling decisions" in text


def test_a_fleet_that_cannot_start_ends_the_demo_with_its_log(tmp_path: Path) -> None:
    console = console_in(tmp_path)
    with console.file:
        status = demo.run(DemoSettings(max_replicas=0), console, trace=tmp_path / "absent.csv")
    assert status == 1
    assert "must be at least" in console.export_text()
