"""Turn what the client and `/status` saw into one report. Pure: records and samples in, values out."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from estimator.price import Price
from weighbridge.replay.record import Ending, RequestRecord
from weighbridge.replay.report import (
    Attainment,
    Client,
    FleetPoint,
    Percentiles,
    Replayed,
    Report,
    Slo,
    Tokens,
    Work,
)
from weighbridge.replay.sender import SenderCounts
from weighbridge.replay.status import PoolSample, SeenDecision

LATE_S = 0.1
"""A client whose p99 lateness is above this, or that ran out of connections, was the bottleneck."""


def summarize(replayed: Replayed, slo: Slo) -> Report:
    """The report of a replay."""
    records = replayed.records
    pools = [(sample.at_s, pool) for sample in replayed.samples if (pool := sample.pool_of(replayed.model)) is not None]
    complete = sum(record.ending is Ending.COMPLETE for record in records)
    return Report(
        trace=replayed.trace,
        model=replayed.model,
        speed=replayed.speed,
        seed=replayed.seed,
        started_at_s=replayed.started_at_s,
        wall_s=replayed.wall_s,
        requests=len(records),
        complete=complete,
        lost=len(records) - complete,
        endings=_counted(record.ending.value for record in records),
        outcomes=_counted(record.outcome or "none" for record in records),
        first_error=next((record.detail for record in records if record.ending is not Ending.COMPLETE), None),
        slo=slo,
        attainment=_attainment(records, slo),
        ttft_s=percentiles(record.ttft_s for record in records),
        tpot_s=percentiles(record.tpot_s for record in records),
        e2e_s=percentiles(record.e2e_s for record in records),
        queue_s=percentiles(None if record.queue_ms is None else record.queue_ms / 1000 for record in records),
        opened_early=sum(record.opened_early for record in records),
        tokens=_tokens(records),
        work=_work(records, pools),
        by_replica=_counted(record.replica for record in records if record.replica is not None),
        client=_client(records, replayed.counts),
        fleet=tuple(_fleet_point(at_s, pool) for at_s, pool in pools),
        decisions=merge_decisions(pool for _, pool in pools),
    )


def percentiles(values: Iterable[float | None]) -> Percentiles | None:
    """Of the known values; `None` if there are none."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None

    def rank(share: float) -> float:
        return known[max(0, math.ceil(share * len(known)) - 1)]

    return Percentiles(
        count=len(known),
        mean=sum(known) / len(known),
        p10=rank(0.1),
        p50=rank(0.5),
        p90=rank(0.9),
        p95=rank(0.95),
        p99=rank(0.99),
        maximum=known[-1],
    )


def merge_decisions(pools: Iterable[PoolSample]) -> tuple[SeenDecision, ...]:
    """Every decision that any sample showed, once, oldest first."""
    return tuple(sorted({d for pool in pools for d in pool.decisions}, key=lambda decision: decision.at_s))


def changes(decisions: Iterable[SeenDecision]) -> list[tuple[int, SeenDecision]]:
    """Decisions that changed the desired replicas, each with the number before it."""
    ordered = list(decisions)
    pairs = pairwise(ordered)
    return [(before.desired, after) for before, after in pairs if before.desired != after.desired]


def _attainment(records: Sequence[RequestRecord], slo: Slo) -> Attainment:
    ttft = [_met(record, record.ttft_s, slo.ttft_s) for record in records]
    tpot = [_met(record, record.tpot_s, slo.tpot_s, absent=True) for record in records]
    both = [a and b for a, b in zip(ttft, tpot, strict=True)]
    return Attainment(
        ttft_ratio=None if slo.ttft_s is None or not records else sum(ttft) / len(records),
        tpot_ratio=None if slo.tpot_s is None or not records else sum(tpot) / len(records),
        both_ratio=None if slo == Slo() or not records else sum(both) / len(records),
    )


def _met(record: RequestRecord, value: float | None, limit: float | None, *, absent: bool = False) -> bool:
    """Whether a request met one limit; `absent` is the answer for a complete one-token response, which has no TPOT."""
    if record.ending is not Ending.COMPLETE:
        return False
    if limit is None:
        return True
    return absent if value is None else value <= limit


def _tokens(records: Sequence[RequestRecord]) -> Tokens:
    told = [record for record in records if record.used_input_tokens is not None]
    cached = [record.used_cached_tokens for record in told if record.used_cached_tokens is not None]
    return Tokens(
        requests=len(told),
        input_asked=sum(record.input_tokens for record in told),
        input_used=sum(record.used_input_tokens or 0 for record in told),
        input_cached=sum(cached) if cached else None,
        output_asked=sum(record.output_tokens for record in told),
        output_used=sum(record.used_output_tokens or 0 for record in told),
    )


def _work(records: Sequence[RequestRecord], samples: Sequence[tuple[float, PoolSample]]) -> Work:
    pools = [pool for _, pool in samples]
    price = next((pool.price for pool in reversed(pools) if pool.price is not None), None)
    settled = [pool.used_gpu_s for pool in pools if pool.used_gpu_s is not None]
    priced = [
        (record.predicted_gpu_s, _used_gpu_s(record, price))
        for record in records
        if record.predicted_gpu_s is not None and (price is None or record.used_input_tokens is not None)
    ]
    used = [value for _, value in priced if value is not None]
    return Work(
        requests=len(priced),
        predicted_gpu_s=sum(predicted for predicted, _ in priced) if priced else None,
        used_gpu_s=sum(used) if used else None,
        error_ratio=percentiles(predicted / value for predicted, value in priced if value),
        gateway_used_gpu_s=max(0.0, settled[-1] - settled[0]) if settled else None,
        reserved_gpu_s=_reserved_gpu_s(samples),
    )


def _reserved_gpu_s(samples: Sequence[tuple[float, PoolSample]]) -> float | None:
    """Each sample's replicas hold until the next sample; a sample that leaves a part unknown makes the sum unknown."""
    total = 0.0
    for (at_s, pool), (next_at_s, _) in pairwise(samples):
        if pool.ready is None or pool.starting is None or pool.draining is None or pool.gpus_per_replica is None:
            return None
        total += (pool.ready + pool.starting + pool.draining) * pool.gpus_per_replica * (next_at_s - at_s)
    return total if len(samples) > 1 else None


def _used_gpu_s(record: RequestRecord, price: Price | None) -> float | None:
    if price is None or record.used_input_tokens is None:
        return None
    return price.used(
        input_tokens=record.used_input_tokens,
        cached_tokens=record.used_cached_tokens or 0,
        output_tokens=record.used_output_tokens or 0,
    ).gpu_s


def _client(records: Sequence[RequestRecord], counts: SenderCounts) -> Client:
    lateness = percentiles(record.lateness_s for record in records)
    return Client(
        lateness_s=lateness,
        waited_for_connection=counts.waited_for_connection,
        peak_open=counts.peak_open,
        bottleneck=counts.waited_for_connection > 0 or (lateness is not None and lateness.p99 > LATE_S),
    )


def _fleet_point(at_s: float, pool: PoolSample) -> FleetPoint:
    return FleetPoint(
        at_s=at_s,
        ready=pool.ready,
        starting=pool.starting,
        draining=pool.draining,
        waiting=pool.waiting,
        waiting_gpu_s=pool.waiting_gpu_s,
        offered_load=pool.offered_load,
    )


def _counted(values: Iterable[str]) -> dict[str, int]:
    """Counts, most frequent first, ties by name."""
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))
