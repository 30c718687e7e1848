"""A pool on virtual time: a gateway that picks by the real rule, and replicas that start, serve and drain. Pure.

One gateway worker with the ledger, the waiting room and the pick of `gateway`; one tenant. What a request weighs was
fixed when the workload was made. Nobody is turned away: a request waits as long as it takes, and is late then.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from heapq import heappop, heappush
from math import inf
from typing import NamedTuple

from autoscaler.observation import Fleet
from backlog.order import Order
from backlog.records import PoolName, PoolView, ReplicaName, SeenReport, TicketId, WorkerId, WorkerReport
from backlog.ticket import Ticket
from estimator.price import Weight
from gateway.ledger import Flight, ReplicaLedger
from gateway.pick import Load, PickRule, ahead_s, crowd_s, pick
from gateway.room import Seat, WaitingRoom
from simulator.request import EngineSettings, StepClock
from weighbridge.backtest.engine import Job, LeanEngine

POOL = PoolName("backtest")
WORKER = WorkerId("backtest")


class Arrival(NamedTuple):
    """A request as it arrives. A named tuple: there are hundreds of thousands."""

    at_s: float
    output_tokens: int
    ttft_limit_s: float
    weight: Weight


@dataclass(slots=True, eq=False, kw_only=True)
class Trip(Job):
    """One request's way through the gateway and a replica."""

    weight: Weight
    ttft_limit_s: float
    replica: "Replica | None" = None
    flight: Flight | None = None
    sent_at_s: float = inf


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolModel:
    """What does not change during a simulation."""

    pick: PickRule
    engine: EngineSettings
    steps: StepClock
    gpus: int = 1
    order: Order = Order.FAIR
    wait_bound_s: float = 15.0
    tpot_limit_s: float | None = None
    """`None`: TPOT counts as met."""
    cold_start_s: float = 60.0


class Phase(Enum):
    STARTING = auto()
    READY = auto()
    DRAINING = auto()


@dataclass(slots=True, eq=False)
class Replica:
    """One replica from its start to its end."""

    name: ReplicaName
    engine: LeanEngine
    ledger: ReplicaLedger
    created_at_s: float
    ready_at_s: float
    phase: Phase = Phase.STARTING
    slot: int = -1
    """Its place in `SimulatedPool.ends_at_s`; -1 while it starts."""


@dataclass(slots=True)
class Counts:
    """What only grows."""

    arrived: int = 0
    arrived_gpu_s: float = 0.0
    settled: int = 0
    ttft_misses: int = 0
    tpot_misses: int = 0
    changes: int = 0
    """Times that the desired replicas were changed."""
    replica_s: float = 0.0
    """Of replicas that are gone."""
    busy_s: float = 0.0
    preemptions: int = 0
    most_replicas: int = 0


@dataclass(slots=True)
class SimulatedPool:
    """`ended` is told each request that has its last token. The caller keeps time and never goes back in it."""

    model: PoolModel
    ended: Callable[[Trip], None]
    desired: int = 0
    counts: Counts = field(default_factory=Counts)
    ends_at_s: list[float] = field(default_factory=list)
    """When each replica's steps end."""
    _replicas: list[Replica] = field(default_factory=list)
    _slots: list[Replica] = field(default_factory=list)
    _loads: list[Load] = field(default_factory=list)
    _by_name: dict[str, Replica] = field(default_factory=dict)
    _room: WaitingRoom[Trip] = field(init=False)
    _overdue: list[tuple[float, int, Seat[Trip]]] = field(default_factory=list)
    _names: int = 0
    _tickets: int = 0

    def __post_init__(self) -> None:
        self._room = WaitingRoom(self.model.order)

    # What a rule may look at

    @property
    def held(self) -> int:
        """Requests that wait in the gateway."""
        return self._room.count

    @property
    def serving(self) -> bool:
        """Whether a replica takes requests."""
        return bool(self._loads)

    @property
    def waiting(self) -> int:
        """Requests that wait in the gateway or in a model server's queue."""
        return self._room.count + sum(replica.engine.waiting for replica in self._slots)

    @property
    def concurrency(self) -> int:
        """Requests that wait or run."""
        return self._room.count + sum(replica.ledger.load.in_flight for replica in self._slots)

    def fleet(self) -> Fleet:
        phases = [replica.phase for replica in self._replicas]
        return Fleet(
            desired=self.desired,
            ready=phases.count(Phase.READY),
            pending=phases.count(Phase.STARTING),
            draining=phases.count(Phase.DRAINING),
        )

    def view(self, now_s: float) -> PoolView:
        """What the autoscaler would read: one worker's report, just published."""
        room, counts = self._room, self.counts
        report = WorkerReport(
            worker=WORKER,
            started_at_s=0.0,
            waiting=room.count,
            waiting_gpu_s=max(room.gpu_s, 0.0),
            waiting_prefill_s=max(room.prefill_s, 0.0),
            waiting_kv_tokens=room.kv_tokens,
            arrived=counts.arrived,
            arrived_gpu_s=counts.arrived_gpu_s,
            settled=counts.settled,
            ttft_misses=counts.ttft_misses,
            tpot_misses=counts.tpot_misses,
            running={
                replica.name: replica.ledger.share() for replica in self._slots if replica.ledger.load.in_flight > 0
            },
        )
        seen = SeenReport(report=report, age_s=0.0)
        return PoolView(pool=POOL, read_at_s=now_s, reports=(seen,), replicas=None, decision=None)

    def replica_s(self, now_s: float) -> float:
        """Seconds of all replicas so far, cold starts and drains included."""
        return self.counts.replica_s + sum(now_s - replica.created_at_s for replica in self._replicas)

    # Requests

    def arrive(self, trip: Trip, now_s: float) -> None:
        counts, weight = self.counts, trip.weight
        counts.arrived += 1
        counts.arrived_gpu_s += weight.gpu_s
        if not self._room.count:
            chosen = pick(self._loads, weight, self.model.pick, now_s, salt=counts.arrived)
            if chosen is not None:
                self._send(trip, self._by_name[chosen.replica], now_s)
                return
        self._tickets += 1
        ticket = Ticket(
            id=TicketId(str(self._tickets)),
            owner=WORKER,
            tenant="",
            gpu_s=weight.gpu_s,
            prefill_s=weight.prefill_s,
            prefill_tokens=weight.input_tokens - weight.cached_tokens,
            kv_tokens=weight.kv_tokens,
            crowd_s=crowd_s(weight, self.model.pick),
        )
        seat = Seat(trip, ticket, weight, trip.arrived_at_s, inf)
        self._room.enter(seat)
        heappush(self._overdue, (now_s + self.model.wait_bound_s, self._tickets, seat))
        self.pump(now_s)

    def pump(self, now_s: float) -> None:
        """Send what waits and has room, in order."""
        room = self._room
        while room.count and self._loads:
            while self._overdue and (self._overdue[0][0] <= now_s or not self._overdue[0][2].taken):
                seat = heappop(self._overdue)[2]
                if seat.taken:
                    room.queue.promote(seat.ticket.id)
            head = room.queue.head()
            waiting = None if head is None else room.seat_of(head.id)
            if head is None or waiting is None:
                return
            chosen = pick(self._loads, waiting.weight, self.model.pick, now_s, salt=int(head.id))
            if chosen is None:
                return
            room.queue.take(head.id)
            room.leave(waiting)
            self._send(waiting.guest, self._by_name[chosen.replica], now_s)

    def advance(self, slot: int, now_s: float) -> None:
        """A replica's steps have ended."""
        replica = self._slots[slot]
        first, ended = replica.engine.advance(now_s)
        self.ends_at_s[slot] = replica.engine.ends_at_s
        for job in first:
            assert isinstance(job, Trip)
            assert job.flight is not None
            replica.ledger.first_token(job.flight, now_s)
        for job in ended:
            assert isinstance(job, Trip)
            assert job.flight is not None
            replica.ledger.settle(job.flight, now_s)
            self._settle(job)
        if replica.phase is Phase.DRAINING and replica.ledger.load.in_flight == 0:
            self._remove(replica, now_s)
        if self._room.count and (first or ended):
            self.pump(now_s)

    def _send(self, trip: Trip, replica: Replica, now_s: float) -> None:
        ledger = replica.ledger
        trip.replica, trip.sent_at_s = replica, now_s
        ahead = ahead_s(ledger.load, now_s)
        trip.flight = ledger.start(trip.weight, now_s=now_s, ahead_s=ahead, silent=False)
        replica.engine.submit(trip, now_s)
        self.ends_at_s[replica.slot] = replica.engine.ends_at_s

    def _settle(self, trip: Trip) -> None:
        counts = self.counts
        counts.settled += 1
        counts.ttft_misses += trip.first_token_at_s - trip.arrived_at_s > trip.ttft_limit_s
        limit_s = self.model.tpot_limit_s
        counts.tpot_misses += limit_s is not None and tpot_s(trip) > limit_s
        trip.replica = trip.flight = None
        self.ended(trip)

    # Replicas

    def start(self, replicas: int) -> None:
        """Replicas that are ready when the simulation begins."""
        self.desired = replicas
        for _ in range(replicas):
            self._create(0.0, 0.0)
        self._list()

    def apply(self, desired: int, now_s: float) -> float | None:
        """Head for so many replicas. When new ones will be ready; `None` when none was started.

        More: draining ones serve again, then new ones start. Fewer: the youngest that starts goes first, then the one
        with the least remaining work drains.
        """
        if desired == self.desired:
            return None
        self.counts.changes += 1
        self.desired = desired
        present = [replica for replica in self._replicas if replica.phase is not Phase.DRAINING]
        ready_at_s = None
        for _ in range(desired - len(present)):
            draining = [replica for replica in self._replicas if replica.phase is Phase.DRAINING]
            if draining:
                max(draining, key=_remaining_gpu_s).phase = Phase.READY
            else:
                ready_at_s = now_s + self.model.cold_start_s
                self._create(now_s, ready_at_s)
        for _ in range(len(present) - desired):
            victim = min(present, key=_worth)
            present.remove(victim)
            if victim.phase is Phase.STARTING or victim.ledger.load.in_flight == 0:
                self._remove(victim, now_s)
            else:
                victim.phase = Phase.DRAINING
        self._list()
        self.pump(now_s)
        return ready_at_s

    def wake(self, now_s: float) -> None:
        """Replicas whose cold start is over serve."""
        self._list_ready(now_s)
        self.pump(now_s)

    def _create(self, now_s: float, ready_at_s: float) -> None:
        self._names += 1
        name = ReplicaName(f"r{self._names}")
        model = self.model
        engine = LeanEngine(model.engine, model.steps)
        replica = Replica(name, engine, ReplicaLedger(name, gpus=model.gpus), now_s, ready_at_s)
        if ready_at_s <= now_s:
            replica.phase = Phase.READY
        self._replicas.append(replica)
        self.counts.most_replicas = max(self.counts.most_replicas, len(self._replicas))

    def _remove(self, replica: Replica, now_s: float) -> None:
        self._replicas.remove(replica)
        self.counts.replica_s += now_s - replica.created_at_s
        self.counts.busy_s += replica.engine.busy_s
        self.counts.preemptions += replica.engine.preemptions
        self._list()

    def _list_ready(self, now_s: float) -> None:
        for replica in self._replicas:
            if replica.phase is Phase.STARTING and replica.ready_at_s <= now_s:
                replica.phase = Phase.READY
        self._list()

    def _list(self) -> None:
        self._slots = [replica for replica in self._replicas if replica.phase is not Phase.STARTING]
        self.ends_at_s = [replica.engine.ends_at_s for replica in self._slots]
        for slot, replica in enumerate(self._slots):
            replica.slot = slot
        self._loads = [replica.ledger.load for replica in self._slots if replica.phase is Phase.READY]
        self._by_name = {replica.name: replica for replica in self._slots}

    def close(self, now_s: float) -> None:
        """Stop all replicas, so that all their time is counted."""
        for replica in list(self._replicas):
            self._remove(replica, now_s)


def tpot_s(trip: Trip) -> float:
    """Mean time between output tokens; 0 for a single one."""
    if trip.output_tokens < 2:
        return 0.0
    return (trip.finished_at_s - trip.first_token_at_s) / (trip.output_tokens - 1)


def _remaining_gpu_s(replica: Replica) -> float:
    return replica.ledger.load.remaining_gpu_s


def _worth(replica: Replica) -> tuple[bool, float]:
    """The least goes first: replicas that start, the youngest of them before the others; then by remaining work."""
    if replica.phase is Phase.STARTING:
        return (False, -replica.created_at_s)
    return (True, replica.ledger.load.remaining_gpu_s)
