"""One of three tenants floods the pool with long prompts: what the other two notice of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from backlog.order import Order
from benchmarks.order.result import Cell, Experiment, Result, arrived, p95, ratio, ttft_met_ratio
from benchmarks.order.setup import Job, PoolSetup, TenantRules
from benchmarks.order.workloads import arrivals
from benchmarks.order.world import Served, run

QUIET_S = 60.0
FLOOD_S = 120.0
FLOODER = "t2"
LOADS = {"t0": 0.25, "t1": 0.15}
"""Chat that the neighbours offer all the time, in parts of the pool: below a third, which is each one's fair share."""
NEIGHBOURS = tuple(LOADS)
CALM_LOAD = 0.10
BUSY_LOAD = 0.45
"""Long prompts that the flooder offers outside the flood."""
FLOOD_LOAD = 2.0
"""What the flooder offers on top while it floods."""
PACES = (0.125, 0.25, 0.5)
"""Prefill seconds per second that the flooder may start, in parts of the pool."""
GOAL_RATIO = 1.2


@dataclass(frozen=True, slots=True, kw_only=True)
class FloodCase:
    """One line of the table. `pace` and `load` are the flooder's."""

    order: Order
    pace: float | None = None
    load: float = CALM_LOAD
    max_wait_s: float | None = None
    overdue_first: bool = False


CASES = (
    *(FloodCase(order=order) for order in (Order.FCFS, Order.SHORTEST, Order.FAIR)),
    *(FloodCase(order=Order.FAIR, pace=pace) for pace in PACES),
    *(FloodCase(order=order, load=BUSY_LOAD) for order in (Order.FCFS, Order.FAIR)),
    FloodCase(order=Order.FAIR, load=BUSY_LOAD, pace=PACES[1]),
)


def flood(at: Experiment) -> Result:
    """Every order, and paces for the flooder."""
    return Result(
        name="flood",
        title=f"chat of t0 ({LOADS['t0']:.0%} of the pool) and t1 ({LOADS['t1']:.0%}) while t2 floods with "
        f"long prompts ({FLOOD_LOAD:.0%}) for {FLOOD_S * at.scale:g} s",
        rows=tuple(_row(at, case) for case in CASES),
        notes=(
            "requests that arrive during the flood; calm: the same requests and rules without the flood",
            "t2: its load outside the flood, and its prefill pace, in parts of the pool",
            f"wait: p95, s; TTFT: p95, s; x: TTFT over calm TTFT, goal {GOAL_RATIO:g}; ok: TTFT met; TPOT: p95, ms",
            "t2 GPU-s: received during the flood",
        ),
    )


def _row(at: Experiment, case: FloodCase) -> dict[str, Cell]:
    setup, calm_jobs = setup_of(at, case), calm(at, case)
    before = run(setup, calm_jobs, only=NEIGHBOURS)
    after = run(setup, calm_jobs + flooding(at), only=NEIGHBOURS)
    row: dict[str, Cell] = {"order": case.order.value, "t2": f"{case.load:g}", "pace": case.pace}
    for tenant in NEIGHBOURS:
        calm_ones, flooded = _during(at, before, (tenant,)), _during(at, after, (tenant,))
        calm_ttft_s, ttft_s = p95(one.ttft_s for one in calm_ones), p95(one.ttft_s for one in flooded)
        row |= {
            f"{tenant} calm wait": p95(one.wait_s for one in calm_ones),
            f"{tenant} wait": p95(one.wait_s for one in flooded),
            f"{tenant} calm TTFT": calm_ttft_s,
            f"{tenant} TTFT": ttft_s,
            f"{tenant} x": ratio(ttft_s, calm_ttft_s),
            f"{tenant} ok": ttft_met_ratio(flooded),
        }
    row["calm TPOT"] = _tpot_ms(_during(at, before, NEIGHBOURS))
    row["TPOT"] = _tpot_ms(_during(at, after, NEIGHBOURS))
    row["t2 GPU-s"] = sum(one.received_gpu_s(*window_of(at)) for one in after if one.job.tenant == FLOODER)
    return row


def calm(at: Experiment, case: FloodCase) -> list[Job]:
    """What all three send without the flood, until some time after it."""
    jobs: list[Job] = []
    sources = {"t0": at.sources.chat, "t1": at.sources.chat, FLOODER: at.sources.long}
    for index, (tenant, load) in enumerate((*LOADS.items(), (FLOODER, case.load))):
        jobs += arrivals(
            sources[tenant],
            tenant,
            at.hardware.price,
            gpu_s_per_s=load * at.replicas,
            from_s=0.0,
            to_s=window_of(at)[1] + 10.0,
            skip=index * 5000,
        )
    return jobs


def flooding(at: Experiment) -> list[Job]:
    """What the flooder adds."""
    from_s, to_s = window_of(at)
    offered, price = FLOOD_LOAD * at.replicas, at.hardware.price
    return arrivals(at.sources.long, FLOODER, price, gpu_s_per_s=offered, from_s=from_s, to_s=to_s, skip=2000)


def setup_of(at: Experiment, case: FloodCase) -> PoolSetup:
    pace = None if case.pace is None else case.pace * at.replicas
    return PoolSetup(
        hardware=at.hardware,
        replicas=at.replicas,
        order=case.order,
        tenants={FLOODER: TenantRules(prefill_pace=pace)},
        max_wait_s=case.max_wait_s,
        overdue_first=case.overdue_first,
    )


def window_of(at: Experiment) -> tuple[float, float]:
    """When the flood begins and ends."""
    return QUIET_S * at.scale, (QUIET_S + FLOOD_S) * at.scale


def _during(at: Experiment, served: Sequence[Served], tenants: Sequence[str]) -> list[Served]:
    return arrived(served, tenants, *window_of(at))


def _tpot_ms(served: Sequence[Served]) -> float | None:
    value = p95(one.tpot_s for one in served if one.job.output_tokens > 1)
    return None if value is None else 1000 * value
