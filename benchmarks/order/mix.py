"""Short requests behind 100k-token prompts: chat and long contexts share a busy pool."""

from collections.abc import Sequence

from backlog.order import Order
from benchmarks.order.result import Cell, Experiment, Result, quantile, ratio
from benchmarks.order.setup import PoolSetup
from benchmarks.order.workloads import SHORT_TOKENS, arrivals
from benchmarks.order.world import Served, run

LOADS = (0.8, 0.9, 1.0)
CHAT_PART = 0.4
"""Of the offered GPU-seconds; in requests it is nine in ten."""
SPAN_S = 240.0
QUANTILES = (0.5, 0.95, 0.99)


def mix(at: Experiment) -> Result:
    """TTFT of short and of long requests by order and load."""
    rows: list[dict[str, Cell]] = []
    for load in LOADS:
        reference: list[float | None] = []
        for order in (Order.FCFS, Order.SHORTEST, Order.FAIR):
            served = _serve(at, load, order)
            short = [one for one in served if one.job.input_tokens <= SHORT_TOKENS]
            long = [one for one in served if one.job.input_tokens > SHORT_TOKENS]
            shorts, longs = _ttfts(short), _ttfts(long)
            reference = reference or [shorts[1], longs[1]]
            rows.append(
                {
                    "load": f"{load:g}",
                    "order": order.value,
                    **dict(zip(("short p50", "p95", "p99"), shorts, strict=True)),
                    "p95 x fcfs": ratio(shorts[1], reference[0]),
                    **dict(zip(("long p50", "p95 ", "p99 "), longs, strict=True)),
                    "p95 x fcfs ": ratio(longs[1], reference[1]),
                    "TPOT p95, ms": _tpot_ms(served),
                }
            )
    return Result(
        name="mix",
        title=f"TTFT in s; short: at most {SHORT_TOKENS} input tokens; {CHAT_PART:.0%} of the work is chat",
        rows=tuple(rows),
        notes=("load: offered GPU-seconds per second and replica; fair: chat and long contexts are two tenants",),
    )


def _serve(at: Experiment, load: float, order: Order) -> list[Served]:
    price, span_s = at.hardware.price, SPAN_S * at.scale
    jobs = []
    for tenant, source, part in (("chat", at.sources.chat, CHAT_PART), ("long", at.sources.long, 1 - CHAT_PART)):
        offered = load * at.replicas * part
        jobs += arrivals(source, tenant, price, gpu_s_per_s=offered, from_s=0.0, to_s=span_s, skip=1000)
    return run(PoolSetup(hardware=at.hardware, replicas=at.replicas, order=order), jobs)


def _ttfts(served: Sequence[Served]) -> list[float | None]:
    return [quantile((one.ttft_s for one in served), q) for q in QUANTILES]


def _tpot_ms(served: Sequence[Served]) -> float | None:
    value = quantile([one.tpot_s for one in served if one.tpot_s is not None], 0.95)
    return None if value is None else 1000 * value
