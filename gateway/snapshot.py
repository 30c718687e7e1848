"""What one worker shows of itself: plain values that travel from a worker to its supervisor as JSON."""

import msgspec

from gateway.context import Context
from gateway.overflow import Overflow
from gateway.pool import Pool
from gateway.stats import Histogram


class HistogramState(msgspec.Struct, frozen=True):
    """As in `stats.Histogram`: one count per edge and one for the rest."""

    edges: list[float]
    counts: list[int]
    sum: float


class ReplicaState(msgspec.Struct, frozen=True):
    """A replica as this worker sees it; the work is the sum over all gateway workers."""

    name: str
    url: str
    state: str
    answering: bool
    in_flight: int
    prefill_s: float
    kv_tokens: int
    remaining_gpu_s: float
    gpu: str | None
    """`None` where nobody said."""
    gpu_ratio: float
    """Seconds that its GPU takes for one second of the pool's price."""
    calibration: float
    """Seconds that it takes for one second of its GPU, as learned."""
    calibration_periods: int
    """Well-filled periods that it was learned from."""
    calibration_drift: str | None


class PriceOrigin(msgspec.Struct, frozen=True):
    """Where the prices of a pool are from. `fit` is empty for analytic ones."""

    source: str
    fit: str
    engine: str


class SpillState(msgspec.Struct, frozen=True):
    """What one worker has had a pool's hosted model answer. Counters only grow while the worker lives."""

    model: str
    in_flight: int
    answering: bool
    money: float
    money_left: float | None
    """Of the day's cap, as far as this worker may spend it before it hears again; `None`: unknown."""
    input_per_mtok: float | None
    output_per_mtok: float | None
    failures: int
    spilled: dict[str, int]
    stayed: dict[str, int]


class PoolState(msgspec.Struct, frozen=True):
    """One pool in one worker. Counters only grow while the worker lives."""

    price: PriceOrigin
    outcomes: list[tuple[str, str, int]]
    used_gpu_s: list[tuple[str, str, float]]
    histograms: dict[str, HistogramState]
    input_tokens: int
    output_tokens: int
    retries: int
    dispatches: dict[str, int]
    out_of_order: int
    over_dispatches: int
    predicted_gpu_s: float
    waits_unknown: int
    waiting: int
    waiting_gpu_s: float
    oldest_waiting_age_s: float | None
    wait_estimate_s: float
    replicas: list[ReplicaState]
    spill: SpillState | None = None


class WorkerState(msgspec.Struct, frozen=True):
    """`backlog_age_s` is the age of the last exchange with Redis; `None` before the first."""

    worker: str
    number: int
    draining: bool
    connections: int
    backlog_age_s: float | None
    backlog_error: str | None
    refusals: dict[str, int]
    pools: dict[str, PoolState]


HISTOGRAMS = ("duration_s", "ttft_s", "tpot_s", "queue_wait_s", "estimate_ratio", "wait_error_ratio")


def pool_state(pool: Pool, now_s: float, overflow: Overflow | None = None) -> PoolState:
    """A copy of everything that a pool counts."""
    stats = pool.stats
    oldest_at_s = pool.room.oldest_at_s()
    return PoolState(
        price=PriceOrigin(source=pool.price.source.value, fit=pool.price.fit, engine=pool.settings.engine.value),
        outcomes=[(model, outcome, count) for (model, outcome), count in stats.outcomes.items()],
        used_gpu_s=[(tenant, kind, gpu_s) for (tenant, kind), gpu_s in stats.used_s.items()],
        histograms={name: _histogram(getattr(stats, name)) for name in HISTOGRAMS},
        input_tokens=stats.input_tokens,
        output_tokens=stats.output_tokens,
        retries=stats.retries,
        dispatches=dict(stats.dispatches),
        out_of_order=stats.out_of_order,
        over_dispatches=stats.over_dispatches,
        predicted_gpu_s=stats.predicted_gpu_s,
        waits_unknown=stats.waits_unknown,
        waiting=pool.room.count,
        waiting_gpu_s=max(pool.room.gpu_s, 0.0),
        oldest_waiting_age_s=None if oldest_at_s is None else now_s - oldest_at_s,
        wait_estimate_s=pool.wait_s(now_s),
        replicas=[
            ReplicaState(
                name=name,
                url=replica.url,
                state=replica.state.value,
                answering=replica.usable(now_s),
                in_flight=replica.ledger.load.in_flight,
                prefill_s=max(replica.ledger.load.prefill_s, 0.0),
                kv_tokens=replica.ledger.load.kv_tokens,
                remaining_gpu_s=max(replica.ledger.load.remaining_gpu_s, 0.0),
                gpu=replica.gpu,
                gpu_ratio=replica.gpu_ratio,
                calibration=scalar.ratio,
                calibration_periods=scalar.periods,
                calibration_drift=pool.fleet.calibration.drifts.get(name),
            )
            for name, replica in pool.replicas.items()
            for scalar in (pool.fleet.calibration.scalar_of(name),)
        ],
        spill=None if overflow is None else _spill_state(overflow, now_s),
    )


def _spill_state(overflow: Overflow, now_s: float) -> SpillState:
    price = overflow.price
    return SpillState(
        model=overflow.settings.model,
        in_flight=overflow.in_flight,
        answering=overflow.provider.usable(now_s),
        money=overflow.money,
        money_left=overflow.money_left(now_s),
        input_per_mtok=None if price is None else price.input_per_mtok,
        output_per_mtok=None if price is None else price.output_per_mtok,
        failures=overflow.failures,
        spilled=dict(overflow.spilled),
        stayed=dict(overflow.stayed),
    )


def worker_state(
    context: Context, *, worker: str, number: int, backlog_age_s: float | None, backlog_error: str | None
) -> WorkerState:
    """A copy of everything that a worker counts."""
    now_s = context.clock()
    return WorkerState(
        worker=worker,
        number=number,
        draining=context.draining,
        connections=len(context.connections),
        backlog_age_s=backlog_age_s,
        backlog_error=backlog_error,
        refusals=dict(context.refusals),
        pools={
            pool.settings.name: pool_state(pool, now_s, context.overflows.get(pool.settings.name))
            for pool in context.pools
        },
    )


def _histogram(histogram: Histogram) -> HistogramState:
    return HistogramState(edges=list(histogram.edges), counts=list(histogram.counts), sum=histogram.sum)
