"""Prometheus families from worker snapshots. Histograms carry cumulative buckets."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from backlog.records import PoolView
from estimator.calibrate import Drift
from gateway.snapshot import HistogramState, ReplicaState, WorkerState

_HISTOGRAMS = (
    ("duration_s", "weighbridge_request_duration_seconds", "End-to-end latency of ended requests"),
    ("ttft_s", "weighbridge_time_to_first_token_seconds", "Arrival to first output token, streams only"),
    ("tpot_s", "weighbridge_time_per_output_token_seconds", "Mean time per output token after the first, per stream"),
    ("queue_wait_s", "weighbridge_queue_wait_seconds", "Arrival to dispatch"),
    ("estimate_ratio", "weighbridge_estimate_error_ratio", "GPU-seconds used over GPU-seconds predicted"),
    ("wait_error_ratio", "weighbridge_wait_estimate_error_ratio", "Actual wait over the wait estimated on arrival"),
)


class Live:
    """A collector for a registry that outlives its scrapes: asks for one worker's state at each of them."""

    def __init__(self, snapshot: Callable[[], WorkerState | None]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        state = self._snapshot()
        if state is not None:
            yield from Snapshots([state], ()).collect()


class Snapshots:
    """A prometheus_client collector over one set of snapshots. `worker` labels keep counters apart across restarts."""

    def __init__(self, workers: Sequence[WorkerState], views: Iterable[PoolView]) -> None:
        self._workers = workers
        self._views = list(views)

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._work()
        yield from self._distributions()
        yield self._prices()
        yield from self._calibration()
        yield from self._spilled()
        yield from self._scaling()

    def _requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "weighbridge_requests", "Ended requests", labels=("worker", "pool", "model", "outcome")
        )
        refused = CounterMetricFamily(
            "weighbridge_refused", "Requests refused before a pool was known", labels=("worker", "outcome")
        )
        retries = CounterMetricFamily(
            "weighbridge_retries", "Requests sent to a replica again", labels=("worker", "pool")
        )
        dispatches = CounterMetricFamily(
            "weighbridge_dispatches",
            "Requests sent to a replica: past an idle queue, by a lease, or alone while Redis was away",
            labels=("worker", "pool", "path"),
        )
        passed = CounterMetricFamily(
            "weighbridge_dispatches_out_of_order",
            "Requests that went past the queue while somebody waited elsewhere",
            labels=("worker", "pool"),
        )
        over = CounterMetricFamily(
            "weighbridge_over_dispatches",
            "Replicas over their budget or slots as two workers dispatched there in one interval",
            labels=("worker", "pool"),
        )
        connections = GaugeMetricFamily("weighbridge_client_connections", "Open client connections", labels=("worker",))
        age = GaugeMetricFamily(
            "weighbridge_backlog_age_seconds", "Age of the last exchange with Redis", labels=("worker",)
        )
        for state in self._workers:
            worker = str(state.number)
            connections.add_metric((worker,), state.connections)
            if state.backlog_age_s is not None:
                age.add_metric((worker,), state.backlog_age_s)
            for outcome, count in state.refusals.items():
                refused.add_metric((worker, outcome), count)
            for name, pool in state.pools.items():
                retries.add_metric((worker, name), pool.retries)
                passed.add_metric((worker, name), pool.out_of_order)
                over.add_metric((worker, name), pool.over_dispatches)
                for path, count in pool.dispatches.items():
                    dispatches.add_metric((worker, name, path), count)
                for model, outcome, count in pool.outcomes:
                    requests.add_metric((worker, name, model, outcome), count)
        yield from (requests, refused, retries, dispatches, passed, over, connections, age)

    def _work(self) -> Iterator[Metric]:
        labels = ("worker", "pool")
        tickets = GaugeMetricFamily("weighbridge_backlog_tickets", "Waiting requests", labels=labels)
        work = GaugeMetricFamily("weighbridge_backlog_work_seconds", "GPU-seconds of waiting requests", labels=labels)
        oldest = GaugeMetricFamily("weighbridge_backlog_oldest_age_seconds", "Age of the oldest waiting", labels=labels)
        inputs = CounterMetricFamily("weighbridge_input_tokens", "Input tokens processed", labels=labels)
        outputs = CounterMetricFamily("weighbridge_output_tokens", "Output tokens produced", labels=labels)
        predicted = CounterMetricFamily(
            "weighbridge_gpu_seconds_predicted", "GPU-seconds of settled requests as weighed on arrival", labels=labels
        )
        unknown = CounterMetricFamily(
            "weighbridge_waits_without_estimate",
            "Requests that waited while no replica was ready or starting",
            labels=labels,
        )
        used = CounterMetricFamily(
            "weighbridge_gpu_seconds", "GPU-seconds used: the bill", labels=("worker", "pool", "tenant", "kind")
        )
        for state in self._workers:
            worker = str(state.number)
            for name, pool in state.pools.items():
                at = (worker, name)
                tickets.add_metric(at, pool.waiting)
                work.add_metric(at, pool.waiting_gpu_s)
                oldest.add_metric(at, pool.oldest_waiting_age_s or 0.0)
                inputs.add_metric(at, pool.input_tokens)
                outputs.add_metric(at, pool.output_tokens)
                predicted.add_metric(at, pool.predicted_gpu_s)
                unknown.add_metric(at, pool.waits_unknown)
                for tenant, kind, gpu_s in pool.used_gpu_s:
                    used.add_metric((*at, tenant, kind), gpu_s)
        yield from (tickets, work, oldest, inputs, outputs, predicted, unknown, used)

    def _distributions(self) -> Iterator[Metric]:
        for key, metric, text in _HISTOGRAMS:
            family = HistogramMetricFamily(metric, text, labels=("worker", "pool"))
            for state in self._workers:
                for name, pool in state.pools.items():
                    histogram = pool.histograms[key]
                    family.add_metric((str(state.number), name), _buckets(histogram), histogram.sum)
            yield family

    def _prices(self) -> Metric:
        prices = GaugeMetricFamily(
            "weighbridge_price_info",
            "1; labels say where a pool's prices are from: analytic or learned kernels, these of which GPU and engine",
            labels=("pool", "source", "fit", "engine"),
        )
        # One sample per pool, unless workers differ: then one of them could not read its weights.
        found = ((name, pool.price) for state in self._workers for name, pool in state.pools.items())
        for name, price in dict.fromkeys(found):
            prices.add_metric((name, price.source, price.fit, price.engine), 1.0)
        return prices

    def _calibration(self) -> Iterator[Metric]:
        labels = ("pool", "replica")
        scalar = GaugeMetricFamily(
            "weighbridge_calibration_scalar",
            "Seconds that a replica takes for one second of its price, as learned in well-filled periods",
            labels=labels,
        )
        periods = GaugeMetricFamily(
            "weighbridge_calibration_periods", "Well-filled periods that a scalar was learned from", labels=labels
        )
        drift = GaugeMetricFamily(
            "weighbridge_calibration_drift",
            "1 while a replica's speed is out of the band around its price, or moving",
            labels=(*labels, "kind"),
        )
        # Workers share what they learn, a few seconds apart: the one that has seen most speaks.
        known: dict[tuple[str, str], ReplicaState] = {}
        for state in self._workers:
            for name, pool in state.pools.items():
                for replica in pool.replicas:
                    at = (name, replica.name)
                    if at not in known or known[at].calibration_periods < replica.calibration_periods:
                        known[at] = replica
        for at, replica in known.items():
            scalar.add_metric(at, replica.calibration)
            periods.add_metric(at, replica.calibration_periods)
            for kind in Drift:
                drift.add_metric((*at, kind.value), float(replica.calibration_drift == kind))
        yield from (scalar, periods, drift)

    def _spilled(self) -> Iterator[Metric]:
        labels = ("worker", "pool")
        spilled = CounterMetricFamily(
            "weighbridge_spilled",
            "Requests sent to a hosted model, by what made them spill",
            labels=(*labels, "reason"),
        )
        stayed = CounterMetricFamily(
            "weighbridge_spill_stayed",
            "Decisions that a request which should spill stays, by what kept it; a waiting one is decided again",
            labels=(*labels, "reason"),
        )
        failures = CounterMetricFamily(
            "weighbridge_spill_failures", "Spilled requests that came back before the first byte", labels=labels
        )
        money = CounterMetricFamily("weighbridge_spill_money", "Money spent on hosted models", labels=labels)
        in_flight = GaugeMetricFamily("weighbridge_spill_in_flight", "Requests at a hosted model", labels=labels)
        for state in self._workers:
            for name, pool in state.pools.items():
                spill = pool.spill
                if spill is None:
                    continue
                at = (str(state.number), name)
                failures.add_metric(at, spill.failures)
                money.add_metric(at, spill.money)
                in_flight.add_metric(at, spill.in_flight)
                for reason, requests in spill.spilled.items():
                    spilled.add_metric((*at, reason), requests)
                for reason, decisions in spill.stayed.items():
                    stayed.add_metric((*at, reason), decisions)
        yield from (spilled, stayed, failures, money, in_flight)

    def _scaling(self) -> Iterator[Metric]:
        replicas = GaugeMetricFamily(
            "weighbridge_autoscaler_replicas", "Replicas in the last scaling decision", labels=("pool", "kind")
        )
        offered = GaugeMetricFamily(
            "weighbridge_offered_load", "Arriving GPU-seconds per second, per GPU of a replica", labels=("pool",)
        )
        for view in self._views:
            decision = view.decision
            if decision is None:
                continue
            for kind in ("desired", "recommended", "ready", "pending", "draining"):
                replicas.add_metric((view.pool, kind), getattr(decision, kind))
            if decision.offered_load is not None:
                offered.add_metric((view.pool,), decision.offered_load)
        yield from (replicas, offered)


def _buckets(histogram: HistogramState) -> list[tuple[str, float]]:
    """Cumulative counts up to each edge, and to infinity."""
    total = 0
    buckets: list[tuple[str, float]] = []
    for edge, count in zip([*map(str, histogram.edges), "+Inf"], histogram.counts, strict=True):
        total += count
        buckets.append((edge, total))
    return buckets
