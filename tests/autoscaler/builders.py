"""Short builders for the values that autoscaler tests are about, and a fleet that follows decisions on virtual time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from autoscaler.calibrator import Calibrator, SloCalibrator
from autoscaler.decide import Decision, DecisionState, decide
from autoscaler.observation import (
    NO_TREND,
    Fleet,
    Known,
    Observation,
    Override,
    Unknown,
    Work,
    observe,
    observe_outage,
)
from autoscaler.offered import History, advance
from autoscaler.settings import AutoscalerSettings
from backlog.records import (
    PoolName,
    PoolView,
    ReplicaName,
    ReplicaRecord,
    ReplicaShare,
    ReplicaState,
    SeenReport,
    WorkerId,
    WorkerReport,
)

POOL = PoolName("chat")
START_S = 1000.0


def settings(**changes: Any) -> AutoscalerSettings:
    values: dict[str, Any] = {"pool": POOL, "min_replicas": 1, "max_replicas": 10, "kv_capacity_tokens": 100_000}
    return AutoscalerSettings(**(values | changes))


def report(worker: str = "w1", *, started_at_s: float = START_S, **changes: Any) -> WorkerReport:
    return WorkerReport(worker=WorkerId(worker), started_at_s=started_at_s, **changes)


def share(**changes: Any) -> ReplicaShare:
    values: dict[str, Any] = {
        "in_flight": 1,
        "prefill_s": 0.0,
        "prefill_tokens": 0,
        "kv_tokens": 0,
        "remaining_gpu_s": 0.0,
    }
    return ReplicaShare(**(values | changes))


def running(**shares: ReplicaShare) -> Mapping[ReplicaName, ReplicaShare]:
    return {ReplicaName(name): value for name, value in shares.items()}


def view(
    *reports: WorkerReport,
    at_s: float = START_S,
    age_s: float = 0.0,
    ages_s: Mapping[str, float] | None = None,
    replicas: tuple[ReplicaRecord, ...] | None = None,
) -> PoolView:
    ages = ages_s or {}
    seen = tuple(SeenReport(report=report, age_s=ages.get(report.worker, age_s)) for report in reports)
    return PoolView(pool=POOL, read_at_s=at_s, reports=seen, replicas=replicas, decision=None)


def record(name: str, state: ReplicaState = ReplicaState.READY) -> ReplicaRecord:
    return ReplicaRecord(name=ReplicaName(name), url="http://127.0.0.1:1", state=state, created_at_s=START_S)


def fleet(desired: int, *, ready: int | None = None, **changes: Any) -> Fleet:
    values: dict[str, Any] = {"pending": 0, "draining": 0}
    return Fleet(desired=desired, ready=desired if ready is None else ready, **(values | changes))


def work(**changes: Any) -> Work:
    values: dict[str, Any] = {
        "waiting": 0,
        "waiting_gpu_s": 0.0,
        "backlog_s": 0.0,
        "in_flight": 0,
        "kv_tokens": 0,
        "partial": False,
    }
    return Work(**(values | changes))


def observation(
    desired: int = 1,
    *,
    load: float | None = 0.0,
    ready: int | None = None,
    unknown_for_s: float | None = None,
    last_arrival_at_s: float | None = None,
    earlier_load: float | None = None,
    unschedulable: int = 0,
    paused: str | None = None,
    override: Override | None = None,
    **changes: Any,
) -> Observation:
    """Known work made of `changes`, unless `unknown_for_s` says that it is unknown. `load=None` is an unknown load.

    `earlier_load` is that of 300 s ago.
    """
    unknown = Unknown(cause="no news", age_s=unknown_for_s or 0.0)
    return Observation(
        work=Known(value=work(**changes), age_s=0.0) if unknown_for_s is None else unknown,
        offered_load=unknown if load is None else Known(value=load, age_s=0.0),
        misses=unknown,
        last_arrival_at_s=last_arrival_at_s,
        fleet=fleet(desired, ready=ready, unschedulable=unschedulable, paused=paused, override=override),
        earlier_load=NO_TREND if earlier_load is None else Known(value=earlier_load, age_s=300.0),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What gateways show during one tick. `load` is in GPU-seconds per second."""

    load: float = 0.0
    waiting: int = 0
    waiting_prefill_s: float = 0.0
    in_flight: int = 0
    kv_tokens: int = 0
    miss_ratio: float = 0.0


class Timeline:
    """A pool on virtual time: one worker with a given demand, a fleet that follows decisions a cold start late."""

    def __init__(
        self,
        scaling: AutoscalerSettings,
        *,
        desired: int = 0,
        cold_start_s: float = 30.0,
        calibrator: Calibrator | None = None,
        start_s: float = START_S,
    ) -> None:
        self.start_s = start_s
        self.now_s = start_s
        self.settings = scaling
        self.desired = desired
        self.room: int | None = None
        """Replicas that fit; those beyond cannot be scheduled. `None`: there is room for all."""
        self.paused: str | None = None
        self.override: Override | None = None
        self.decisions: list[tuple[float, Decision]] = []
        self._cold_start_s = cold_start_s
        self._calibrator = calibrator or SloCalibrator(scaling)
        self._born_at_s = [start_s - cold_start_s] * desired
        self._history = History()
        self._state = DecisionState()
        self._worker = report(started_at_s=start_s)

    @property
    def last(self) -> Decision:
        return self.decisions[-1][1]

    @property
    def ready(self) -> int:
        placed = self._born_at_s[: self.room]
        return sum(1 for born_at_s in placed if self.now_s - born_at_s >= self._cold_start_s)

    def set_by_hand(self, replicas: int, by: str = "kubectl") -> None:
        """Somebody else changes the replicas."""
        self.override = Override(by=by, replicas=replicas, at_s=self.now_s)
        self._follow(replicas)

    def jump(self, seconds: float) -> None:
        """The clock is set, forth or back."""
        self.now_s += seconds

    def run(self, duration_s: float, demand: Demand | Callable[[float], Demand]) -> list[int]:
        """Let time pass with this demand, or function of seconds since the start; desired replicas per tick."""
        ticks = round(duration_s / self.settings.polling_s)
        desired = []
        for _ in range(ticks):
            self.now_s += self.settings.polling_s
            now = demand(self.now_s - self.start_s) if callable(demand) else demand
            self._work(now)
            self._tick(view(self._worker, at_s=self.now_s))
            desired.append(self.desired)
        return desired

    def run_outage(self, duration_s: float) -> list[int]:
        """Let time pass without a readable backlog."""
        desired = []
        for _ in range(round(duration_s / self.settings.polling_s)):
            self.now_s += self.settings.polling_s
            self._tick(None)
            desired.append(self.desired)
        return desired

    def _work(self, demand: Demand) -> None:
        tick_s = self.settings.polling_s
        arrived = 100 if demand.load > 0 else 0
        old = self._worker
        self._worker = report(
            started_at_s=self.start_s,
            waiting=demand.waiting,
            waiting_prefill_s=demand.waiting_prefill_s,
            arrived=old.arrived + arrived,
            arrived_gpu_s=old.arrived_gpu_s + demand.load * tick_s,
            settled=old.settled + arrived,
            ttft_misses=old.ttft_misses + round(arrived * demand.miss_ratio),
            running=running(r1=share(in_flight=demand.in_flight, kv_tokens=demand.kv_tokens)),
        )

    def _tick(self, seen: PoolView | None) -> None:
        known_at_s = self._state.last_known_at_s
        known_age_s = self.now_s - (self.start_s if known_at_s is None else known_at_s)
        now_fleet = Fleet(
            desired=self.desired,
            ready=self.ready,
            pending=self.desired - self.ready,
            draining=0,
            unschedulable=0 if self.room is None else max(0, self.desired - self.room),
            paused=self.paused,
            override=self.override,
        )
        if seen is None:
            observed = observe_outage("Redis is away", self._history, now_fleet, known_age_s=known_age_s)
        else:
            self._history = advance(self._history, seen, keep_s=self.settings.history_s, now_s=self.now_s)
            observed = observe(seen, self._history, now_fleet, self.settings, known_age_s=known_age_s, now_s=self.now_s)
        decision, self._state = decide(
            observed,
            self._state,
            self.settings,
            calibration=self._calibrator.calibrate(observed, self.now_s),
            now_s=self.now_s,
        )
        self.decisions.append((self.now_s, decision))
        self._follow(decision.desired)

    def _follow(self, desired: int) -> None:
        self.desired = desired
        while len(self._born_at_s) < desired:
            self._born_at_s.append(self.now_s)
        while len(self._born_at_s) > desired:
            self._born_at_s.pop()
