"""Two backlogged tenants with weights 1:3: the GPU-seconds that each is given."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from backlog.order import Order
from benchmarks.order.result import Cell, Experiment, Result, ratio
from benchmarks.order.setup import Job, PoolSetup, TenantRules
from benchmarks.order.workloads import arrivals, drawn
from benchmarks.order.world import run
from weighbridge.replay.trace import TracedRequest

WARM_UP_S = 120.0
"""In an overload a request stays in its replica for half a minute; until then corrections lag behind."""
WINDOW_S = 60.0
LONG_WINDOW_S = 240.0
WEIGHTS = {"one": 1.0, "three": 3.0}
OFFERED_RATIO = 1.2
"""What each tenant offers, in parts of the whole pool."""
REPLICAS = 4


@dataclass(frozen=True, slots=True)
class _Case:
    label: str
    one: Sequence[TracedRequest]
    three: Sequence[TracedRequest]
    known_lengths: bool = False


def weights(at: Experiment) -> Result:
    """Equal and unequal request sizes, with output lengths known and learned."""
    chat, long = at.sources.chat, at.sources.long
    even = drawn(chat, random.Random(0))
    cases = (
        _Case("chat, lengths known", even, even, True),
        _Case("chat", even, even),
        _Case("chat as recorded", chat, chat),
        _Case("1 chat, 3 long prompts", chat, long),
        _Case("1 long prompts, 3 chat", long, chat),
    )
    return Result(
        name="weights",
        title=f"two backlogged tenants with weights 1:3, {REPLICAS} replicas, after {WARM_UP_S * at.scale:g} s",
        rows=tuple(_row(at, case) for case in cases),
        notes=(
            "charged, received: GPU-seconds of 3 over those of 1, over 3, less 1; the goal in 60 s is within 0.05",
            "charged: prices at dispatch and corrections at the end; received: what ran, a prefill when it ends",
        ),
    )


def _row(at: Experiment, case: _Case) -> dict[str, Cell]:
    from_s = WARM_UP_S * at.scale
    end_s = from_s + LONG_WINDOW_S * at.scale
    setup = PoolSetup(
        hardware=at.hardware,
        replicas=REPLICAS,
        order=Order.FAIR,
        tenants={tenant: TenantRules(weight=weight) for tenant, weight in WEIGHTS.items()},
        known_lengths=case.known_lengths,
    )
    jobs = _jobs(at, case.one, "one", end_s, 0) + _jobs(at, case.three, "three", end_s, 3000)
    # How decode spreads over the window is known when its request has ended.
    served = run(setup, jobs, until_s=end_s + WINDOW_S * at.scale)
    row: dict[str, Cell] = {"requests": case.label}
    for span_s in (WINDOW_S * at.scale, LONG_WINDOW_S * at.scale):
        charged, received = dict.fromkeys(WEIGHTS, 0.0), dict.fromkeys(WEIGHTS, 0.0)
        for one in served:
            charged[one.job.tenant] += one.charged_gpu_s(from_s, from_s + span_s)
            received[one.job.tenant] += one.received_gpu_s(from_s, from_s + span_s)
        row |= {
            f"{span_s:g} s: 1 received": received["one"],
            f"{span_s:g} s: 3": received["three"],
            f"{span_s:g} s: charged": _error(charged),
            f"{span_s:g} s: received": _error(received),
        }
    return row


def _jobs(at: Experiment, source: Sequence[TracedRequest], tenant: str, to_s: float, skip: int) -> list[Job]:
    offered = OFFERED_RATIO * REPLICAS
    return arrivals(source, tenant, at.hardware.price, gpu_s_per_s=offered, from_s=0.0, to_s=to_s, skip=skip)


def _error(given: dict[str, float]) -> float | None:
    value = ratio(given["three"], given["one"])
    return None if value is None else value / 3 - 1
