"""The `autoscaler` section, of the whole file and of a pool: keys, units and bounds.

A default of `None` means the default of `autoscaler.settings`, which has the relations between values too.
"""

from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field, field_validator
from pydantic_core.core_schema import ValidationInfo

from autoscaler.cron import parse_cron
from autoscaler.schedule import MAX_DURATION_S, Schedule, ScheduleError, zone_of
from weighbridge.config_errors import suggestion
from weighbridge.config_fields import Count, CountOrZero, Number, Ratio, Seconds, SecondsOrZero, Section


def _cron(value: str) -> str:
    parse_cron(value)
    return value


def _timezone(value: str) -> str:
    try:
        zone_of(value)
    except ScheduleError:
        known = available_timezones()
        close = suggestion(value, known)
        meant = f"; did you mean {close!r}?" if close else ""
        raise ValueError(f"is not in the time zone database{meant}") from None
    return value


class ScheduleSection(Section):
    """Bounds within the pool's own, from each start of `cron` for `duration_s`."""

    cron: Annotated[str, AfterValidator(_cron)]
    """Five fields, in the local time of `timezone`."""
    timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"
    duration_s: Annotated[Number, Field(ge=60, le=MAX_DURATION_S)]
    min: CountOrZero | None = None
    max: Annotated[CountOrZero | None, Field(validate_default=True)] = None

    @field_validator("max")
    @classmethod
    def _at_least_min(cls, value: int | None, info: ValidationInfo) -> int | None:
        low = info.data.get("min")
        if value is not None and low is not None and value < low:
            raise ValueError(f"must be at least min ({low})")
        if value is None and low is None:
            raise ValueError("min or max is required")
        return value

    @property
    def schedule(self) -> Schedule:
        return Schedule(
            cron=self.cron,
            timezone=self.timezone,
            duration_s=self.duration_s,
            min_replicas=self.min,
            max_replicas=self.max,
        )


class AutoscalerSection(Section):
    """How a pool is scaled; `autoscaler.settings` has the meaning and the default of each value.

    Values under `pools.*.autoscaler` override those under `autoscaler`.
    """

    utilization: Ratio | None = None
    beta: SecondsOrZero | None = None
    drain_s: Seconds | None = None
    ready_slack_s: SecondsOrZero | None = None
    kv_fill_ratio: Ratio | None = None
    average_s: Seconds | None = None
    target_miss_ratio: Annotated[Number, Field(gt=0, lt=1)] | None = None
    slo_gain_per_s: SecondsOrZero | None = None
    miss_window_s: Seconds | None = None
    tolerance: Annotated[Number, Field(ge=0, lt=1)] | None = None
    window_s: SecondsOrZero | None = None
    warmup_s: SecondsOrZero | None = None
    down_every_s: SecondsOrZero | None = None
    up_max: Count | None = None
    up_period_s: Seconds | None = None
    cooldown_to_zero_s: SecondsOrZero | None = None
    polling_s: Seconds | None = None
    wake_s: Annotated[Number, Field(gt=0, le=0.5)] | None = None
    stale_after_s: Seconds | None = None
    fallback_after_s: Seconds | None = None
    fallback_replicas: CountOrZero | None = None
    drain_deadline_s: SecondsOrZero | None = None
    cold_start_s: Seconds | None = None
    trend_horizon_s: Seconds | None = None
    trend_over_s: Seconds | None = None
    trend_gate_ratio: SecondsOrZero | None = None
    schedules: tuple[ScheduleSection, ...] | None = None
    override_s: SecondsOrZero | None = None
    advisory: bool | None = None
