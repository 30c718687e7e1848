"""Schedules: bounds that hold for some hours of some days. Pure: the time zone's table is read once, when it is named.

Of several that are active the highest floor and the lowest ceiling count, and a floor wins over a ceiling.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from autoscaler.cron import CronError, last_start, parse_cron

MAX_DURATION_S = 7 * 24 * 3600.0
_parsed = lru_cache(maxsize=256)(parse_cron)


class ScheduleError(ValueError):
    """A schedule that means nothing. The message names the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """From each start of `cron`, for `duration_s`: at least `min_replicas`, at most `max_replicas`.

    Raises ScheduleError.
    """

    cron: str
    timezone: str = "UTC"
    """A name of the IANA time zone database: `Europe/Berlin`."""
    duration_s: float
    min_replicas: int | None = None
    max_replicas: int | None = None

    def __post_init__(self) -> None:
        try:
            _parsed(self.cron)
        except CronError as error:
            raise ScheduleError(f"cron: {error}") from None
        zone_of(self.timezone)
        if not 60 <= self.duration_s <= MAX_DURATION_S:
            raise ScheduleError(f"duration_s: must be 60 to {MAX_DURATION_S:.0f}, it is {self.duration_s:g}")
        if self.min_replicas is None and self.max_replicas is None:
            raise ScheduleError("must have min or max")
        for key, replicas in (("min", self.min_replicas), ("max", self.max_replicas)):
            if replicas is not None and replicas < 0:
                raise ScheduleError(f"{key}: must be at least 0, it is {replicas}")
        if self.min_replicas is not None and self.max_replicas is not None and self.min_replicas > self.max_replicas:
            raise ScheduleError(f"max: must be at least min ({self.min_replicas})")

    def is_active(self, now_s: float) -> bool:
        """Whether a start lies less than `duration_s` back."""
        start_s = _last_start(self.cron, self.timezone, self.duration_s, math.floor(now_s / 60))
        return start_s is not None and now_s - start_s < self.duration_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled:
    """What the active schedules ask for together. `reason` names those that count."""

    floor: int | None
    ceiling: int | None
    reason: str


@lru_cache(maxsize=1024)
def _last_start(cron: str, timezone: str, within_s: float, minute: int) -> float | None:
    """The last start up to a whole minute since the epoch: starts are on whole minutes, so it holds until the next."""
    return last_start(_parsed(cron), zone_of(timezone), minute * 60.0, within_s)


def zone_of(name: str) -> ZoneInfo:
    """Raises ScheduleError for a name that the time zone database does not have."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ScheduleError(f"timezone: {name!r} is not in the time zone database") from None


def scheduled(schedules: Iterable[Schedule], now_s: float) -> Scheduled:
    """Floor and ceiling for now."""
    active = [schedule for schedule in schedules if schedule.is_active(now_s)]
    floors = [(schedule.min_replicas, schedule) for schedule in active if schedule.min_replicas is not None]
    ceilings = [(schedule.max_replicas, schedule) for schedule in active if schedule.max_replicas is not None]
    floor = max(floors, key=lambda pair: pair[0], default=None)
    ceiling = min(ceilings, key=lambda pair: pair[0], default=None)
    parts = []
    if floor is not None:
        parts.append(f"at least {floor[0]} from {_shown(floor[1])}")
    if ceiling is not None and floor is not None and floor[0] > ceiling[0]:
        parts.append(f"which wins over at most {ceiling[0]}")
        ceiling = (floor[0], ceiling[1])
    elif ceiling is not None:
        parts.append(f"at most {ceiling[0]} from {_shown(ceiling[1])}")
    return Scheduled(
        floor=None if floor is None else floor[0],
        ceiling=None if ceiling is None else ceiling[0],
        reason="schedule: " + ", ".join(parts) if parts else "no schedule is active",
    )


def _shown(schedule: Schedule) -> str:
    return f"'{schedule.cron}' ({schedule.timezone}) for {schedule.duration_s / 60:.0f} min"
