"""What one worker knows of how fast a pool's replicas are, against their price. Pure.

Every worker measures busy time from the ledger, which has all workers' requests. What was computed is only known to
the worker that relayed it, so these parts come from the reports. The worker that has run longest learns from the sum;
the others take what it has learned from Redis (decision 0013). What is learned is relative to what a replica's GPU is
known to take (decision 0016).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from backlog.records import CalibrationRecord, PoolView, ReplicaName, ScalarRecord, WorkerId
from estimator.calibrate import (
    Drift,
    LearnRule,
    Period,
    Scalar,
    checked,
    drift_of,
    learn,
    mixed_ratio,
    newcomer,
    pool_ratio,
)
from estimator.price import Price, Weight
from gateway.pick import Load

SAMPLE_S = 1.0
"""How often what is still running is looked at, token by token."""
MOST_KEPT = 256
"""Replicas that are remembered; the ones of them that are gone are forgotten first."""


class Meter:
    """Grows while a worker knows a replica."""

    __slots__ = ("at_s", "attributed_s", "busy_s", "sequence_s", "settled_s")

    def __init__(self) -> None:
        self.at_s: float | None = None
        self.busy_s = 0.0
        """Time with at least one request in flight, over all workers."""
        self.sequence_s = 0.0
        """The sum of requests in flight over that time."""
        self.settled_s = 0.0
        """Shares of this worker's requests that have ended, as they were used."""
        self.attributed_s = 0.0
        """The same with those in flight, as far as they had come when last looked at."""

    def pass_time(self, load: Load, now_s: float) -> None:
        """Since the last call, `load` was in flight."""
        if self.at_s is not None and load.in_flight > 0:
            elapsed_s = now_s - self.at_s
            self.busy_s += elapsed_s
            self.sequence_s += elapsed_s * load.in_flight
        self.at_s = now_s


class Metered(Protocol):
    """What `Calibration` sees of a replica."""

    @property
    def name(self) -> str:
        """As in the replica list."""

    @property
    def gpu_ratio(self) -> float:
        """Seconds that its GPU takes for one second of the pool's price."""

    @property
    def meter(self) -> Meter:
        """What it has done."""

    @property
    def load(self) -> Load:
        """Where its scalar is applied."""

    def running_s(self) -> Iterator[float]:
        """Of each request that this worker has in flight there: shares of what was computed so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """Readings of one replica at the end of a period."""

    busy_s: float
    sequence_s: float
    attributed_s: Mapping[WorkerId, float]


class Calibration:
    """The event loop is its lock: no method awaits."""

    def __init__(self, *, worker: WorkerId, price: Price, planning_batch: int) -> None:
        self.price = _fingerprint(price)
        self.scalars: dict[str, Scalar] = {}
        self.ratio = 1.0
        """The pool's: weights are multiplied by it."""
        self.mixed = 1.0
        """The part of `ratio` that is the GPUs': for a pool of its own GPU alone, 1."""
        self.drifts: dict[str, Drift] = {}
        """The replicas that are not what they are priced as, and how."""
        self.loaded = False
        """What Redis remembers is known."""
        self._worker = worker
        self._rule = LearnRule(planning_batch=planning_batch)
        self._marks: dict[str, _Mark] = {}
        self._others: dict[WorkerId, Mapping[ReplicaName, float]] = {}
        self._first = True
        self._sampled_at_s: float | None = None

    # Measuring

    def tick(self, replicas: Mapping[str, Metered], now_s: float) -> None:
        """Let time pass on every replica; now and then look at what runs."""
        for replica in replicas.values():
            replica.meter.pass_time(replica.load, now_s)
        if self._sampled_at_s is None or now_s - self._sampled_at_s >= SAMPLE_S:
            self._sampled_at_s = now_s
            self._look(replicas)

    def _look(self, replicas: Mapping[str, Metered]) -> None:
        for replica in replicas.values():
            replica.meter.attributed_s = replica.meter.settled_s + sum(replica.running_s())

    def attributed_s(self, replicas: Mapping[str, Metered]) -> dict[ReplicaName, float]:
        """This worker's part, for its report."""
        return {
            ReplicaName(name): replica.meter.attributed_s
            for name, replica in replicas.items()
            if replica.meter.attributed_s
        }

    def hear(self, view: PoolView) -> None:
        """The other workers' parts, and whether this one has run longest."""
        others = [seen.report for seen in view.reports if seen.report.worker != self._worker]
        mine = [seen.report for seen in view.reports if seen.report.worker == self._worker]
        self._others = {report.worker: report.attributed_s for report in others}
        self._first = all((one.started_at_s, one.worker) < (r.started_at_s, r.worker) for one in mine for r in others)

    # Learning

    def leads(self, *, connected: bool) -> bool:
        """Whether this worker learns for the pool. Without Redis only one that is alone knows what was computed."""
        return self._first and (connected or not self._others)

    def learn(self, replicas: Mapping[str, Metered]) -> bool:
        """End a period of each replica and learn from it; whether any taught."""
        self._look(replicas)
        taught = False
        marks = {}
        for name, replica in replicas.items():
            mark = self._mark(replica)
            before = self._marks.get(name)
            marks[name] = mark
            period = None if before is None else _period(before, mark, replica.gpu_ratio)
            if period is None:
                continue
            known = self.scalar_of(name)
            after = learn(known, period, self._rule)
            if after is not known:
                # At the end: the ones that learned last are forgotten last.
                self.scalars.pop(name, None)
                self.scalars[name] = after
                taught = True
        self._marks = marks
        self.apply(replicas)
        return taught

    def _mark(self, replica: Metered) -> _Mark:
        meter, name = replica.meter, ReplicaName(replica.name)
        attributed_s = {worker: parts.get(name, 0.0) for worker, parts in self._others.items()}
        attributed_s[self._worker] = meter.attributed_s
        return _Mark(busy_s=meter.busy_s, sequence_s=meter.sequence_s, attributed_s=attributed_s)

    def scalar_of(self, name: str) -> Scalar:
        """What a replica has shown, relative to its GPU; of one that has shown nothing, what the pool has."""
        found = self.scalars.get(name)
        return newcomer(self.scalars.values()) if found is None else found

    def apply(self, replicas: Mapping[str, Metered]) -> None:
        """Multiply by what is known from now on. What is in flight keeps the weight with which it was sent."""
        surplus = len(self.scalars) - MOST_KEPT
        for name in [name for name in self.scalars if name not in replicas][: max(surplus, 0)]:
            del self.scalars[name]
        here = [self.scalars[name] for name in replicas if name in self.scalars]
        shown = pool_ratio(here or self.scalars.values())
        self.mixed = mixed = mixed_ratio([replica.gpu_ratio for replica in replicas.values()])
        self.ratio = shown * mixed
        for name, replica in replicas.items():
            ratio = self.scalar_of(name).ratio
            replica.load.ratio = ratio * replica.gpu_ratio
            replica.load.scale = ratio / shown * (replica.gpu_ratio / mixed)
        found = {name: drift_of(self.scalar_of(name), self.drifts.get(name)) for name in replicas}
        self.drifts = {name: drift for name, drift in found.items() if drift is not None}

    # What is stored

    def record(self) -> CalibrationRecord:
        """Everything that has been learned."""
        return CalibrationRecord(
            price=self.price,
            replicas={
                ReplicaName(name): ScalarRecord(
                    log_ratio=scalar.log_ratio, quick_log_ratio=scalar.quick_log_ratio, periods=scalar.periods
                )
                for name, scalar in self.scalars.items()
            },
        )

    def adopt(self, record: CalibrationRecord | None, replicas: Mapping[str, Metered]) -> None:
        """Take over what was stored, `None`: nothing. Own lessons from before the first load stay where there are more.

        Raises ValueError for a record of another price, or with numbers that cannot be.
        """
        mine = {} if self.loaded else self.scalars
        self.loaded = True
        if record is None:
            return
        if record.price != self.price:
            raise ValueError("it was learned against another price")
        stored = {
            str(name): checked(
                Scalar(log_ratio=one.log_ratio, quick_log_ratio=one.quick_log_ratio, periods=one.periods)
            )
            for name, one in record.replicas.items()
        }
        more = {name: one for name, one in mine.items() if name not in stored or one.periods > stored[name].periods}
        self.scalars = {**stored, **more}
        self.apply(replicas)


def scaled(weight: Weight, ratio: float) -> Weight:
    """A weight of a pool whose replicas take `ratio` seconds for one second of its price."""
    return Weight(
        weight.prefill_s * ratio,
        weight.decode_s * ratio,
        weight.decode_kv_s * ratio,
        *weight[3:8],
        weight.gpu_s * ratio,
        weight.source,
    )


def _period(before: _Mark, after: _Mark, gpu_ratio: float) -> Period | None:
    """In the seconds of the replica's GPU.

    `None` where a worker came or went between, or was counted anew: what it attributed is not known.
    """
    if before.attributed_s.keys() != after.attributed_s.keys() or after.busy_s < before.busy_s:
        return None
    parts_s = [after.attributed_s[worker] - before.attributed_s[worker] for worker in after.attributed_s]
    if min(parts_s) < 0.0:
        return None
    busy_s = after.busy_s - before.busy_s
    sequences = (after.sequence_s - before.sequence_s) / busy_s if busy_s > 0.0 else 0.0
    return Period(busy_s=busy_s, attributed_s=sum(parts_s) * gpu_ratio, sequences=sequences)


def _fingerprint(price: Price) -> str:
    """Prices that agree on these three numbers are one price for what is learned against it."""
    numbers = (
        price.prefill_s(input_tokens=1024),
        price.prefill_s(input_tokens=16384),
        price.decode_s(input_tokens=1024, output_tokens=256),
    )
    return " ".join(f"{number:.4g}" for number in numbers)
