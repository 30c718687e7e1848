"""Counters of one worker, kept in plain lists and dictionaries: what the hot path can afford. Exported by `metrics`."""

from bisect import bisect_left
from collections.abc import Sequence

LATENCY_EDGES_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0)
TPOT_EDGES_S = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.2, 0.4, 1.0)
RATIO_EDGES = (0.25, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0)
WAIT_RATIO_EDGES = (0.1, *RATIO_EDGES, 10.0)


class Histogram:
    """Counts per bucket (upper edges inclusive), one more for the rest, and the sum."""

    __slots__ = ("counts", "edges", "sum")

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges = edges
        self.counts = [0] * (len(edges) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.edges, value)] += 1
        self.sum += value


class PoolStats:
    """What one worker has seen of one pool since it started."""

    __slots__ = (
        "dispatches",
        "duration_s",
        "estimate_ratio",
        "input_tokens",
        "out_of_order",
        "outcomes",
        "output_tokens",
        "over_dispatches",
        "predicted_gpu_s",
        "queue_wait_s",
        "retries",
        "tpot_s",
        "ttft_s",
        "used_s",
        "wait_error_ratio",
        "waits_unknown",
    )  # fmt: skip

    def __init__(self) -> None:
        self.outcomes: dict[tuple[str, str], int] = {}
        """(model, outcome) -> requests."""
        self.duration_s = Histogram(LATENCY_EDGES_S)
        self.ttft_s = Histogram(LATENCY_EDGES_S)
        self.tpot_s = Histogram(TPOT_EDGES_S)
        self.queue_wait_s = Histogram(LATENCY_EDGES_S)
        self.estimate_ratio = Histogram(RATIO_EDGES)
        self.wait_error_ratio = Histogram(WAIT_RATIO_EDGES)
        """Actual wait over estimated wait."""
        self.waits_unknown = 0
        """Requests that waited without an estimate."""
        self.input_tokens = 0
        self.output_tokens = 0
        self.retries = 0
        self.dispatches: dict[str, int] = {}
        """By path: idle, leased, solo."""
        self.out_of_order = 0
        """Requests that went past the queue while somebody waited elsewhere: what a view's age costs."""
        self.over_dispatches = 0
        """Replicas that got more than their budget as another worker dispatched there in the same interval."""
        self.predicted_gpu_s = 0.0
        """Of settled requests, as weighed on arrival."""
        self.used_s: dict[tuple[str, str], float] = {}
        """(tenant, prefill | decode) -> GPU-seconds: the bill."""

    def count(self, model: str, outcome: str) -> None:
        key = (model, outcome)
        self.outcomes[key] = self.outcomes.get(key, 0) + 1

    def bill(self, tenant: str, kind: str, gpu_s: float) -> None:
        key = (tenant, kind)
        self.used_s[key] = self.used_s.get(key, 0.0) + gpu_s
