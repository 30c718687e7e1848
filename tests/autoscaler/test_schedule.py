"""Schedules: when they are active, which bounds count, and what is refused."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from autoscaler.schedule import Schedule, ScheduleError, scheduled
from autoscaler.settings import SettingsError
from tests.autoscaler.builders import settings

HOUR_S = 3600.0


def schedule(cron: str = "0 8 * * mon-fri", **changes: Any) -> Schedule:
    values: dict[str, Any] = {"timezone": "Europe/Berlin", "duration_s": 10 * HOUR_S, "min_replicas": 4}
    return Schedule(cron=cron, **(values | changes))


def at(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp()


@pytest.mark.parametrize(
    ("now", "active"),
    [
        ("2026-11-24 07:59:59", False),
        ("2026-11-24 08:00:00", True),
        ("2026-11-24 17:59:59", True),
        ("2026-11-24 18:00:00", False),
        ("2026-11-22 12:00:00", False),
    ],
    ids=["before", "start", "last second", "end", "sunday"],
)
def test_a_schedule_is_active_from_its_start_for_its_duration(now: str, active: bool) -> None:
    assert schedule().is_active(at(now)) is active


@pytest.mark.parametrize(("second", "active"), [(0, True), (60, True), (89, True), (89.9, True), (90, False)])
def test_a_schedule_may_end_within_a_minute(second: float, active: bool) -> None:
    assert schedule(duration_s=90).is_active(at("2026-11-24 08:00:00") + second) is active


def test_a_schedule_may_last_over_midnight_and_over_its_next_start() -> None:
    night = schedule("0 22 * * *", duration_s=8 * HOUR_S)
    assert [night.is_active(at(f"2026-11-24 {hour:02}:00:00")) for hour in (21, 22, 0, 5, 6)] == [
        False, True, True, True, False,
    ]  # fmt: skip
    assert all(schedule("0 * * * *", duration_s=2 * HOUR_S).is_active(at("2026-11-24 12:00:00") + s) for s in range(99))


def test_hours_are_local_hours_in_winter_and_summer() -> None:
    assert schedule("0 8 * * *", duration_s=60).is_active(at("2026-07-01 08:00:30"))
    assert schedule("0 8 * * *", duration_s=60).is_active(at("2026-12-01 08:00:30"))


NOON_S = at("2026-11-24 12:00:00")


@pytest.mark.parametrize(
    ("schedules", "bounds", "reason"),
    [
        ((), (None, None), "no schedule is active"),
        ((schedule("0 20 * * *"),), (None, None), "no schedule is active"),
        (
            (schedule(min_replicas=3), schedule(min_replicas=5), schedule(min_replicas=4)),
            (5, None),
            "schedule: at least 5 from '0 8 * * mon-fri' (Europe/Berlin) for 600 min",
        ),
        (
            (schedule(min_replicas=None, max_replicas=9), schedule(min_replicas=None, max_replicas=7)),
            (None, 7),
            "schedule: at most 7 from '0 8 * * mon-fri' (Europe/Berlin) for 600 min",
        ),
        (
            (schedule(min_replicas=6), schedule("0 9 * * *", min_replicas=None, max_replicas=2)),
            (6, 6),
            "schedule: at least 6 from '0 8 * * mon-fri' (Europe/Berlin) for 600 min, which wins over at most 2",
        ),
    ],
    ids=["none", "none active", "highest floor", "lowest ceiling", "floor over ceiling"],
)
def test_of_several_the_highest_floor_and_the_lowest_ceiling_count(
    schedules: tuple[Schedule, ...], bounds: tuple[int | None, int | None], reason: str
) -> None:
    limits = scheduled(schedules, NOON_S)
    assert ((limits.floor, limits.ceiling), limits.reason) == (bounds, reason)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"cron": "8 o'clock"}, "cron: must have five fields"),
        ({"timezone": "Europe/Atlantis"}, "timezone: 'Europe/Atlantis' is not in the time zone database"),
        ({"timezone": "../../etc/passwd"}, "timezone: "),
        ({"timezone": "Europe"}, "timezone: "),
        ({"timezone": ""}, "timezone: "),
        ({"duration_s": 59}, "duration_s: must be 60 to 604800"),
        ({"duration_s": 604801}, "duration_s: "),
        ({"duration_s": float("nan")}, "duration_s: "),
        ({"min_replicas": None}, "must have min or max"),
        ({"min_replicas": -1}, "min: must be at least 0"),
        ({"max_replicas": 3}, "max: must be at least min (4)"),
    ],
)
def test_what_makes_no_schedule_is_named(changes: dict[str, Any], part: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        schedule(**changes)
    assert str(caught.value).startswith(part)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"min_replicas": 11}, "min (11)"),
        ({"min_replicas": None, "max_replicas": 11}, "max (11)"),
        ({"min_replicas": None, "max_replicas": 1}, "max (1)"),
    ],
)
def test_a_schedule_outside_the_bounds_of_its_pool_is_refused(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(min_replicas=2, max_replicas=10, schedules=(schedule(**changes),))
    assert f"min_replicas <= {key} of schedule '0 8 * * mon-fri' <= max_replicas" in str(caught.value)
