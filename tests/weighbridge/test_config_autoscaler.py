"""`autoscaler` and `pools.*.autoscaler` as an operator writes them: schedules and what is refused."""

import pytest

from autoscaler.schedule import Schedule
from weighbridge.config import parse
from weighbridge.config_errors import ConfigError
from weighbridge.wiring import scaled_pools

OFFICE = "{cron: 0 8 * * mon-fri, timezone: Europe/Berlin, duration_s: 36000, min: 4}"
NIGHT = "{cron: 0 22 * * *, duration_s: 28800, max: 2}"


def text(*, own: str = "", everywhere: str = "", bounds: str = "{min: 1, max: 8}") -> str:
    pool = f"models: [m], architecture: llama-3.1-8b, gpu: L40S, replicas: {{processes: {bounds}}}"
    return f"pools: {{chat: {{{pool}, autoscaler: {{{own}}}}}}}\nautoscaler: {{{everywhere}}}"


def schedules(**sections: str) -> tuple[Schedule, ...]:
    return scaled_pools(parse(text(**sections), {}, source="c.yaml").config)[0].settings.schedules


def faults(**sections: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text(**sections), {}, source="c.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_schedules_are_read_with_their_time_zone() -> None:
    assert schedules(own=f"schedules: [{OFFICE}, {NIGHT}]") == (
        Schedule(cron="0 8 * * mon-fri", timezone="Europe/Berlin", duration_s=36000, min_replicas=4),
        Schedule(cron="0 22 * * *", timezone="UTC", duration_s=28800, max_replicas=2),
    )


def test_a_pools_list_replaces_the_global_one_also_by_nothing() -> None:
    assert len(schedules(everywhere=f"schedules: [{OFFICE}, {NIGHT}]")) == 2
    assert len(schedules(own=f"schedules: [{NIGHT}]", everywhere=f"schedules: [{OFFICE}, {NIGHT}]")) == 1
    assert schedules(own="schedules: []", everywhere=f"schedules: [{OFFICE}]") == ()


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("{cron: 0 25 * * *, duration_s: 60, min: 2}", "cron = '0 25 * * *': hour 25: 25 is not in 0-23"),
        (
            "{cron: 0 8 * * *, timezone: Europe/Berln, duration_s: 60, min: 2}",
            "timezone = 'Europe/Berln': is not in the time zone database; did you mean 'Europe/Berlin'?",
        ),
        ("{cron: 0 8 * * *, duration_s: 59, min: 2}", "duration_s = 59: must be at least 60"),
        ("{cron: 0 8 * * *, duration_s: 60}", "max: min or max is required"),
        ("{cron: 0 8 * * *, duration_s: 60, min: 4, max: 3}", "max = 3: must be at least min (4)"),
        ("{cron: 0 8 * * *, duration: 60, min: 4}", "duration_s: is required"),
    ],
)
def test_each_mistake_in_a_schedule_is_named(entry: str, fault: str) -> None:
    assert f"pools.chat.autoscaler.schedules[0].{fault}" in faults(own=f"schedules: [{entry}]")


@pytest.mark.parametrize(
    ("entry", "rule"),
    [
        (
            "{cron: 0 8 * * *, duration_s: 60, min: 9}",
            "min_replicas <= min (9) of schedule '0 8 * * *' <= max_replicas",
        ),
        (
            "{cron: 0 8 * * *, duration_s: 60, max: 1}",
            "min_replicas <= max (1) of schedule '0 8 * * *' <= max_replicas",
        ),
    ],
    ids=["floor above max", "ceiling below min"],
)
def test_a_schedule_outside_the_pools_bounds_is_an_error(entry: str, rule: str) -> None:
    (fault,) = faults(own=f"schedules: [{entry}]", bounds="{min: 2, max: 8}")
    assert fault.startswith("pools.chat.autoscaler: must hold together")
    assert rule in fault


def test_a_trend_needs_room_between_its_two_means() -> None:
    (fault,) = faults(own="trend_horizon_s: 60, trend_over_s: 30")
    assert "trend_over_s >= average_s where there is a trend" in fault
