"""One rule on one workload: the order of events, and what came of it. Pure."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import ceil, inf

from weighbridge.backtest.pool import Arrival, PoolModel, SimulatedPool, Trip, tpot_s
from weighbridge.backtest.rule import Rule

GATEWAY_TICK_S = 0.05
"""How soon a gateway notices room that came by time alone: the progress of a prefill."""
TOO_LONG_S = 30.0
"""A request that waited longer in the gateway would be turned away by default (`max_wait_s`)."""

_ASK, _READY, _PUMP = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a rule did with a workload. Percentiles are over all requests."""

    requests: int
    dropped: int
    """Requests without a last token: 0, or the simulation is wrong."""
    replica_hours: float
    ttft_ratio: float
    """Requests within their TTFT limit."""
    both_ratio: float
    """Within TTFT and TPOT limit."""
    ttft_p50_s: float
    ttft_p95_s: float
    ttft_p99_s: float
    tpot_p99_s: float
    changes: int
    most_replicas: int
    over_wait: int
    """Requests that waited longer in the gateway than it lets them by default."""
    preemptions: int
    busy_ratio: float
    """Of the replicas' time, starts and drains included."""


class _Ended:
    """Collects what is needed of each request that has ended."""

    def __init__(self, tpot_limit_s: float) -> None:
        self._tpot_limit_s = tpot_limit_s
        self.ttft_s = array("d")
        self.tpot_s = array("d")
        self.ttft_met = 0
        self.both_met = 0
        self.over_wait = 0

    def __call__(self, trip: Trip) -> None:
        ttft_s, between_s = trip.first_token_at_s - trip.arrived_at_s, tpot_s(trip)
        self.ttft_s.append(ttft_s)
        self.tpot_s.append(between_s)
        met = ttft_s <= trip.ttft_limit_s
        self.ttft_met += met
        self.both_met += met and between_s <= self._tpot_limit_s
        self.over_wait += trip.sent_at_s - trip.arrived_at_s > TOO_LONG_S


def simulate(
    arrivals: Sequence[Arrival], model: PoolModel, rule: Rule, *, start_replicas: int, judged_tpot_s: float
) -> Result:
    """Run `rule` until every request has ended. `judged_tpot_s` is for the result alone; the rule knows `model`'s.

    Raises ValueError when requests are left that no replica will ever serve.
    """
    ended = _Ended(judged_tpot_s)
    pool = SimulatedPool(model, ended)
    pool.start(start_replicas)
    now_s = _drive(pool, arrivals, rule)
    pool.close(now_s)
    counts = pool.counts
    ttft_s, between_s, total = sorted(ended.ttft_s), sorted(ended.tpot_s), max(1, len(ended.ttft_s))
    return Result(
        requests=len(arrivals),
        dropped=len(arrivals) - len(ended.ttft_s),
        replica_hours=counts.replica_s / 3600,
        ttft_ratio=ended.ttft_met / total,
        both_ratio=ended.both_met / total,
        ttft_p50_s=percentile(ttft_s, 0.5),
        ttft_p95_s=percentile(ttft_s, 0.95),
        ttft_p99_s=percentile(ttft_s, 0.99),
        tpot_p99_s=percentile(between_s, 0.99),
        changes=counts.changes,
        most_replicas=counts.most_replicas,
        over_wait=ended.over_wait,
        preemptions=counts.preemptions,
        busy_ratio=counts.busy_s / counts.replica_s if counts.replica_s else 0.0,
    )


def percentile(ascending: Sequence[float], ratio: float) -> float:
    """`inf` where there is nothing."""
    return ascending[min(len(ascending) - 1, int(ratio * len(ascending)))] if ascending else inf


def _drive(pool: SimulatedPool, arrivals: Sequence[Arrival], rule: Rule) -> float:
    """All events in order of time; returns that of the last one."""
    events: list[tuple[float, int]] = [(0.0, _ASK)]
    asked_at_s, pumping = -1.0, False
    total, index = len(arrivals), 0
    now_s = 0.0
    counts = pool.counts
    while counts.settled < total:
        arrives_at_s = arrivals[index].at_s if index < total else inf
        steps_end_at_s = min(pool.ends_at_s, default=inf)
        event_at_s = events[0][0] if events else inf
        now_s = min(arrives_at_s, steps_end_at_s, event_at_s)
        if now_s == inf:
            raise ValueError(f"{total - counts.settled} requests wait for replicas that nobody will start")
        if now_s == steps_end_at_s:
            pool.advance(pool.ends_at_s.index(steps_end_at_s), now_s)
        elif now_s == arrives_at_s:
            arrival = arrivals[index]
            index += 1
            pool.arrive(
                Trip(
                    arrival.weight.input_tokens,
                    arrival.output_tokens,
                    now_s,
                    weight=arrival.weight,
                    ttft_limit_s=arrival.ttft_limit_s,
                ),
                now_s,
            )
            if pool.held and not pool.desired and rule.wake_s < rule.every_s:
                heappush(events, (ceil(now_s / rule.wake_s) * rule.wake_s, _ASK))
        else:
            kind = heappop(events)[1]
            if kind == _PUMP:
                pumping = False
                pool.pump(now_s)
            elif kind == _READY:
                pool.wake(now_s)
            elif now_s > asked_at_s:
                asked_at_s = now_s
                ready_at_s = pool.apply(rule.desired(pool, now_s), now_s)
                if ready_at_s is not None:
                    heappush(events, (ready_at_s, _READY))
                if now_s % rule.every_s == 0 and rule.every_s < inf:
                    heappush(events, (now_s + rule.every_s, _ASK))
        if pool.held and pool.serving and not pumping:
            pumping = True
            heappush(events, (now_s + GATEWAY_TICK_S, _PUMP))
    return now_s
