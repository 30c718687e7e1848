"""The file that decisions are recorded to: rotated, repaired, and never in the way."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from autoscaler.calibrator import Calibration
from autoscaler.decide import DecisionState, decide
from autoscaler.recorder import Recorder
from autoscaler.recording import Recording, decode_recording
from tests.autoscaler.builders import START_S, observation, settings

SCALING = settings()
FIXED = Calibration(utilization=0.9)


def record(recorder: Recorder, count: int, *, first: int = 0) -> None:
    """So many decisions, one replica more each."""
    state = DecisionState()
    for number in range(first, first + count):
        seen = observation(number, load=1.0)
        decision, after = decide(seen, state, SCALING, calibration=FIXED, now_s=START_S + number)
        recorder.write(state, decision, seen, FIXED, applied=True, now_s=START_S + number)
        state = after


def read(path: Path) -> Recording:
    return decode_recording(path.read_bytes())


def present(recording: Recording) -> list[list[int]]:
    return [[tick.observation.fleet.desired for tick in part.ticks] for part in recording.parts]


def test_decisions_are_written_as_they_are_made(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "new", SCALING)
    record(recorder, 3)
    recording = read(tmp_path / "new" / "chat.jsonl")
    assert present(recording) == [[0, 1, 2]]
    assert recording.parts[0].settings == SCALING


def test_an_autoscaler_that_starts_again_adds_a_part(tmp_path: Path) -> None:
    record(Recorder(tmp_path, SCALING), 2)
    record(Recorder(tmp_path, SCALING), 1, first=7)
    assert present(read(tmp_path / "chat.jsonl")) == [[0, 1], [7]]


def test_a_line_that_was_cut_off_is_removed_before_more_is_written(tmp_path: Path) -> None:
    record(Recorder(tmp_path, SCALING), 2)
    path = tmp_path / "chat.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    record(Recorder(tmp_path, SCALING), 1, first=7)
    assert present(read(path)) == [[0], [7]]


def test_full_files_make_room_and_two_are_kept(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, SCALING, max_bytes=6000)
    record(recorder, 50)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chat.1.jsonl", "chat.jsonl"]
    assert all(path.stat().st_size <= 6000 for path in tmp_path.iterdir())
    older, newer = (present(read(tmp_path / name))[0] for name in ("chat.1.jsonl", "chat.jsonl"))
    assert [*older, *newer] == list(range(older[0], 50))


def test_a_new_file_begins_with_the_state_that_its_first_decision_began_with(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, SCALING, max_bytes=6000)
    record(recorder, 50)
    part = read(tmp_path / "chat.jsonl").parts[0]
    assert part.state.last_known_at_s == part.ticks[0].now_s - 1


def test_a_file_that_somebody_took_away_is_begun_anew(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, SCALING)
    record(recorder, 2)
    (tmp_path / "chat.jsonl").unlink()
    record(recorder, 2, first=5)
    assert present(read(tmp_path / "chat.jsonl")) == [[5, 6]]


def test_a_folder_that_cannot_be_written_to_is_said_once_and_tried_again(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    recorder = Recorder(blocked, SCALING)
    with capture_logs() as logs:
        record(recorder, 3)
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("recording failed", "warning")]
    blocked.unlink()
    record(recorder, 1, first=5)
    assert present(read(blocked / "chat.jsonl")) == [[5]]


@pytest.mark.parametrize("content", [b"", b"no line at all"])
def test_what_holds_no_whole_line_is_started_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "chat.jsonl").write_bytes(content)
    record(Recorder(tmp_path, SCALING), 1)
    assert present(read(tmp_path / "chat.jsonl")) == [[0]]
