"""How long a request that arrives now will wait: the work that goes before it, and how fast replicas drain it.

`ahead_gpu_s` counts work, `wait_s` turns it into time, `estimate` does not let a request go before a replica has room,
`DrainRate` learns by how much the time was wrong, and `record_wait` keeps the error in the statistics. An estimate
knows nothing of what arrives later and goes first, nor of replicas that are added or removed later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log

from backlog.order import LEAD_S, Order
from backlog.records import QueueView, ReplicaRecord, ReplicaState
from gateway.stats import PoolStats

MEASURABLE_S = 0.1
"""Shorter waits, estimated or actual, count as this long: how regular the ticks are is not of interest."""
LATE_RATIO = 0.1
"""A replica that should be ready by now is expected in this part of a cold start."""
SOONEST_S = 1.0
"""No replica that is starting is expected sooner."""


def ahead_gpu_s(
    queue: QueueView,
    *,
    order: Order,
    tenant: str,
    tenant_weight: float,
    weights: Mapping[str, float],
    priority: int,
    finish_v: float | None = None,
) -> float:
    """GPU-seconds that are dispatched before a ticket which arrives now. Tenants not in `weights` weigh 1.

    Higher bands go first and lower ones last in every order. In `fcfs` and `shortest` all of the ticket's own band
    goes before it; a short ticket does better than that in `shortest`.

    In `fair` (`backlog.order`; V and F are the band's virtual time and a tenant's finish tag there) everything that
    waits of the ticket's own tenant i goes first, A GPU-seconds, so that the ticket starts at `S = F_i + A / w_i`.
    Another tenant j goes before it until F_j has reached S: it is given `(S - F_j) * w_j` by then, or all that it has.
    Its tickets are not cut. The last one passes S by half of itself in the mean, and a tenant that has a turn at all is
    given one ticket.

    Worked example, all F = 0: a (weight 1) has 6 tickets of 1 GPU-second, b (weight 3) has 30. Another ticket of a
    starts at S = 6. Before it go 6 of a, and 6 * 3 = 18 and half a ticket of b: 24.5 GPU-seconds, of 36 that wait.
    (The queue takes 24.)

    `finish_v` is where the tenant stands if none of its tickets waits in the band (`Band.finish_of`). When unknown, V
    stands for it, which is right unless the tenant was given more than others of late. What is past its wait bound
    counts in its own band.
    """
    band = [line for line in queue.lines if line.priority == priority and line.gpu_s > 0.0]
    higher_gpu_s = sum(line.gpu_s for line in queue.lines if line.priority > priority and line.gpu_s > 0.0)
    band_gpu_s = sum(line.gpu_s for line in band)
    if order is not Order.FAIR or not band:
        return higher_gpu_s + band_gpu_s
    now_v = queue.now_v[priority]
    own_gpu_s, start_v = 0.0, now_v if finish_v is None else finish_v
    for line in band:
        if line.tenant == tenant:
            own_gpu_s, start_v = line.gpu_s, max(line.finish_v, now_v - LEAD_S) + line.gpu_s / tenant_weight
    others_gpu_s = 0.0
    for line in band:
        # What a tenant is owed is bounded.
        other_v = max(line.finish_v, now_v - LEAD_S)
        if line.tenant != tenant and (other_v, line.tenant) < (start_v, tenant):
            given_gpu_s = (start_v - other_v) * weights.get(line.tenant, 1.0)
            ticket_gpu_s = line.gpu_s / max(line.tickets, 1)
            others_gpu_s += min(line.gpu_s, max(ticket_gpu_s, given_gpu_s + ticket_gpu_s / 2.0))
    return higher_gpu_s + min(own_gpu_s + others_gpu_s, band_gpu_s)


def pending_ready_in_s(records: Sequence[ReplicaRecord], cold_start_s: float, now_at_s: float) -> list[float]:
    """When each starting replica will be ready, in seconds from now. `now_at_s` is on the clock of `created_at_s`.

    One that is late may be ready at any moment or never: it is expected soon, and its lateness is not added up.
    """
    soonest_s = max(LATE_RATIO * cold_start_s, SOONEST_S)
    return [
        max(cold_start_s - max(now_at_s - record.created_at_s, 0.0), soonest_s)
        for record in records
        if record.state is ReplicaState.STARTING
    ]


def wait_s(
    ahead_gpu_s: float, *, gpus: int, ready: int, pending_ready_in_s: Sequence[float], rate: float = 1.0
) -> float | None:
    """Seconds until the work ahead has been drained and a replica is ready; `None` without one ready or starting.

    A replica drains `gpus * rate` GPU-seconds per second from the moment it is ready. For example 30 GPU-seconds, one
    replica of one GPU, another ready in 10 s: 10 are drained by then, the other 20 take both of them 10 s, 20 s in all.
    """
    if not (ready or pending_ready_in_s):
        return None
    at_s, serving, left_gpu_s = 0.0, ready, ahead_gpu_s
    for ready_in_s in sorted(pending_ready_in_s):
        if serving:
            drained_gpu_s = (ready_in_s - at_s) * serving * gpus * rate
            if drained_gpu_s >= left_gpu_s:
                break
            left_gpu_s -= drained_gpu_s
        at_s, serving = ready_in_s, serving + 1
    return at_s + left_gpu_s / (serving * gpus * rate)


@dataclass(frozen=True, slots=True)
class WaitEstimate:
    """What a request was told when it arrived, and what is needed to learn from its wait."""

    wait_s: float
    rate: float
    """The drain rate that it was made with."""
    steady: bool
    """Work that waits was ahead and all replicas were ready: its error is that of the drain rate."""


def estimate(
    ahead_gpu_s: float,
    *,
    until_room_gpu_s: float | None,
    gpus: int,
    ready: int,
    pending_ready_in_s: Sequence[float],
    rate: float,
) -> WaitEstimate | None:
    """`wait_s`, but not less than until a replica has room, to be kept with the request until it leaves.

    `until_room_gpu_s` is what the first replica to have room does before that; without one that can be used (`None`) it
    is the first to be ready. When there is none of these either, nothing is known.
    """
    drained_s = wait_s(ahead_gpu_s, gpus=gpus, ready=ready, pending_ready_in_s=pending_ready_in_s, rate=rate)
    room_in_s = [*pending_ready_in_s]
    if until_room_gpu_s is not None:
        room_in_s.append(until_room_gpu_s / (gpus * rate))
    if drained_s is None or not room_in_s:
        return None
    room_s = min(room_in_s)
    return WaitEstimate(max(drained_s, room_s), rate, steady=not pending_ready_in_s and drained_s >= room_s)


class DrainRate:
    """GPU-seconds that a replica drains per second and GPU, as weighed: 1 if weights are right and batches are full.

    Each wait says that the rate was `rate * estimate / actual`. The logarithm moves a tenth of the way there, and by at
    most a tenth of ln 2: one odd wait changes the rate by 7 %, and after 30 waits it is within 10 % of a true 4 or 1/4.

    It does not return to 1 when nothing waits. What it corrects (weights that are wrong for this model, GPU and
    traffic) lasts longer than a pause, and 1 is no better guess for the next backlog than what the last one showed. If
    traffic changes in a pause, the first 30 waits after it correct the rate; until then its bounds limit the error.
    """

    SMOOTHING = 0.1
    LARGEST_STEP = log(2.0)
    LEAST, MOST = 0.25, 4.0

    __slots__ = ("_rate",)

    def __init__(self) -> None:
        self._rate = 1.0

    @property
    def rate(self) -> float:
        return self._rate

    def observe(self, estimate_s: float, actual_s: float, *, rate: float) -> None:
        """Learn from a wait whose estimate was made with `rate`, which may not be today's.

        A short estimate says nothing of the rate. A short wait after a long estimate does: choosing by the actual wait
        would learn from the late ones only.
        """
        if estimate_s < MEASURABLE_S:
            return
        shown = rate * estimate_s / max(actual_s, MEASURABLE_S)
        step = min(max(log(shown / self._rate), -self.LARGEST_STEP), self.LARGEST_STEP)
        self._rate = min(max(self._rate * exp(self.SMOOTHING * step), self.LEAST), self.MOST)


def record_wait(
    stats: PoolStats, drain: DrainRate, told: WaitEstimate | None, waited_s: float, *, dispatched: bool = True
) -> None:
    """A request leaves after a wait: count how wrong its estimate was, and learn.

    One that leaves undispatched would have waited longer. That is news only if it has waited longer than it was told;
    without it a pool that is so slow that everything is evicted would never learn.
    """
    if told is None:
        stats.waits_unknown += waited_s > MEASURABLE_S
        return
    if max(told.wait_s, waited_s) <= MEASURABLE_S or (not dispatched and waited_s <= told.wait_s):
        return
    stats.wait_error_ratio.observe(max(waited_s, MEASURABLE_S) / max(told.wait_s, MEASURABLE_S))
    if told.steady:
        drain.observe(told.wait_s, waited_s, rate=told.rate)
