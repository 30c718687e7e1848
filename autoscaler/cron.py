"""Cron expressions and when they start, in the local time of a zone. Pure but for the time zone that it is given.

Five fields: minute, hour, day of month, month, day of week (0 or 7 is Sunday; `jan`-`dec` and `sun`-`sat` work too).
A field is `*`, or numbers and ranges joined by commas; `/n` after `*` or a range takes each n-th of it. When both day
fields are restricted, a day that fits either will do, as in every cron.

Where a clock is set forward, a start in the hour that does not exist is as much later (02:30 becomes 03:30); where it
is set back, a start in the hour that happens twice is its first. With an hour field of `*` or `*/n`, starts follow the
clock that is shown: none in the missing hour, and both in the repeated one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MONTHS = {name: index for index, name in enumerate(MONTH_NAMES, start=1)}
WEEKDAYS = {name: index for index, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
MOST_SHIFT_HOURS = 3
"""No clock is set forth or back by more, so hours further apart are in the order of their numbers."""
MOST_SHIFT = timedelta(hours=MOST_SHIFT_HOURS)
LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class CronError(ValueError):
    """Not a cron expression. The message says which field, and what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """A parsed expression."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    either_day: bool
    """Both day fields are restricted: one that fits is enough."""
    every_hour: bool
    """The hour field begins with `*`: starts follow the clock that is shown."""

    def has_day(self, day: date) -> bool:
        """Whether there are starts on this local day."""
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        fits = in_month or in_week if self.either_day else in_month and in_week
        return fits and day.month in self.months

    def starts(self, day: date, hour: int, zone: tzinfo) -> Iterator[float]:
        """The instants of the starts that this local hour has, in no order, as seconds since the epoch."""
        for minute in self.minutes:
            first = datetime.combine(day, time(hour, minute), zone)
            at_s, second_at_s = first.timestamp(), first.replace(fold=1).timestamp()
            if at_s == second_at_s or not self.every_hour:
                yield at_s
            elif at_s < second_at_s:
                yield from (at_s, second_at_s)


def parse_cron(text: str) -> Cron:
    """Raises CronError, also for days that no year has."""
    fields = text.lower().split()
    if len(fields) != 5:
        raise CronError(f"must have five fields (minute, hour, day of month, month, day of week), it has {len(fields)}")
    minute, hour, day, month, weekday = fields
    cron = Cron(
        minutes=_field("minute", minute, 0, 59),
        hours=_field("hour", hour, 0, 23),
        days=frozenset(_field("day of month", day, 1, 31)),
        months=frozenset(_field("month", month, 1, 12, MONTHS)),
        weekdays=frozenset(value % 7 for value in _field("day of week", weekday, 0, 7, WEEKDAYS)),
        either_day=not day.startswith("*") and not weekday.startswith("*"),
        every_hour=hour.startswith("*"),
    )
    if not cron.either_day and min(cron.days) > max(LONGEST_MONTHS[month - 1] for month in cron.months):
        raise CronError(f"day of month {day} does not exist in month {month}")
    return cron


def last_start(cron: Cron, zone: tzinfo, now_s: float, within_s: float) -> float | None:
    """The last start in `(now_s - within_s, now_s]`, as seconds since the epoch; `None` when there is none."""
    local = datetime.fromtimestamp(now_s, UTC).astimezone(zone).replace(tzinfo=None)
    day = local.date()
    # One more day: what is moved over the end of a day begins there later than its local day says.
    earliest = datetime.fromtimestamp(now_s - within_s, UTC).astimezone(zone).date() - timedelta(days=1)
    while day >= earliest:
        at_s = _last_of(cron, day, zone, local, now_s) if cron.has_day(day) else None
        if at_s is not None:
            return at_s if at_s > now_s - within_s else None
        day -= timedelta(days=1)
    return None


def _last_of(cron: Cron, day: date, zone: tzinfo, local: datetime, now_s: float) -> float | None:
    """The last start of a day that has passed."""
    last_s, last_hour = None, 0
    for hour in reversed(cron.hours):
        if datetime.combine(day, time(hour)) > local + MOST_SHIFT:
            continue
        if last_s is not None and hour < last_hour - MOST_SHIFT_HOURS:
            break
        passed = [at_s for at_s in cron.starts(day, hour, zone) if at_s <= now_s]
        if passed and (last_s is None or max(passed) > last_s):
            last_s, last_hour = max(passed), hour
    return last_s


def _field(name: str, text: str, low: int, high: int, words: dict[str, int] | None = None) -> tuple[int, ...]:
    values: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        if slash and (not step_text.isdecimal() or int(step_text) == 0):
            raise CronError(f"{name} {text}: after / must come a number above 0")
        step = int(step_text) if slash else 1
        if span == "*":
            first, last = low, high
        else:
            first_text, dash, last_text = span.partition("-")
            first = _number(name, text, first_text, low, high, words)
            last = _number(name, text, last_text, low, high, words) if dash else first
            if dash and words is WEEKDAYS and last == 0:
                last = 7  # fri-sun ends with the week
            if slash and not dash:
                raise CronError(f"{name} {text}: /{step} needs * or a range before it")
        if last < first:
            raise CronError(f"{name} {text}: {span} ends before it begins")
        values.update(range(first, last + 1, step))
    return tuple(sorted(values))


def _number(name: str, field: str, text: str, low: int, high: int, words: dict[str, int] | None) -> int:
    if words is not None and text in words:
        return words[text]
    if not (text.isascii() and text.isdecimal()) or not low <= int(text) <= high:
        raise CronError(f"{name} {field}: {text or 'nothing'} is not in {low}-{high}")
    return int(text)
