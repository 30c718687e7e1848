"""One pool in one gateway worker: weigh requests, know the replicas and their work, let requests wait, report."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from backlog.records import PoolView, ReplicaName, ReplicaRecord, ReplicaShare, ReplicaState, WorkerId, WorkerReport
from estimator.length import LengthModel, OutputLength
from estimator.price import Weight
from estimator.tokens import TextSize, TokenRatio
from gateway import ledger, pick
from gateway.openai import Endpoint, ParsedRequest
from gateway.outcome import Outcome, Refusal
from gateway.replica import Replica
from gateway.room import WaitingRoom, wait_estimate_s
from gateway.settings import PoolSettings
from gateway.stats import PoolStats

if TYPE_CHECKING:
    from gateway.exchange import Exchange

_log = structlog.get_logger()
NO_OUTPUT = OutputLength(mean=0.0, p50=0.0, p90=0.0)
NO_TEXT = TextSize(ascii_chars=0)
LESSONS_PER_TICK = 8
"""Reports learned from in one tick of 20 ms; at 400 a second more would teach the same and cost some 5 % of a core."""
URGENT_PREFILL_S = 0.1
"""A request that adds more prefill than this is published at once: another gateway must not pick the same replica."""


@dataclass(frozen=True, slots=True)
class Others:
    """What the other workers and the autoscaler said last. `None` fields are unknown."""

    waiting_gpu_s: float = 0.0
    cold_start_s: float | None = None


class Pool:
    """Mutable state of a pool. The event loop is its lock: no method awaits."""

    def __init__(self, settings: PoolSettings, *, urgent: Callable[[], None]) -> None:
        self.settings = settings
        self.price = settings.price()
        self.rule = pick.PickRule(
            kv_read_s_per_token=self.price.kv_read_s_per_token,
            kv_capacity_tokens=settings.kv_capacity_tokens,
            prefill_chunk_tokens=settings.prefill_chunk_tokens,
            externality=settings.externality,
            dispatch_prefill_s=settings.dispatch_prefill_s,
        )
        self.stats = PoolStats()
        self.replicas: dict[str, Replica] = {}
        self.room: WaitingRoom[Exchange] = WaitingRoom(settings.max_waiting)
        self.others = Others()
        self.changed = True
        self._urgent = urgent
        self._unusable: set[tuple[str, str]] = set()
        """Name and url of listed replicas that cannot be used."""
        self._ratios = {endpoint: TokenRatio() for endpoint in Endpoint}
        self._lengths = LengthModel()
        self._lessons: list[tuple[ParsedRequest, tuple[object, ...], int, int]] = []
        self._arrived = 0
        self._arrived_gpu_s = 0.0
        self._settled = 0
        self._ttft_misses = 0
        self._tpot_misses = 0
        for static in settings.static_replicas:
            self.replicas[static.name] = Replica(
                name=static.name, url=static.url, api_key=static.api_key, gpus=self.price.gpus, state=ReplicaState.READY
            )

    # Weighing

    def weigh(self, request: ParsedRequest, route: tuple[object, ...]) -> Weight:
        """The request's weight from its size and what its route has shown so far."""
        input_tokens = request.known_tokens
        if request.size != NO_TEXT or input_tokens == 0:
            input_tokens += self._ratios[request.endpoint].estimate(request.size)
        if request.choices == 0:
            return self.price.weigh(input_tokens=input_tokens, output=NO_OUTPUT)
        output = self._lengths.predict(route, request.max_output_tokens)
        if request.choices > 1:
            many = request.choices
            # Each choice reads its own KV, so the squares add up; the input is held once.
            output = OutputLength(
                output.mean * many, output.p50 * many, output.p90 * many, mean_square=output.mean_square * many
            )
        return self.price.weigh(input_tokens=input_tokens, output=output)

    def learn(self, request: ParsedRequest, route: tuple[object, ...], input_tokens: int, output_tokens: int) -> None:
        """Note what a model server reported, to be learned at the next tick. Cut-off requests must not come here."""
        if len(self._lessons) < LESSONS_PER_TICK:
            self._lessons.append((request, route, input_tokens, output_tokens))

    def _study(self) -> None:
        """Correct the estimates by the reports since the last tick."""
        for request, route, input_tokens, output_tokens in self._lessons:
            if request.known_tokens == 0 and input_tokens > 0:
                self._ratios[request.endpoint].observe(request.size, input_tokens)
            if request.choices == 1 and output_tokens > 0:
                self._lengths.observe(route, output_tokens)
        self._lessons.clear()

    # Waiting and dispatch

    def arrive(self, weight: Weight) -> None:
        """Count a request's work as offered load, whether it is served or not."""
        self._arrived += 1
        self._arrived_gpu_s += weight.gpu_s
        self.changed = True

    def choose(self, weight: Weight, now_s: float, *, avoid: Iterable[str], salt: int) -> pick.Pick | None:
        """The replica to use now, or `None` when none has room. `avoid` holds while another replica is usable."""
        usable = [replica.ledger.load for replica in self.replicas.values() if replica.usable(now_s)]
        fresh = [load for load in usable if load.name not in avoid] if avoid else usable
        return pick.pick(fresh or usable, weight, self.rule, now_s, salt=salt)

    def turn_away(self, refusal: Refusal) -> None:
        """End every waiting request with `refusal`."""
        while (seat := self.room.head()) is not None:
            self.room.leave(seat)
            seat.guest.expire(refusal)

    def pump(self, now_s: float) -> None:
        """Dispatch waiting requests, first come first, until the first one does not fit."""
        while (seat := self.room.head()) is not None:
            chosen = self.choose(seat.weight, now_s, avoid=seat.guest.failed_on, salt=seat.guest.salt)
            if chosen is None:
                return
            self.room.leave(seat)
            seat.guest.dispatch(self.replicas[chosen.replica], chosen, now_s)

    def sent(self, weight: Weight) -> None:
        """A dispatch changed the ledger."""
        self.changed = True
        if weight.prefill_s > URGENT_PREFILL_S:
            self._urgent()

    def tick(self, now_s: float) -> None:
        """Release prefill that must be done by now, learn, evict what waited too long, dispatch what fits."""
        if self._lessons:
            self._study()
        for replica in self.replicas.values():
            if replica.ledger.release_silent(now_s):
                self.changed = True
        for seat in self.room.expired(now_s):
            if not seat.taken:
                # The one that left before it made room, and this one was sent after all.
                continue
            self.room.leave(seat)
            self.changed = True
            seat.guest.expire(self.full_refusal(Outcome.WAIT_EXPIRED, now_s))
        self.pump(now_s)

    @property
    def cold_start_s(self) -> float:
        """As measured by the autoscaler, else as configured."""
        measured_s = self.others.cold_start_s
        return self.settings.cold_start_s if measured_s is None else measured_s

    @property
    def longest_wait_s(self) -> float:
        """How long a request that arrives now may wait. With no replica it is held through a cold start as well."""
        return self.settings.max_wait_s + (0.0 if self.ready else self.cold_start_s)

    @property
    def ready(self) -> int:
        """Replicas that a scaler calls ready, whatever their breakers say."""
        return sum(replica.state is ReplicaState.READY for replica in self.replicas.values())

    def wait_s(self, now_s: float) -> float:
        """The wait estimate for a request that arrives now."""
        oldest_at_s = self.room.oldest_at_s()
        return wait_estimate_s(
            ahead_gpu_s=self.room.gpu_s + self.others.waiting_gpu_s,
            gpus=self.price.gpus,
            ready=self.ready,
            cold_start_s=self.cold_start_s,
            oldest_wait_s=None if oldest_at_s is None else now_s - oldest_at_s,
        )

    def full_refusal(self, outcome: Outcome, now_s: float) -> Refusal:
        """Why a request is not served now, and when to come back."""
        wait_s = self.wait_s(now_s)
        usable = sum(replica.usable(now_s) for replica in self.replicas.values())
        why = f"{self.room.count} requests wait for {self.ready} ready replicas ({usable} answering)"
        detail = f"pool {self.settings.name}: {why}; the estimated wait is {wait_s:.1f} s"
        return Refusal(outcome, detail, retry_after_s=min(wait_s, 600.0))

    # The scaler's and the other workers' word

    def hear(self, view: PoolView, me: WorkerId, now_s: float) -> None:
        """Take over the replica list and the other workers' work. An unknown list changes nothing."""
        if view.replicas is not None and not self.settings.static_replicas:
            self._set_replicas(view)
        shares: dict[str, ReplicaShare] = {}
        waiting_gpu_s = 0.0
        for seen in view.reports:
            if seen.report.worker == me:
                continue
            waiting_gpu_s += seen.report.waiting_gpu_s
            for name, share in seen.report.running.items():
                shares[name] = ledger.add_shares(shares[name], share) if name in shares else share
        for replica in self.replicas.values():
            replica.ledger.hear(shares.get(replica.name, ledger.NOTHING), now_s)
        self.others = Others(
            waiting_gpu_s=waiting_gpu_s,
            cold_start_s=view.decision.cold_start_s if view.decision is not None else None,
        )
        self.pump(now_s)

    def _set_replicas(self, view: PoolView) -> None:
        assert view.replicas is not None
        for record in view.replicas:
            known = self.replicas.get(record.name)
            if known is not None and known.url == record.url:
                known.state = record.state
                continue
            if known is not None:
                self.replicas.pop(record.name).close()
            if (record.name, record.url) not in self._unusable:
                self._add(record)
        listed = {record.name for record in view.replicas}
        self._unusable &= {(record.name, record.url) for record in view.replicas}
        for name in [name for name in self.replicas if name not in listed]:
            # Its requests in flight keep their connections and settle on the object they hold.
            self.replicas.pop(name).close()

    def _add(self, record: ReplicaRecord) -> None:
        """A replica as the scaler describes it. An address that cannot be one is said once and left out."""
        try:
            self.replicas[record.name] = Replica(
                name=record.name,
                url=record.url,
                api_key=self.settings.replica_api_key,
                gpus=self.price.gpus,
                state=record.state,
            )
        except ValueError as error:
            self._unusable.add((record.name, record.url))
            _log.warning("replica record is unusable", pool=self.settings.name, cause=str(error))

    # What this worker tells

    def measured(self, *, ttft_missed: bool, tpot_missed: bool) -> None:
        """A request's SLOs are known: served with a measured TTFT, or turned away (which is a miss)."""
        self._settled += 1
        self._ttft_misses += ttft_missed
        self._tpot_misses += tpot_missed
        self.changed = True

    def report(self, me: WorkerId, started_at_s: float, *, epoch_s: float) -> WorkerReport:
        """This worker's whole state. `epoch_s` turns the worker's clock into seconds since the epoch."""
        oldest_at_s = self.room.oldest_at_s()
        return WorkerReport(
            worker=me,
            started_at_s=started_at_s,
            waiting=self.room.count,
            waiting_gpu_s=max(self.room.gpu_s, 0.0),
            waiting_prefill_s=max(self.room.prefill_s, 0.0),
            waiting_kv_tokens=self.room.kv_tokens,
            oldest_waiting_at_s=None if oldest_at_s is None else oldest_at_s + epoch_s,
            arrived=self._arrived,
            arrived_gpu_s=self._arrived_gpu_s,
            settled=self._settled,
            ttft_misses=self._ttft_misses,
            tpot_misses=self._tpot_misses,
            running={
                ReplicaName(name): replica.ledger.share()
                for name, replica in self.replicas.items()
                if replica.ledger.own.in_flight > 0
            },
        )
