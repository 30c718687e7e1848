"""Rules that say how many replicas there should be: those that Weighbridge is compared with. Pure.

What they share with the Kubernetes HorizontalPodAutoscaler: a sync every 15 s, a deadband of 10 %, at most the greater
of double and four more per sync, and down only to the highest recommendation of 300 s.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

from weighbridge.backtest.pool import SimulatedPool

SYNC_S = 15.0
TOLERANCE = 0.1
STABILIZATION_S = 300.0
MOST_MORE = 4
KEDA_POLLING_S = 30.0
KEDA_COOLDOWN_S = 300.0


class Rule(Protocol):
    """Asked every `every_s`, and within `wake_s` when something waits and no replica is desired."""

    @property
    def every_s(self) -> float: ...

    @property
    def wake_s(self) -> float: ...

    def desired(self, pool: SimulatedPool, now_s: float) -> int:
        """Replicas that should run from now on. `now_s` grows from call to call."""
        ...


class StaticRule:
    """Always the same."""

    every_s = math.inf
    wake_s = math.inf

    def __init__(self, replicas: int) -> None:
        self._replicas = replicas

    def desired(self, pool: SimulatedPool, now_s: float) -> int:
        return self._replicas


class HpaRule:
    """`ceil(metric / target)` in the manner of a HorizontalPodAutoscaler. `target` is the metric per replica."""

    every_s = SYNC_S
    wake_s = math.inf

    def __init__(
        self, *, metric: Callable[[SimulatedPool], int], target: float, min_replicas: int, max_replicas: int
    ) -> None:
        self._metric = metric
        self._target = target
        self._min, self._max = min_replicas, max_replicas
        self._recommended: deque[tuple[float, int]] = deque()

    def desired(self, pool: SimulatedPool, now_s: float) -> int:
        metric, present = self._metric(pool), pool.desired
        wanted = math.ceil(metric / self._target)
        if present and abs(metric / (self._target * present) - 1) <= TOLERANCE:
            wanted = present
        if not self._recommended:
            # What runs when the autoscaler starts is its first recommendation.
            self._recommended.append((now_s, present))
        self._recommended.append((now_s, wanted))
        while self._recommended[0][0] <= now_s - STABILIZATION_S:
            self._recommended.popleft()
        if wanted < present:
            wanted = min(present, max(replicas for _, replicas in self._recommended))
        wanted = min(wanted, max(2 * present, present + MOST_MORE))
        return min(max(wanted, self._min), self._max)


class KedaRule(HpaRule):
    """An HPA whose metric counts waiting requests; KEDA itself goes to zero and back, by whether there is any."""

    wake_s = KEDA_POLLING_S

    def __init__(self, *, target: float, min_replicas: int, max_replicas: int) -> None:
        super().__init__(
            metric=lambda pool: pool.waiting,
            target=target,
            min_replicas=max(1, min_replicas),
            max_replicas=max_replicas,
        )
        self._to_zero = min_replicas == 0
        self._active_at_s = 0.0

    def desired(self, pool: SimulatedPool, now_s: float) -> int:
        if pool.waiting:
            self._active_at_s = now_s
        if self._to_zero:
            if pool.desired == 0:
                return 1 if pool.waiting else 0
            if now_s - self._active_at_s >= KEDA_COOLDOWN_S:
                return 0
        return super().desired(pool, now_s)


def concurrency(pool: SimulatedPool) -> int:
    """Requests that wait or run: what an HPA on concurrency is given."""
    return pool.concurrency
