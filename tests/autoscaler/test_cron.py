"""Cron expressions: what they say, and when they start over a year's clock changes."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.cron import Cron, CronError, last_start, parse_cron

DAY_S = 24 * 3600.0
BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> float:
    """`2026-11-24 08:00` in local time as seconds since the epoch."""
    return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=zone, fold=fold).timestamp()


def shown(at_s: float | None, zone: ZoneInfo = BERLIN) -> str | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, zone).strftime("%Y-%m-%d %H:%M %Z")


@pytest.mark.parametrize(
    ("text", "now", "start"),
    [
        ("0 8 * * mon-fri", "2026-11-24 12:00", "2026-11-24 08:00 CET"),
        ("0 8 * * mon-fri", "2026-11-24 08:00", "2026-11-24 08:00 CET"),
        ("0 8 * * mon-fri", "2026-11-24 07:59", "2026-11-23 08:00 CET"),
        ("0 8 * * 1-5", "2026-11-22 12:00", "2026-11-20 08:00 CET"),
        ("30 6,18 * * *", "2026-11-24 12:00", "2026-11-24 06:30 CET"),
        ("*/20 * * * *", "2026-11-24 12:39", "2026-11-24 12:20 CET"),
        ("5-59/15 9 * * *", "2026-11-24 12:00", "2026-11-24 09:50 CET"),
        ("0 0 1 * *", "2026-11-03 12:00", "2026-11-01 00:00 CET"),
        ("0 0 * * 0", "2026-11-24 12:00", "2026-11-22 00:00 CET"),
        ("0 0 * * 7", "2026-11-24 12:00", "2026-11-22 00:00 CET"),
        ("0 0 * * fri-sun", "2026-11-24 12:00", "2026-11-22 00:00 CET"),
        ("0 0 20 * tue", "2026-11-24 12:00", "2026-11-24 00:00 CET"),
        ("0 0 20 * wed", "2026-11-24 12:00", "2026-11-20 00:00 CET"),
        ("0 0 */2 * mon", "2026-11-24 12:00", "2026-11-23 00:00 CET"),
        ("0 8 * NOV *", "2026-11-24 12:00", "2026-11-24 08:00 CET"),
        ("0 8 * 1-10 *", "2026-11-24 12:00", None),
        ("0 8 1 * *", "2026-11-24 12:00", None),
    ],
)
def test_the_last_start_before_an_instant(text: str, now: str, start: str | None) -> None:
    assert shown(last_start(parse_cron(text), BERLIN, at(now), 7 * DAY_S)) == start


@pytest.mark.parametrize(
    ("text", "within", "starts"),
    [
        # Clocks go from 02:00 to 03:00 on 29 March, and from 03:00 back to 02:00 on 25 October.
        ("30 2 * * *", ("2026-03-28 12:00", "2026-03-30 12:00"), ["03-29 03:30 CEST", "03-30 02:30 CEST"]),
        ("0 8 * * *", ("2026-03-28 12:00", "2026-03-30 12:00"), ["03-29 08:00 CEST", "03-30 08:00 CEST"]),
        ("30 * * * *", ("2026-03-29 01:00", "2026-03-29 04:00"), ["03-29 01:30 CET", "03-29 03:30 CEST"]),
        ("30 */2 * * *", ("2026-03-29 01:00", "2026-03-29 05:00"), ["03-29 04:30 CEST"]),
        ("30 2 * * *", ("2026-10-24 12:00", "2026-10-26 12:00"), ["10-25 02:30 CEST", "10-26 02:30 CET"]),
        ("0 8 * * *", ("2026-10-24 12:00", "2026-10-26 12:00"), ["10-25 08:00 CET", "10-26 08:00 CET"]),
        (
            "30 * * * *",
            ("2026-10-25 01:00", "2026-10-25 04:00"),
            ["10-25 01:30 CEST", "10-25 02:30 CEST", "10-25 02:30 CET", "10-25 03:30 CET"],
        ),
    ],
    ids=[
        "spring, missing",
        "spring, other",
        "spring, hourly",
        "spring, every second hour",
        "autumn, twice",
        "autumn, other",
        "autumn, hourly",
    ],
)
def test_starts_over_a_change_of_the_clock(text: str, within: tuple[str, str], starts: list[str]) -> None:
    cron = parse_cron(text)
    first_s, end_s = at(within[0]), at(within[1])
    seen = {last_start(cron, BERLIN, now_s, 60) for now_s in range(int(first_s), int(end_s), 60)}
    assert [shown(start) for start in sorted(start for start in seen if start is not None)] == [
        f"2026-{start}" for start in starts
    ]


def test_a_start_that_is_moved_over_later_hours_is_the_last() -> None:
    troll = ZoneInfo("Antarctica/Troll")  # From 01:00 to 03:00 on 29 March.
    now_s = at("2026-03-29 04:40", troll)
    assert shown(last_start(parse_cron("30 1,2,3 * * *"), troll, now_s, DAY_S), troll) == "2026-03-29 04:30 +02"


def test_the_same_expression_starts_at_other_instants_in_other_zones() -> None:
    cron, now_s = parse_cron("0 8 * * *"), at("2026-11-24 23:59", ZoneInfo("UTC"))
    zones = ("Asia/Kolkata", "Europe/Berlin", "America/New_York", "Pacific/Auckland")
    starts = [last_start(cron, ZoneInfo(zone), now_s, DAY_S) for zone in zones]
    texts = [datetime.fromtimestamp(start, UTC).strftime("%d %H:%M") for start in starts if start is not None]
    assert texts == ["24 02:30", "24 07:00", "24 13:00", "24 19:00"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "it has 0"),
        ("0 8 * *", "it has 4"),
        ("@daily", "it has 1"),
        ("60 * * * *", "minute 60: 60 is not in 0-59"),
        ("0 24 * * *", "hour 24: 24 is not in 0-23"),
        ("0 0 0 * *", "day of month 0: 0 is not in 1-31"),
        ("0 0 * 13 *", "month 13"),
        ("0 0 * * 8", "day of week 8: 8 is not in 0-7"),
        ("0 0 * * mo", "day of week mo: mo is not in 0-7"),
        ("0 0 * mon *", "month mon: mon is not in 1-12"),
        ("*/0 * * * *", "minute */0: after / must come a number above 0"),
        ("*/ * * * *", "after / must come a number above 0"),
        ("5/15 * * * *", "minute 5/15: /15 needs * or a range before it"),
        ("9-5 * * * *", "minute 9-5: 9-5 ends before it begins"),
        ("1, * * * *", "minute 1,: nothing is not in 0-59"),
        ("-1 * * * *", "nothing is not in 0-59"),
        ("² * * * *", "² is not in 0-59"),
        ("0 0 30 2 *", "day of month 30 does not exist in month 2"),
        ("0 0 31 4,6 *", "day of month 31 does not exist in month 4,6"),
    ],
)
def test_what_is_no_expression_is_named(text: str, part: str) -> None:
    with pytest.raises(CronError) as caught:
        parse_cron(text)
    assert part in str(caught.value)


FIELD = st.one_of(st.just("*"), st.sampled_from(["*/7", "1-5", "2,4"]))
CRON = st.builds("{} {} {} {} {}".format, st.just("*/30") | st.just("15"), FIELD, FIELD, FIELD, FIELD).map(parse_cron)
ZONE = st.sampled_from(["UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu"])


def by_minute(cron: Cron, zone: ZoneInfo, now_s: float, within_s: float) -> float | None:
    """The same by looking at every minute, for windows without a change of the clock."""
    minute = datetime.fromtimestamp(now_s, UTC).replace(second=0, microsecond=0)
    while minute.timestamp() > now_s - within_s:
        local = minute.astimezone(zone)
        if cron.has_day(local.date()) and local.hour in cron.hours and local.minute in cron.minutes:
            return minute.timestamp()
        minute -= timedelta(minutes=1)
    return None


@settings(max_examples=50)
@given(CRON, ZONE, st.floats(1.7e9, 1.9e9), st.floats(60, 2 * DAY_S))
def test_a_minute_by_minute_search_finds_the_same(cron: Cron, name: str, now_s: float, within_s: float) -> None:
    zone = ZoneInfo(name)
    offsets = {datetime.fromtimestamp(now_s - back * 3600, zone).utcoffset() for back in range(75)}
    if len(offsets) == 1:
        assert last_start(cron, zone, now_s, within_s) == by_minute(cron, zone, now_s, within_s)
