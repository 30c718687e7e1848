"""One of two equal tenants is priced ten times wrongly: what both receive, with and without corrections."""

import random

from backlog.order import Order
from benchmarks.order.result import Cell, Experiment, Result, ratio
from benchmarks.order.setup import PoolSetup, TenantRules
from benchmarks.order.workloads import arrivals, drawn
from benchmarks.order.world import run

WINDOWS_S = ((60.0, 180.0), (180.0, 300.0))
REPLICAS = 4
RATIOS = (0.1, 1.0, 10.0)


def prices(at: Experiment) -> Result:
    """Both tenants send chat and are backlogged; only the price of one's tickets differs."""
    return Result(
        name="prices",
        title=f"two backlogged tenants of equal weight, one priced wrongly, {REPLICAS} replicas: GPU-seconds received",
        rows=tuple(_row(at, price_ratio, on) for price_ratio in RATIOS for on in (True, False)),
        notes=(
            "corrections: when a request ends, its tenant is charged the difference to what was used",
            "ratio: wrongly over rightly priced; 1 is fair",
        ),
    )


def _row(at: Experiment, price_ratio: float, corrections: bool) -> dict[str, Cell]:
    windows = [(from_s * at.scale, to_s * at.scale) for from_s, to_s in WINDOWS_S]
    end_s, offered, price = windows[-1][1], 1.2 * REPLICAS, at.hardware.price
    source = drawn(at.sources.chat, random.Random(0))
    jobs = []
    for tenant, skip in (("wrong", 0), ("right", 9000)):
        jobs += arrivals(source, tenant, price, gpu_s_per_s=offered, from_s=0.0, to_s=end_s, skip=skip)
    setup = PoolSetup(
        hardware=at.hardware,
        replicas=REPLICAS,
        order=Order.FAIR,
        tenants={"wrong": TenantRules(price_ratio=price_ratio)},
        corrections=corrections,
    )
    served = run(setup, jobs, until_s=end_s + 30.0 * at.scale)
    row: dict[str, Cell] = {"price": f"{price_ratio:g} x", "corrections": "on" if corrections else "off"}
    for from_s, to_s in windows:
        given = dict.fromkeys(("wrong", "right"), 0.0)
        for one in served:
            given[one.job.tenant] += one.received_gpu_s(from_s, to_s)
        span = f"{from_s:g}-{to_s:g} s"
        row |= {f"wrong {span}": given["wrong"], f"right {span}": given["right"]}
        row[f"ratio {span}"] = ratio(given["wrong"], given["right"])
    return row
