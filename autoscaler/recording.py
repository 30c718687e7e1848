"""Recorded decisions as lines of JSON: everything that `decide` was given, and what it said. Pure.

A header line has the settings and the state before the first decision; each following line is one decision. Another
header begins another part: the autoscaler was started again, or the file before was full. Numbers, and the name of the
pool: no prompt, no key and no tenant is in it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

import msgspec

from autoscaler.calibrator import Calibration
from autoscaler.decide import Decision, DecisionState
from autoscaler.observation import NO_TREND, Fleet, Known, Misses, Observation, Unknown, Work
from autoscaler.schedule import Schedule
from autoscaler.settings import AutoscalerSettings

FORMAT = "weighbridge-autoscaler-recording"
VERSION = 1
T = TypeVar("T")


class RecordingError(ValueError):
    """A line that is no part of a recording. `line` counts from 1."""

    def __init__(self, line: int, detail: str) -> None:
        super().__init__(f"line {line}: {detail}")
        self.line = line


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One decision: what it rested on, and what was decided."""

    now_s: float
    observation: Observation
    calibration: Calibration
    desired: int
    recommended: int
    step: str
    """The binding one."""
    headline: str
    applied: bool
    """Whether the scaler took it: not in a follower, nor where the scaler failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one autoscaler decided with one set of settings, without a gap but for lines that were cut off."""

    settings: AutoscalerSettings
    state: DecisionState
    """Before the first decision."""
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A whole file. `cut_line`: the last line, if it was not written to its end; it is left out."""

    parts: tuple[Part, ...]
    cut_line: int | None = None


def tick_of(
    decision: Decision, observation: Observation, calibration: Calibration, *, applied: bool, now_s: float
) -> Tick:
    return Tick(
        now_s=now_s,
        observation=observation,
        calibration=calibration,
        desired=decision.desired,
        recommended=decision.recommended,
        step=str(decision.binding.name),
        headline=decision.headline,
        applied=applied,
    )


def encode_header(settings: AutoscalerSettings, state: DecisionState) -> bytes:
    """One line. Raises ValueError for a number that is not finite."""
    return _line({"format": FORMAT, "version": VERSION, "settings": asdict(settings), "state": asdict(state)})


def encode_tick(tick: Tick) -> bytes:
    """One line. Raises ValueError for a number that is not finite."""
    return _line(asdict(tick))


def is_recording(start: bytes) -> bool:
    """Whether a file that begins like this is a recording, of whatever version. `start` holds its first line."""
    try:
        first = msgspec.json.decode(start.partition(b"\n")[0])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return isinstance(first, dict) and first.get("format") == FORMAT


def decode_recording(raw: bytes) -> Recording:
    """Raises RecordingError, which names the line. A last line that was cut off is no error."""
    *lines, rest = raw.split(b"\n")
    if rest:
        lines.append(rest)
    if not lines:
        raise RecordingError(1, "the file is empty")
    parts: list[tuple[AutoscalerSettings, DecisionState, list[Tick]]] = []
    cut_line = None
    for number, line in enumerate(lines, start=1):
        try:
            document = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if rest and number == len(lines) and parts:
                cut_line = number
                break
            raise RecordingError(number, f"is no JSON: {error}") from None
        if not isinstance(document, dict):
            raise RecordingError(number, "is no JSON object")
        if "format" in document or not parts:
            parts.append((*_header(document, number), []))
        else:
            parts[-1][2].append(_tick(document, number))
    return Recording(
        parts=tuple(Part(settings=settings, state=state, ticks=tuple(ticks)) for settings, state, ticks in parts),
        cut_line=cut_line,
    )


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _header(document: dict[str, Any], line: int) -> tuple[AutoscalerSettings, DecisionState]:
    if document.get("format") != FORMAT:
        raise RecordingError(line, f"is not the header of a recording: format must be {FORMAT!r}")
    if document.get("version") != VERSION:
        raise RecordingError(line, f"has version {document.get('version')!r}; this program reads version {VERSION}")
    _only(document, {"format", "version", "settings", "state"}, line, "")
    schedules = _get(document, "settings", line, "").get("schedules", ())
    for index, schedule in enumerate(schedules if isinstance(schedules, list) else ()):
        _only(schedule, _names(Schedule), line, f"settings.schedules[{index}].")
    settings = _convert(document, "settings", AutoscalerSettings, line)
    return settings, _convert(document, "state", DecisionState, line)


def _tick(document: dict[str, Any], line: int) -> Tick:
    _only(document, _names(Tick), line, "")
    seen = _get(document, "observation", line, "")
    _only(seen, _names(Observation), line, "observation.")
    plain = {name: value for name, value in document.items() if name not in ("observation", "calibration")}
    observation = Observation(
        work=_known(seen, "work", Work, line),
        offered_load=_known(seen, "offered_load", float, line),
        misses=_known(seen, "misses", Misses, line),
        last_arrival_at_s=_plain(seen.get("last_arrival_at_s"), float | None, line, "observation.last_arrival_at_s"),
        fleet=_convert(seen, "fleet", Fleet, line, "observation."),
        earlier_load=_known(seen, "earlier_load", float, line) if "earlier_load" in seen else NO_TREND,
    )
    calibration = _convert(document, "calibration", Calibration, line)
    values = _plain(plain, _Plain, line, "")
    return Tick(observation=observation, calibration=calibration, **asdict(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plain:
    """The fields of a tick that JSON has types for."""

    now_s: float
    desired: int
    recommended: int
    step: str
    headline: str
    applied: bool


def _known(seen: dict[str, Any], key: str, kind: Any, line: int) -> Any:
    value = _get(seen, key, line, "observation.")
    where = f"observation.{key}"
    if "cause" in value:
        return _convert(seen, key, Unknown, line, "observation.")
    _only(value, {"value", "age_s"}, line, f"{where}.")
    age_s = _plain(value.get("age_s"), float, line, f"{where}.age_s")
    if kind is float:
        return Known(value=_plain(value.get("value"), float, line, f"{where}.value"), age_s=age_s)
    return Known(value=_convert(value, "value", kind, line, f"{where}."), age_s=age_s)


def _convert(document: dict[str, Any], key: str, kind: type[T], line: int, prefix: str = "") -> T:
    value = _get(document, key, line, prefix)
    _only(value, _names(kind), line, f"{prefix}{key}.")
    converted: T = _plain(value, kind, line, f"{prefix}{key}")
    return converted


def _plain(value: Any, kind: Any, line: int, where: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise RecordingError(line, f"{where}: {error}" if where else str(error)) from None


def _get(document: dict[str, Any], key: str, line: int, prefix: str) -> dict[str, Any]:
    value = document.get(key)
    if not isinstance(value, dict):
        raise RecordingError(line, f"{prefix}{key} is missing" if value is None else f"{prefix}{key} is no object")
    return value


def _only(document: Any, known: set[str], line: int, prefix: str) -> None:
    unknown = sorted(set(document) - known) if isinstance(document, dict) else []
    if unknown:
        raise RecordingError(line, f"{prefix}{unknown[0]} is not a known field")


def _names(kind: Any) -> set[str]:
    return {field.name for field in fields(kind)}
