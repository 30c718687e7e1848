"""Writes what a pool's loop decides to a file, for `weighbridge autoscaler simulate`. Bounded, and never in the way.

`POOL.jsonl` in the given folder; when it is full it becomes `POOL.1.jsonl`, in place of the one before.
"""

from pathlib import Path

import structlog

from autoscaler.calibrator import Calibration
from autoscaler.decide import Decision, DecisionState
from autoscaler.observation import Observation
from autoscaler.recording import encode_header, encode_tick, tick_of
from autoscaler.settings import AutoscalerSettings

MAX_BYTES = 16 * 1024 * 1024
"""Of one file, of which there are two: more than a day each with decisions every 5 s."""

_log = structlog.get_logger("autoscaler")


class Recorder:
    """One pool's recording. A folder that cannot be written to is said once; the next decision tries again."""

    def __init__(self, directory: Path, settings: AutoscalerSettings, *, max_bytes: int = MAX_BYTES) -> None:
        self._settings = settings
        self._path = directory / f"{settings.pool}.jsonl"
        self._full = directory / f"{settings.pool}.1.jsonl"
        self._max_bytes = max_bytes
        self._begun = False
        self._failing = False

    def write(
        self,
        before: DecisionState,
        decision: Decision,
        observation: Observation,
        calibration: Calibration,
        *,
        applied: bool,
        now_s: float,
    ) -> None:
        """Add one decision. `before` is the state that it began with."""
        tick = encode_tick(tick_of(decision, observation, calibration, applied=applied, now_s=now_s))
        try:
            self._append(before, tick)
        except OSError as error:
            if not self._failing:
                _log.warning("recording failed", pool=self._settings.pool, path=str(self._path), cause=str(error))
            self._failing, self._begun = True, False
            return
        self._failing = False

    def _append(self, before: DecisionState, tick: bytes) -> None:
        if not self._begun:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _drop_cut_line(self._path)
        size = self._path.stat().st_size if self._path.exists() else 0
        if size + len(tick) > self._max_bytes:
            self._path.replace(self._full)
            size = 0
        lines = tick if self._begun and size > 0 else encode_header(self._settings, before) + tick
        with self._path.open("ab") as file:
            file.write(lines)
        self._begun = True


def _drop_cut_line(path: Path) -> None:
    """What a writer that was killed left after the last whole line."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, 2)
        start = max(0, end - 65536)
        file.seek(start)
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            file.truncate(start + tail.rfind(b"\n") + 1)
