"""The settings of one pool's autoscaler: every number of the scaling law and its constraints, with unit and default.

The defaults are one set that held the SLO on chat, RAG with chat and code traffic alike; the policy study behind them
is summarised in `docs/decisions`.
"""

from dataclasses import dataclass

from autoscaler.schedule import Schedule
from backlog.records import PoolName


class SettingsError(ValueError):
    """Settings that contradict each other. `errors` has every broken rule, not only the first."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = tuple(errors)


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalerSettings:
    """One pool's scaling law. Raises `SettingsError` naming every rule that the values break."""

    pool: PoolName
    min_replicas: int = 1
    max_replicas: int = 1
    gpus_per_replica: int = 1
    """Turns GPU-seconds into replica-seconds."""
    kv_capacity_tokens: int
    """KV cache tokens of one replica."""

    utilization: float = 0.9
    """`u`: offered load that one replica should carry, in erlangs. The starting point of the calibrator."""
    beta: float = 0.25
    """Square-root headroom against the randomness of arrivals."""
    drain_s: float = 20.0
    """A backlog should be worked off in this time. 5 s is far too eager (policy study: a third more GPU-hours)."""
    ready_slack_s: float = 0.3
    """Outstanding prefill per ready replica that is normal operation rather than backlog."""
    kv_fill_ratio: float = 0.85
    """Share of the KV cache that predicted footprints may fill."""
    average_s: float = 60.0
    """Offered load is the mean over this long."""
    trend_horizon_s: float | None = None
    """Offered load is also looked at this far ahead, along its growth: about a cold start. `None` is no trend, the
    default: it buys 7-9 % more GPU-hours for next to nothing (policy study)."""
    trend_over_s: float = 300.0
    """Growth is measured between two means of `average_s` that lie this far apart."""
    trend_gate_ratio: float = 0.15
    """Growth below this share of the earlier mean is noise, and counts as none."""

    target_miss_ratio: float = 0.005
    """SLO misses that are aimed at."""
    slo_gain_per_s: float = 3e-4
    """Gain of the slow integrator on SLO misses; 0 turns it off."""
    miss_window_s: float = 120.0
    """Misses are averaged over this long before they are integrated."""

    tolerance: float = 0.05
    """Relative deadband around the present replicas within which nothing changes. Acts from 20 replicas on."""
    window_s: float = 120.0
    """Down only to the highest recommendation of this long. 300 for on/off traffic."""
    warmup_s: float = 180.0
    """No scaling down before this much uninterrupted data."""
    down_every_s: float = 15.0
    """At most one replica less per this long."""
    up_max: int | None = None
    """Most replicas added per `up_period_s`; `None` is no limit."""
    up_period_s: float = 60.0
    cooldown_to_zero_s: float = 300.0
    """The last replica goes after this long without arrivals and with nothing waiting or running."""

    polling_s: float = 5.0
    """Between two decisions."""
    wake_s: float = 0.25
    """Between two looks at the backlog: how soon work that waits at zero replicas is noticed."""
    stale_after_s: float = 10.0
    """A report older than this no longer counts."""
    fallback_after_s: float = 120.0
    """After this long without data the fallback replicas are a floor; until then replicas are held."""
    fallback_replicas: int = 1
    drain_deadline_s: float = 120.0
    """A draining replica is stopped after this long even if requests still run on it."""
    cold_start_s: float | None = 60.0
    """Published until a cold start has been measured."""
    schedules: tuple[Schedule, ...] = ()
    """Bounds for some hours of some days, within the pool's own."""
    override_s: float = 600.0
    """When somebody else sets the replicas, they stay as set for this long; 0: the law goes on at once."""
    advisory: bool = False
    """Publish decisions, apply none."""

    def __post_init__(self) -> None:
        rules = (
            (0 <= self.min_replicas <= self.max_replicas, "0 <= min_replicas <= max_replicas"),
            (self.max_replicas >= 1, "max_replicas >= 1"),
            (self.gpus_per_replica >= 1, "gpus_per_replica >= 1"),
            (self.kv_capacity_tokens >= 1, "kv_capacity_tokens >= 1"),
            (0 < self.utilization <= 1, "0 < utilization <= 1"),
            (self.beta >= 0, "beta >= 0"),
            (self.drain_s > 0, "drain_s > 0"),
            (self.ready_slack_s >= 0, "ready_slack_s >= 0"),
            (0 < self.kv_fill_ratio <= 1, "0 < kv_fill_ratio <= 1"),
            (0 < self.target_miss_ratio < 1, "0 < target_miss_ratio < 1"),
            (self.slo_gain_per_s >= 0, "slo_gain_per_s >= 0"),
            (self.miss_window_s > 0, "miss_window_s > 0"),
            (0 <= self.tolerance < 1, "0 <= tolerance < 1"),
            (self.window_s >= 0, "window_s >= 0"),
            (self.warmup_s >= 0, "warmup_s >= 0"),
            (self.down_every_s >= 0, "down_every_s >= 0"),
            (self.up_max is None or self.up_max >= 1, "up_max >= 1, or none"),
            (self.up_period_s > 0, "up_period_s > 0"),
            (self.cooldown_to_zero_s >= 0, "cooldown_to_zero_s >= 0"),
            (0 < self.polling_s <= self.average_s / 2, "0 < polling_s <= average_s / 2"),
            (0 < self.wake_s <= 0.5, "0 < wake_s <= 0.5"),
            (self.wake_s < self.stale_after_s, "wake_s < stale_after_s"),
            (self.stale_after_s <= self.fallback_after_s, "stale_after_s <= fallback_after_s"),
            (0 <= self.fallback_replicas <= self.max_replicas, "0 <= fallback_replicas <= max_replicas"),
            (self.drain_deadline_s >= 0, "drain_deadline_s >= 0"),
            (self.cold_start_s is None or self.cold_start_s > 0, "cold_start_s > 0, or none"),
            (self.trend_horizon_s is None or self.trend_horizon_s > 0, "trend_horizon_s > 0, or none"),
            (
                self.trend_horizon_s is None or self.trend_over_s >= self.average_s,
                "trend_over_s >= average_s where there is a trend",
            ),
            (self.trend_gate_ratio >= 0, "trend_gate_ratio >= 0"),
            (self.override_s >= 0, "override_s >= 0"),
            *(self._within(schedule.min_replicas, "min", schedule) for schedule in self.schedules),
            *(self._within(schedule.max_replicas, "max", schedule) for schedule in self.schedules),
        )
        errors = [f"pool {self.pool}: must hold: {rule}" for holds, rule in rules if not holds]
        if errors:
            raise SettingsError(errors)

    def _within(self, replicas: int | None, key: str, schedule: Schedule) -> tuple[bool, str]:
        holds = replicas is None or self.min_replicas <= replicas <= self.max_replicas
        return holds, f"min_replicas <= {key} ({replicas}) of schedule '{schedule.cron}' <= max_replicas"

    @property
    def history_s(self) -> float:
        """How far back the counters of workers are needed."""
        trend_s = 0.0 if self.trend_horizon_s is None else self.average_s + self.trend_over_s
        return max(self.average_s, self.miss_window_s, trend_s)

    @property
    def down_after_s(self) -> float:
        """Uninterrupted data needed before scaling down: the warm-up, and never less than a full window."""
        return max(self.warmup_s, self.window_s)
