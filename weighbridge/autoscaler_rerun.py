"""A recording decided again: the file, the settings that it is decided with, and what came of it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import msgspec

from autoscaler.recording import Part, Recording, RecordingError, decode_recording, is_recording
from autoscaler.rerun import WITHOUT_EFFECT, Again, rerun
from autoscaler.settings import AutoscalerSettings
from weighbridge.config import from_process
from weighbridge.config_errors import ConfigError, suggestion
from weighbridge.wiring import autoscaler_settings

FIRST_BYTES = 65536
SETTINGS = tuple(field.name for field in fields(AutoscalerSettings) if field.name != "pool")


class BadInput(ValueError):
    """A file or an option that cannot be used. The message is for the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reran:
    """One part of a recording and its decisions, recorded and new."""

    part: Part
    settings: AutoscalerSettings
    decisions: tuple[Again, ...]

    @property
    def recorded_replica_hours(self) -> float:
        return sum(again.tick.desired * again.lasted_s for again in self.decisions) / 3600

    @property
    def replica_hours(self) -> float:
        return sum(again.decision.desired * again.lasted_s for again in self.decisions) / 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class RerunFile:
    """All parts of a file. `notes` are for the operator: what was left out, what cannot have an effect."""

    parts: tuple[Reran, ...]
    notes: tuple[str, ...]


def begins_like_a_recording(path: Path) -> bool:
    """Whether `path` is a recording, rather than a trace. Raises BadInput for a file that cannot be read."""
    try:
        with path.open("rb") as file:
            return is_recording(file.read(FIRST_BYTES))
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None


def rerun_file(path: Path, *, config: Path | None, pool: str | None, changes: Sequence[str]) -> RerunFile:
    """Decide on every part of `path` again. Raises BadInput."""
    recording = _read(path)
    if pool is not None and config is None:
        raise BadInput("--pool goes with --config")
    configured = None if config is None else _configured(config, pool or recording.parts[0].settings.pool)
    parts = []
    for part in recording.parts:
        settings = changed(configured or part.settings, changes)
        parts.append(Reran(part=part, settings=settings, decisions=tuple(rerun(part, settings))))
    notes = [] if recording.cut_line is None else [f"{path}: line {recording.cut_line} is cut off and left out"]
    return RerunFile(parts=tuple(parts), notes=(*notes, *_without_effect(parts)))


def changed(settings: AutoscalerSettings, changes: Iterable[str]) -> AutoscalerSettings:
    """The settings with each `key=value`; values are JSON, or plain words. Raises BadInput."""
    values: dict[str, Any] = asdict(settings)
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise BadInput(f"--set {change}: must be KEY=VALUE")
        if key not in SETTINGS:
            close = suggestion(key, SETTINGS)
            raise BadInput(f"--set {change}: no such setting" + (f"; did you mean {close!r}?" if close else ""))
        try:
            values[key] = json.loads(text)
        except ValueError:
            values[key] = text
    try:
        return msgspec.convert(values, AutoscalerSettings)
    except msgspec.ValidationError as error:
        raise BadInput(f"--set {' '.join(changes)}: {str(error).replace('`$.', '`')}") from None


def _read(path: Path) -> Recording:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None
    try:
        return decode_recording(raw)
    except RecordingError as error:
        raise BadInput(f"{path}: {error}") from None


def _configured(config: Path, pool: str) -> AutoscalerSettings:
    try:
        loaded = from_process(config).config
    except ConfigError as error:
        raise BadInput(str(error)) from None
    if pool not in loaded.pools:
        raise BadInput(f"{config}: has no pool {pool}; --pool is one of {', '.join(loaded.pools)}")
    return autoscaler_settings(pool, loaded.pools[pool], loaded.autoscaler)


def _without_effect(parts: Sequence[Reran]) -> list[str]:
    """Settings that differ from the recorded ones and cannot change a recorded observation."""
    differing = {
        name
        for reran in parts
        for name in WITHOUT_EFFECT
        if getattr(reran.settings, name) != getattr(reran.part.settings, name)
    }
    notes = []
    if differing:
        notes.append(f"without effect on what was recorded: {', '.join(sorted(differing))}")
    if any(
        reran.settings.trend_horizon_s is not None and reran.part.settings.trend_horizon_s is None for reran in parts
    ):
        notes.append("without effect: trend_horizon_s, as no earlier load was recorded")
    return notes
