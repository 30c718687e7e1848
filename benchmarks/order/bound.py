"""A ticket past its maximum wait: first of all, or head of its tenant. In the flood of `benchmarks.order.flood`."""

from backlog.order import Order
from benchmarks.order.flood import FLOODER, NEIGHBOURS, FloodCase, calm, flooding, setup_of, window_of
from benchmarks.order.result import Cell, Experiment, Result, arrived, p95, quantile, ttft_met_ratio
from benchmarks.order.world import run

BOUNDS_S = (15.0, 60.0)


def bound(at: Experiment) -> Result:
    """Both readings at two bounds, and no bound at all."""
    cases = [("none", FloodCase(order=Order.FAIR))]
    for bound_s in (bound_s * at.scale for bound_s in BOUNDS_S):
        for first, label in ((False, "head of its tenant"), (True, "first of all")):
            case = FloodCase(order=Order.FAIR, max_wait_s=bound_s, overdue_first=first)
            cases.append((f"{bound_s:g} s, {label}", case))
    return Result(
        name="bound",
        title="what a ticket past its wait bound overtakes, while t2 floods: p95 wait in s, TTFT met",
        rows=tuple(_row(at, label, case) for label, case in cases),
        notes=("requests that arrive during the flood; all are served to their end",),
    )


def _row(at: Experiment, label: str, case: FloodCase) -> dict[str, Cell]:
    served = run(setup_of(at, case), calm(at, case) + flooding(at))
    row: dict[str, Cell] = {"bound": label}
    for tenant in NEIGHBOURS:
        during = arrived(served, [tenant], *window_of(at))
        row |= {f"{tenant} wait": p95(one.wait_s for one in during), f"{tenant} ok": ttft_met_ratio(during)}
    during = arrived(served, [FLOODER], *window_of(at))
    row["t2 wait"] = p95(one.wait_s for one in during)
    row["t2 longest"] = quantile((one.wait_s for one in during), 1.0)
    return row
