"""`weighbridge autoscaler status`, `explain` and `simulate` as an operator calls them."""

import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from autoscaler.calibrator import Calibration
from autoscaler.decide import DecisionState, decide, record_from_decision
from autoscaler.observation import Known, Observation, Override
from autoscaler.recorder import Recorder
from autoscaler.settings import AutoscalerSettings
from backlog.records import DecisionRecord, PoolName
from backlog.store import connect
from tests.autoscaler.builders import observation, settings
from weighbridge.autoscaler_command import register
from weighbridge.wiring import command_line

POOL = "models: [{0}], architecture: llama-3.1-8b, gpu: L40S, replicas: {{processes: {{min: 1, max: 8}}}}"
FIXED = Calibration(utilization=0.9)


def autoscaler(*words: object) -> Result:
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def file(tmp_path: Path, redis_url: str, redis_prefix: str) -> Path:
    """A configuration with two pools, on a real Redis."""
    path = tmp_path / "c.yaml"
    pools = f"pools:\n  chat: {{{POOL.format('m')}}}\n  code: {{{POOL.format('n')}}}\n"
    path.write_text(f"{pools}redis: {{url: '{redis_url}', prefix: {redis_prefix}}}\n")
    return path


def decided(seen: Observation, *, ago_s: float = 2.0, **changes: Any) -> DecisionRecord:
    now_s = time.time() - ago_s
    scaling = settings(**changes)
    decision, _ = decide(seen, DecisionState(), scaling, calibration=FIXED, now_s=now_s)
    return record_from_decision(decision, seen, scaling, cold_start_s=42.0, now_s=now_s)


@pytest.fixture
def publish(redis_url: str, redis_prefix: str) -> Callable[..., None]:
    def publish(*decisions: DecisionRecord, pool: str = "chat") -> None:
        async def run() -> None:
            backlog = connect(redis_url, prefix=redis_prefix)
            for decision in decisions:
                await backlog.publish_decision(PoolName(pool), replace(decision, pool=PoolName(pool)))
            await backlog.close()

        asyncio.run(run())

    return publish


BUSY = replace(
    observation(2, load=4.0, waiting=3, waiting_gpu_s=12.5, in_flight=7, unschedulable=0),
    offered_load=Known(value=4.0, age_s=1.5),
)


def test_status_has_a_row_per_pool(file: Path, publish: Callable[..., None]) -> None:
    publish(decided(BUSY))
    result = autoscaler("status", "--config", file)
    assert result.exit_code == 0, result.output
    head, chat, code, _, why_chat, why_code = (" ".join(line.split()) for line in result.stdout.splitlines())
    assert head == "pool mode ready pending draining desired offered load backlog GPU-s cold start decided"
    assert chat.startswith("chat apply 2 0 0 5 4.00 12.5 42 s ")
    assert chat.endswith(" s ago")
    assert code == "code" + " unknown" * 9
    assert why_chat.startswith("chat offered load 4.00 at 1.11 replicas each")
    assert why_code == "code no decision in the last hour: is the autoscaler running?"


def test_status_draws_what_is_not_known_as_unknown(file: Path, publish: Callable[..., None]) -> None:
    publish(decided(observation(2, unknown_for_s=30.0, load=None)))
    shown = autoscaler("status", "--config", file, "--pool", "chat").stdout
    _, row, _, why = (" ".join(line.split()) for line in shown.splitlines())
    assert row.startswith("chat apply 2 0 0 2 unknown unknown 42 s ")
    assert why == "chat hold: no news, unknown for 30 s"


def test_status_as_json_has_the_decision_and_its_age(file: Path, publish: Callable[..., None]) -> None:
    publish(decided(BUSY))
    chat, code = json.loads(autoscaler("status", "--config", file, "--json").stdout)
    assert (chat["pool"], chat["decision"]["desired"], chat["decision"]["offered_load"]) == ("chat", 5, 4.0)
    assert 2.0 <= chat["age_s"] < 60
    assert code == {"pool": "code", "decision": None, "age_s": None}


def test_explain_shows_inputs_with_ages_and_marks_the_binding_step(file: Path, publish: Callable[..., None]) -> None:
    publish(decided(replace(BUSY, fleet=replace(BUSY.fleet, unschedulable=1, pending=1, ready=1))))
    result = autoscaler("explain", "--config", file, "--pool", "chat")
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0].startswith("chat: desired 2 (apply), recommended 5, decided ")
    assert lines[1] == "1 of 2 cannot be scheduled: no more are ordered"
    assert "offered load 1.5 s 4.00 erlangs" in lines
    work = "work 0.0 s 3 waiting with 12.5 GPU-s, 7 running; prefill backlog 0.0 s, 0 KV tokens"
    assert work in lines
    assert "misses 0.0 s unknown: no news" in lines
    assert "replicas 2 told to run: 1 ready, 1 pending, 0 draining; 1 without room" in lines
    assert [line for line in lines if "◀" in line] == [
        "unschedulable 5 2 ◀ 1 of 2 cannot be scheduled: no more are ordered"
    ]


def test_explain_shows_who_paused_and_who_changed_a_pool(file: Path, publish: Callable[..., None]) -> None:
    by_hand = Override(by="kubectl-edit", replicas=3, at_s=time.time())
    publish(decided(observation(3, override=by_hand)), decided(observation(3, paused="[upgrade]", override=by_hand)))
    text = autoscaler("explain", "--config", file, "--pool", "chat", "--last", 2).stdout
    assert text.index("paused: [upgrade]") < text.index("kubectl-edit set 3 at ")


def test_explain_as_json_is_a_list_with_the_index_of_the_binding_step(file: Path, publish: Callable[..., None]) -> None:
    publish(*[decided(BUSY, ago_s=10.0 - number) for number in range(5)])
    decisions = json.loads(autoscaler("explain", "-c", file, "--pool", "chat", "--last", 3, "--json").stdout)
    assert len(decisions) == 3
    assert decisions[0]["at_s"] > decisions[2]["at_s"]
    assert decisions[0]["steps"][decisions[0]["binding"]]["reason"] == decisions[0]["headline"]
    assert [read["name"] for read in decisions[0]["inputs"]] == ["work", "offered load", "misses", "replicas"]


def test_a_record_of_an_older_version_is_explained_by_what_it_has(file: Path, publish: Callable[..., None]) -> None:
    publish(replace(decided(BUSY), inputs=()))
    lines = [" ".join(line.split()) for line in autoscaler("explain", "-c", file, "--pool", "chat").stdout.splitlines()]
    assert "work 12.5 GPU-s waiting" in lines
    assert "offered load 4.00 erlangs" in lines


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("explain",), 2, "--pool is required, {file} has: chat, code"),
        (("explain", "--pool", "code"), 1, "pool code: no decision was published in the last days"),
        (("status", "--pool", "chta"), 2, "--pool chta: {file} has no such pool; did you mean 'chat'?"),
        (("status", "--pool", "zebra"), 2, "--pool zebra: {file} has no such pool: it has chat, code"),
        (("status", "--redis", "redis://127.0.0.1:1"), 1, "Redis is away: "),
        (("status", "--redis", "http://x"), 2, "redis: "),
    ],
)
def test_what_cannot_be_read_is_said(file: Path, words: tuple[str, ...], status: int, message: str) -> None:
    result = autoscaler(words[0], "--config", file, *words[1:])
    assert result.exit_code == status
    assert result.stderr.startswith(message.format(file=file))


def test_a_file_without_redis_needs_an_address(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"pools: {{chat: {{{POOL.format('m')}}}}}")
    result = autoscaler("status", "--config", path)
    assert (result.exit_code, "redis.url is required; or --redis URL" in result.stderr) == (2, True)


def test_the_commands_are_part_of_the_program_and_it_still_needs_a_configuration_to_run() -> None:
    def weighbridge(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command_line(*words), capture_output=True, text=True, timeout=30, check=False)

    shown = weighbridge("autoscaler", "--help")
    assert shown.returncode == 0
    assert all(f" {command} " in shown.stdout for command in ("status", "explain", "simulate", "--record"))
    bare = weighbridge("autoscaler")
    assert (bare.returncode, bare.stderr) == (2, "--config FILE is required\n")


def test_the_autoscaler_records_what_it_decides_and_simulate_decides_the_same(file: Path, tmp_path: Path) -> None:
    static = file.read_text().replace("{processes: {min: 1, max: 8}}", "{static: ['http://127.0.0.1:9']}")
    file.write_text(static)
    recordings = [tmp_path / "new" / f"{pool}.jsonl" for pool in ("chat", "code")]
    run = [*command_line("autoscaler", "--config", str(file), "--record", str(tmp_path / "new"))]
    with subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline_s = time.monotonic() + 30
            while not all(path.exists() and path.stat().st_size for path in recordings):
                assert time.monotonic() < deadline_s, "nothing was recorded"
                assert process.poll() is None, process.communicate()[1]
                time.sleep(0.05)
        finally:
            process.terminate()
            process.communicate(timeout=30)
    assert process.returncode == 0
    result = autoscaler("simulate", recordings[0])
    assert result.exit_code == 0
    assert "0 with another number of replicas, 0 with the same number for another reason" in result.stdout


SCALING = settings(warmup_s=0, window_s=20, down_every_s=5)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Three minutes at 1 erlang with a burst of 6, decided every 5 s."""
    recorder = Recorder(tmp_path, SCALING)
    state, present = DecisionState(), 2
    for number in range(36):
        now_s = 1_795_000_000.0 + 5 * number
        seen = observation(present, load=6.0 if 10 <= number < 14 else 1.0, in_flight=1)
        before = state
        decision, state = decide(seen, before, SCALING, calibration=FIXED, now_s=now_s)
        recorder.write(before, decision, seen, FIXED, applied=True, now_s=now_s)
        present = decision.desired
    return tmp_path / "chat.jsonl"


def sums(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.startswith(("36 decisions", "replica-hours"))]


def test_simulate_with_the_recorded_settings_differs_in_nothing(recording: Path) -> None:
    result = autoscaler("simulate", recording)
    assert result.exit_code == 0, result.output
    head, names, first, *rows = (" ".join(line.split()) for line in result.stdout.splitlines())
    assert head == "chat, 2026-11-18 11:06:40 to 2026-11-18 11:09:35 UTC"
    assert names == "time recorded again step reason"
    assert first.startswith("11:06:40 2 2 law offered load 1.00")
    assert rows[0].startswith("11:07:30 8 8 law offered load 6.00")
    assert sums(result.stdout) == [
        "36 decisions, 0 with another number of replicas, 0 with the same number for another reason",
        "replica-hours: 0.18 recorded, 0.18 again (+0.0%)",
    ]


def test_simulate_with_another_setting_shows_where_decisions_part(recording: Path) -> None:
    result = autoscaler("simulate", recording, "--set", "window_s=60", "--set", "up_max=2")
    rows = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert any(row.startswith("11:07:30 8 4 up-rate at most 2 more per 60 s") for row in rows)
    assert "with another number of replicas" in sums(result.stdout)[0]
    assert sums(result.stdout)[0] != "36 decisions, 0 with another number of replicas, "
    assert not sums(result.stdout)[1].endswith("(+0.0%)")


def test_simulate_as_json_has_every_decision_twice(recording: Path) -> None:
    document = json.loads(autoscaler("simulate", recording, "--set", "max_replicas=3", "--json").stdout)
    (part,) = document["parts"]
    assert (part["pool"], part["decisions"], document["notes"]) == ("chat", 36, [])
    assert max(tick["recorded"]["desired"] for tick in part["ticks"]) == 8
    assert max(tick["again"]["desired"] for tick in part["ticks"]) == 3
    assert part["other_number"] == sum(
        tick["recorded"]["desired"] != tick["again"]["desired"] for tick in part["ticks"]
    )
    assert part["replica_hours"] < part["recorded_replica_hours"]


def test_simulate_takes_the_settings_of_a_configuration(recording: Path, file: Path) -> None:
    result = autoscaler("simulate", recording, "--config", file, "--json")
    (part,) = json.loads(result.stdout)["parts"]
    assert part["ticks"][-1]["again"]["step"] == "warmup"
    assert part["ticks"][-1]["recorded"]["step"] == "law"
    other = autoscaler("simulate", recording, "--config", file, "--pool", "code", "--json")
    assert json.loads(other.stdout)["parts"][0]["pool"] == "code"


def test_simulate_takes_a_schedule_as_json(recording: Path) -> None:
    schedule = '[{"cron": "* * * * *", "duration_s": 60, "min_replicas": 5}]'
    (part,) = json.loads(autoscaler("simulate", recording, "--set", f"schedules={schedule}", "--json").stdout)["parts"]
    assert min(tick["again"]["desired"] for tick in part["ticks"]) == 5


def test_what_can_have_no_effect_is_said(recording: Path) -> None:
    result = autoscaler("simulate", recording, "--set", "average_s=30", "--set", "trend_horizon_s=60")
    assert result.stderr.splitlines() == [
        "without effect on what was recorded: average_s",
        "without effect: trend_horizon_s, as no earlier load was recorded",
    ]


def test_a_recording_that_was_cut_off_is_read_and_said(recording: Path) -> None:
    recording.write_bytes(recording.read_bytes()[:-20])
    result = autoscaler("simulate", recording)
    assert result.exit_code == 0
    assert result.stderr == f"{recording}: line 37 is cut off and left out\n"
    assert result.stdout.count("35 decisions") == 1


def test_a_recording_with_more_changes_than_rows_says_so(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, SCALING)
    for number in range(100):
        seen = observation(number % 2 + 1, load=5.0 if number % 2 else 7.0)
        decision, _ = decide(seen, DecisionState(), SCALING, calibration=FIXED, now_s=1e9 + number)
        recorder.write(DecisionState(), decision, seen, FIXED, applied=True, now_s=1e9 + number)
    assert "… and 60 more changes; --json has all" in autoscaler("simulate", tmp_path / "chat.jsonl").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "drain"), "--set drain: must be KEY=VALUE"),
        (("--set", "drains_s=3"), "--set drains_s=3: no such setting; did you mean 'drain_s'?"),
        (("--set", "pool=x"), "--set pool=x: no such setting"),
        (("--set", "drain_s=soon"), "--set drain_s=soon: Expected `float`, got `str` - at `drain_s`"),
        (("--set", "drain_s=-1"), "--set drain_s=-1: pool chat: must hold: drain_s > 0"),
        (("--pool", "chat"), "--pool goes with --config"),
        (("--config", "nowhere.yaml"), "nowhere.yaml: "),
    ],
)
def test_a_bad_option_of_simulate_ends_with_2(recording: Path, words: tuple[str, ...], message: str) -> None:
    result = autoscaler("simulate", recording, *words)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        ('{"format": "weighbridge-autoscaler-recording", "version": 2}\n', "line 1: has version 2; this program reads"),
    ],
    ids=["missing", "another version"],
)
def test_a_recording_that_cannot_be_read_ends_with_2(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "x.jsonl"
    if content is not None:
        path.write_text(content)
    result = autoscaler("simulate", path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{path}: {message}")


@pytest.mark.parametrize("content", ["", "a,b\n"], ids=["empty", "something else"])
def test_a_file_that_is_neither_recording_nor_trace_ends_with_2(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(content)
    result = autoscaler("simulate", path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{path}, line 1, column -: must ")
    assert result.stderr.endswith("; nor is it a recording of `weighbridge autoscaler --record`\n")


def test_the_pool_of_a_recording_must_be_in_the_configuration(recording: Path, file: Path) -> None:
    file.write_text(file.read_text().replace("chat:", "talk:"))
    result = autoscaler("simulate", recording, "--config", file)
    assert (result.exit_code, result.stderr) == (
        2,
        f"{file}: has no pool chat; --pool is one of talk, code\n",
    )


def test_settings_of_recordings_are_those_that_can_be_set() -> None:
    from weighbridge.autoscaler_rerun import SETTINGS

    assert set(SETTINGS) | {"pool"} == set(AutoscalerSettings.__dataclass_fields__)
