"""Prometheus families of one autoscaler process: what it saw itself, leader or not.

Gateways export the decisions that were published (`weighbridge_autoscaler_replicas`, `weighbridge_offered_load`); the
names here are others, as a follower's view is not a decision.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from autoscaler.lead import Lead
from autoscaler.observation import Known, Observation
from autoscaler.stats import STEP_EDGES_S, PoolStats


class AutoscalerMetrics(Collector):
    """Reads statistics when it is asked."""

    def __init__(
        self,
        pools: Sequence[PoolStats],
        *,
        lead: Lead,
        calls: Mapping[tuple[str, str], int],
        watch_ages_s: Callable[[], Mapping[str, float | None]],
        now: Callable[[], float],
    ) -> None:
        """`calls`: requests to the API server by verb and status. `watch_ages_s`: since when the server was last heard
        of, by watch; `None` for never. `now` is the clock of the decisions."""
        self._pools = pools
        self._lead = lead
        self._calls = calls
        self._watch_ages_s = watch_ages_s
        self._now = now

    def collect(self) -> Iterator[Metric]:
        yield from self._leading()
        yield from self._fleets()
        yield from self._inputs()
        yield from self._loops()
        yield from self._server()

    def _leading(self) -> Iterator[Metric]:
        leader = GaugeMetricFamily(
            "weighbridge_autoscaler_leader", "1 while this process leads, else 0", labels=("identity",)
        )
        leader.add_metric((self._lead.identity,), float(self._lead.leads()))
        changes = CounterMetricFamily(
            "weighbridge_autoscaler_lead_changes", "How often this process began to lead, or lost the lead",
            labels=("kind",),
        )  # fmt: skip
        changes.add_metric(("gained",), self._lead.gains)
        changes.add_metric(("lost",), self._lead.losses)
        transitions = CounterMetricFamily(
            "weighbridge_autoscaler_lease_transitions", "How often the lease has changed hands, as last seen"
        )
        if self._lead.transitions is not None:
            transitions.add_metric((), self._lead.transitions)
        yield from (leader, changes, transitions)

    def _fleets(self) -> Iterator[Metric]:
        replicas = GaugeMetricFamily(
            "weighbridge_autoscaler_pool_replicas",
            "Replicas as this process saw and wanted them at its last decision",
            labels=("pool", "kind"),
        )
        cold_start = GaugeMetricFamily(
            "weighbridge_autoscaler_cold_start_seconds", "From a replica's start to its being ready, as measured",
            labels=("pool",),
        )  # fmt: skip
        paused = GaugeMetricFamily("weighbridge_autoscaler_paused", "1 while a pool is left alone", labels=("pool",))
        override = GaugeMetricFamily(
            "weighbridge_autoscaler_override_replicas",
            "Replicas that somebody else has set, while there is such a change",
            labels=("pool",),
        )
        for pool in self._pools:
            if pool.record is None or pool.observation is None:
                continue
            fleet = pool.observation.fleet
            counts = {
                "desired": pool.record.desired,
                "recommended": pool.record.recommended,
                "present": fleet.desired,
                "ready": fleet.ready,
                "pending": fleet.pending,
                "draining": fleet.draining,
                "unschedulable": fleet.unschedulable,
            }
            for kind, count in counts.items():
                replicas.add_metric((pool.pool, kind), count)
            paused.add_metric((pool.pool,), float(fleet.paused is not None))
            if fleet.override is not None:
                override.add_metric((pool.pool,), fleet.override.replicas)
            if pool.cold_start_s is not None:
                cold_start.add_metric((pool.pool,), pool.cold_start_s)
        yield from (replicas, cold_start, paused, override)

    def _inputs(self) -> Iterator[Metric]:
        load = GaugeMetricFamily(
            "weighbridge_autoscaler_offered_load",
            "Offered load that the last decision rests on: arriving GPU-seconds per second, per GPU of a replica",
            labels=("pool",),
        )
        backlog = GaugeMetricFamily(
            "weighbridge_autoscaler_backlog_work_seconds",
            "Prefill that waited or was sent at the last decision, in replica-seconds",
            labels=("pool",),
        )
        age = GaugeMetricFamily(
            "weighbridge_autoscaler_observation_age_seconds",
            "Age of an input of the last decision, now; of unknown work and load, since they were last known",
            labels=("pool", "source"),
        )
        known = GaugeMetricFamily(
            "weighbridge_autoscaler_observation_known",
            "1 when an input of the last decision was known, else 0",
            labels=("pool", "source"),
        )
        for pool in self._pools:
            if pool.record is None or pool.observation is None:
                continue
            seen = pool.observation
            since_s = max(0.0, self._now() - pool.record.at_s)
            if isinstance(seen.offered_load, Known):
                load.add_metric((pool.pool,), seen.offered_load.value)
            if isinstance(seen.work, Known):
                backlog.add_metric((pool.pool,), seen.work.value.backlog_s)
            for source, (age_s, is_known) in _ages(seen).items():
                if age_s is not None:
                    age.add_metric((pool.pool, source), age_s + since_s)
                known.add_metric((pool.pool, source), float(is_known))
        yield from (load, backlog, age, known)

    def _loops(self) -> Iterator[Metric]:
        decisions = CounterMetricFamily(
            "weighbridge_autoscaler_decisions",
            "Decisions by the step that bound them, a follower's too",
            labels=("pool", "step"),
        )
        failures = CounterMetricFamily(
            "weighbridge_autoscaler_apply_errors",
            "Times that a decision could not be carried out, by reason",
            labels=("pool", "reason"),
        )
        steps = HistogramMetricFamily(
            "weighbridge_autoscaler_step_duration_seconds", "How long one look of a pool's loop takes", labels=("pool",)
        )
        for pool in self._pools:
            for step, count in pool.decisions.items():
                decisions.add_metric((pool.pool, step), count)
            for reason, count in pool.failures.items():
                failures.add_metric((pool.pool, reason), count)
            edges = [*map(str, STEP_EDGES_S), "+Inf"]
            buckets = list(zip(edges, map(float, accumulate(pool.step_counts)), strict=True))
            steps.add_metric((pool.pool,), buckets, pool.step_sum_s)
        yield from (decisions, failures, steps)

    def _server(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(
            "weighbridge_autoscaler_api_calls",
            "Requests to the Kubernetes API server; `status` is `none` where there was no answer",
            labels=("verb", "status"),
        )
        for (verb, status), count in self._calls.items():
            calls.add_metric((verb, status), count)
        age = GaugeMetricFamily(
            "weighbridge_autoscaler_watch_age_seconds",
            "Since the Kubernetes API server was last heard of on a watch",
            labels=("watch",),
        )
        for name, age_s in self._watch_ages_s().items():
            if age_s is not None:
                age.add_metric((name,), age_s)
        yield from (calls, age)


def _ages(seen: Observation) -> dict[str, tuple[float | None, bool]]:
    """Inputs with their age and whether they are known. In an idle pool nothing misses its SLO: that is no old news."""
    misses_age_s = seen.misses.age_s if isinstance(seen.misses, Known) else None
    return {
        "work": (seen.work.age_s, isinstance(seen.work, Known)),
        "offered-load": (seen.offered_load.age_s, isinstance(seen.offered_load, Known)),
        "misses": (misses_age_s, isinstance(seen.misses, Known)),
    }
