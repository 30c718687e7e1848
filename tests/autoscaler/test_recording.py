"""Recordings: what is written is what is read, and what is wrong with a file is said with its line."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.calibrator import Calibration
from autoscaler.decide import DecisionState, Mark
from autoscaler.observation import NO_TREND, Fleet, Known, Misses, Observation, Override, Unknown, Work
from autoscaler.recording import (
    FORMAT,
    Part,
    Recording,
    RecordingError,
    Tick,
    decode_recording,
    encode_header,
    encode_tick,
    is_recording,
)
from autoscaler.schedule import Schedule
from autoscaler.settings import AutoscalerSettings
from tests.autoscaler.builders import START_S, observation, settings

NUMBER = st.floats(allow_nan=False, allow_infinity=False)
COUNT = st.integers(0, 2**53)
TEXT = st.text(max_size=20)
UNKNOWN = st.builds(Unknown, cause=TEXT, age_s=NUMBER)
WORK = st.builds(
    Work,
    waiting=COUNT,
    waiting_gpu_s=NUMBER,
    backlog_s=NUMBER,
    in_flight=COUNT,
    kv_tokens=COUNT,
    partial=st.booleans(),
)
FLEET = st.builds(
    Fleet,
    desired=COUNT,
    ready=COUNT,
    pending=COUNT,
    draining=COUNT,
    unschedulable=COUNT,
    paused=st.none() | TEXT,
    override=st.none() | st.builds(Override, by=TEXT, replicas=COUNT, at_s=NUMBER),
)


def known(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return UNKNOWN | st.builds(Known, value=value, age_s=NUMBER)


TICK = st.builds(
    Tick,
    now_s=NUMBER,
    observation=st.builds(
        Observation,
        work=known(WORK),
        offered_load=known(NUMBER),
        misses=known(st.builds(Misses, settled=COUNT, ttft_ratio=NUMBER, tpot_ratio=NUMBER)),
        last_arrival_at_s=st.none() | NUMBER,
        fleet=FLEET,
        earlier_load=known(NUMBER),
    ),
    calibration=st.builds(Calibration, utilization=NUMBER, slack=NUMBER),
    desired=COUNT,
    recommended=COUNT,
    step=TEXT,
    headline=TEXT,
    applied=st.booleans(),
)
MARKS = st.lists(st.builds(Mark, at_s=NUMBER, replicas=COUNT), max_size=3).map(tuple)
STATE = st.builds(
    DecisionState,
    data_since_s=st.none() | NUMBER,
    last_known_at_s=st.none() | NUMBER,
    last_active_at_s=st.none() | NUMBER,
    last_down_at_s=st.none() | NUMBER,
    recommendations=MARKS,
    ups=MARKS,
)
OFFICE = Schedule(cron="0 8 * * mon-fri", timezone="Europe/Berlin", duration_s=36000, min_replicas=4)
SETTINGS = st.sampled_from([settings(), settings(up_max=3, cold_start_s=None, schedules=(OFFICE,))])
PART = st.builds(Part, settings=SETTINGS, state=STATE, ticks=st.lists(TICK, max_size=3).map(tuple))


def written(*parts: Part) -> bytes:
    return b"".join(encode_header(part.settings, part.state) + b"".join(map(encode_tick, part.ticks)) for part in parts)


@given(st.lists(PART, min_size=1, max_size=3))
def test_a_recording_survives_the_round_trip(parts: list[Part]) -> None:
    raw = written(*parts)
    assert decode_recording(raw) == Recording(parts=tuple(parts))
    assert is_recording(raw)


ONE = Tick(
    now_s=START_S,
    observation=observation(2, load=1.0),
    calibration=Calibration(utilization=0.9),
    desired=2,
    recommended=2,
    step="law",
    headline="wants 2",
    applied=True,
)


def lines(*, scaling: AutoscalerSettings | None = None) -> list[Any]:
    """A header and two ticks as documents."""
    raw = written(Part(settings=scaling or settings(schedules=(OFFICE,)), state=DecisionState(), ticks=(ONE, ONE)))
    return [json.loads(line) for line in raw.splitlines()]


def encoded(documents: list[Any]) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


@given(st.integers(0, 10_000))
def test_a_file_that_was_cut_anywhere_in_a_tick_is_read_without_it(cut: int) -> None:
    raw = encoded(lines())
    whole = raw.index(b"\n") + 1
    end = whole + cut % (len(raw) - whole)
    recording = decode_recording(raw[:end])
    complete = raw[:end].count(b"\n") - 1
    ticks = len(recording.parts[0].ticks)
    assert recording.parts[0].ticks == (ONE,) * ticks
    assert ticks - complete == (0 if recording.cut_line or raw[:end].endswith(b"\n") else 1)
    assert recording.cut_line in (None, complete + 2)


def broken(line: int, *path: str | int, value: Any = None, drop: bool = False) -> bytes:
    """The file with one value of one line replaced, or dropped."""
    documents = lines()
    place = documents[line]
    for key in path[:-1]:
        place = place[key]
    if drop:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return encoded(documents)


FAULTS = {
    "empty": (b"", "line 1: the file is empty"),
    "no json": (b"arrived_at,tokens\n", "line 1: is no JSON: "),
    "cut in the header": (encoded(lines())[:40], "line 1: is no JSON: "),
    "not utf-8": (b"\xff\xfe\n", "line 1: is no JSON"),
    "a list": (b"[]\n", "line 1: is no JSON object"),
    "no header": (encoded(lines()[1:]), f"line 1: is not the header of a recording: format must be '{FORMAT}'"),
    "another version": (broken(0, "version", value=2), "line 1: has version 2; this program reads version 1"),
    "no version": (broken(0, "version", drop=True), "line 1: has version None; this program reads version 1"),
    "unknown in header": (broken(0, "host", value="x"), "line 1: host is not a known field"),
    "unknown setting": (broken(0, "settings", "gamma", value=1), "line 1: settings.gamma is not a known field"),
    "unknown in schedule": (
        broken(0, "settings", "schedules", 0, "until", value=1),
        "line 1: settings.schedules[0].until is not a known field",
    ),
    "bad setting": (broken(0, "settings", "beta", value=-1), "line 1: settings: pool chat: must hold: beta >= 0"),
    "bad schedule": (
        broken(0, "settings", "schedules", 0, "cron", value="x"),
        "line 1: settings: cron: must have five fields",
    ),
    "no settings": (broken(0, "settings", drop=True), "line 1: settings is missing"),
    "unknown in tick": (broken(2, "mood", value=1), "line 3: mood is not a known field"),
    "unknown input": (broken(1, "observation", "moon", value=1), "line 2: observation.moon is not a known field"),
    "unknown of work": (
        broken(1, "observation", "work", "value", "colour", value=1),
        "line 2: observation.work.value.colour is not a known field",
    ),
    "unknown of known": (
        broken(1, "observation", "work", "colour", value=1),
        "line 2: observation.work.colour is not a known field",
    ),
    "unknown of fleet": (
        broken(1, "observation", "fleet", "colour", value=1),
        "line 2: observation.fleet.colour is not a known field",
    ),
    "no work": (broken(1, "observation", "work", drop=True), "line 2: observation.work is missing"),
    "work is a number": (broken(1, "observation", "work", value=3), "line 2: observation.work is no object"),
    "no age": (broken(1, "observation", "work", "age_s", drop=True), "line 2: observation.work.age_s: "),
    "count is text": (broken(1, "observation", "fleet", "ready", value="2"), "line 2: observation.fleet: Expected"),
    "no desired": (broken(1, "desired", drop=True), "line 2: Object missing required field `desired`"),
    "cut in the middle": (
        encoded(lines()[:2])[:-9] + b"\n" + encoded(lines()[2:]),
        "line 2: is no JSON: ",
    ),
}


@pytest.mark.parametrize(("raw", "message"), FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_is_said_with_its_line(raw: bytes, message: str) -> None:
    with pytest.raises(RecordingError) as caught:
        decode_recording(raw)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_have_is_not_written(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode_header(settings(), DecisionState(last_down_at_s=number))


def test_a_recording_without_an_earlier_load_has_no_trend() -> None:
    recording = decode_recording(broken(1, "observation", "earlier_load", drop=True))
    assert recording.parts[0].ticks[0].observation.earlier_load == NO_TREND


@pytest.mark.parametrize("start", [b"", b"{}", b'{"format": "other"}\n', b"a,b\n1,2\n", b"\xff\n", b"[1]\n"])
def test_another_file_is_no_recording(start: bytes) -> None:
    assert not is_recording(start)


def test_a_recording_of_a_later_version_is_known_to_be_one() -> None:
    assert is_recording(broken(0, "version", value=9))
