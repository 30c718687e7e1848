"""A pool's replicas in one worker: which there are, what runs on them, what they offer to whoever waits."""

from collections.abc import Container, Iterable
from math import inf

import structlog

from backlog.records import (
    Claimed,
    Lease,
    PoolView,
    ReplicaName,
    ReplicaRecord,
    ReplicaShare,
    ReplicaState,
    TicketId,
    WorkerId,
)
from backlog.ticket import Offer
from estimator.price import Price
from gateway import ledger, pick
from gateway.calibration import Calibration
from gateway.replica import Replica
from gateway.settings import PoolSettings

_log = structlog.get_logger()
MOST_OFFERS = 64
"""Replicas in one claim: those with a free slot first, the least busy ones."""
NONE_CLAIMED = Claimed()


class Fleet:
    """Static replicas, or those that a scaler publishes. The event loop is its lock: no method awaits."""

    def __init__(self, settings: PoolSettings, *, worker: WorkerId, price: Price) -> None:
        self.replicas: dict[str, Replica] = {}
        self.starting: tuple[ReplicaRecord, ...] = ()
        """Replicas on their way, as the scaler last listed them."""
        self.known = bool(settings.static_replicas)
        """Which replicas there are has been said: none is none."""
        self.calibration = Calibration(
            worker=worker,
            price=price,
            planning_batch=price.planning_batch,
        )
        self._settings = settings
        self._worker = worker
        self._gpus = gpus = price.gpus
        self._unusable: set[tuple[str, str, float]] = set()
        """Listed replicas that cannot be used."""
        self._claimed: dict[str, Claimed] = {}
        """Of all work ever claimed for a replica, what the ledgers contain."""
        for static in settings.static_replicas:
            self.replicas[static.name] = Replica(
                name=static.name, url=static.url, api_key=static.api_key, gpus=gpus, state=ReplicaState.READY
            )

    @property
    def ready(self) -> int:
        """Replicas that a scaler calls ready, whatever their breakers say."""
        return sum(replica.state is ReplicaState.READY for replica in self.replicas.values())

    @property
    def loads(self) -> dict[str, pick.Load]:
        return {name: replica.ledger.load for name, replica in self.replicas.items()}

    def usable(self, now_s: float, *, avoid: Iterable[str] = ()) -> list[pick.Load]:
        """The loads of the replicas to which new work may be sent; those to `avoid` only where there is no other."""
        loads = [replica.ledger.load for replica in self.replicas.values() if replica.usable(now_s)]
        if not avoid:
            return loads
        return [load for load in loads if load.name not in avoid] or loads

    def has_room(self, rule: pick.PickRule, now_s: float) -> bool:
        """Whether some replica would take the smallest request."""
        return any(pick.has_room_for(load, 1, rule, now_s) for load in self.usable(now_s))

    def until_room_gpu_s(self, kv_tokens: int, rule: pick.PickRule, now_s: float) -> float | None:
        """GPU-seconds until the first replica has room for a request; `None` when no replica can be used."""
        loads = self.usable(now_s)
        each_gpu_s = (pick.until_room_gpu_s(load, kv_tokens, rule, now_s, gpus=self._gpus) for load in loads)
        return min(each_gpu_s, default=None)

    def offers(self, rule: pick.PickRule, now_s: float) -> list[Offer]:
        """What a claim is made with. All usable replicas: those without room tell that a request can wait for them."""
        offers = []
        for load in self.usable(now_s):
            wait_s = pick.ahead_s(load, now_s)
            offers.append(
                Offer(
                    replica=ReplicaName(load.name),
                    fixed_s=wait_s + pick.interference_s(load, rule),
                    in_flight=max(load.in_flight, 0),
                    ahead_s=wait_s,
                    kv_tokens=load.kv_tokens,
                    known=self._claimed.get(load.name, NONE_CLAIMED),
                )
            )
        if len(offers) > MOST_OFFERS:
            most = inf if rule.max_in_flight is None else rule.max_in_flight
            offers.sort(
                key=lambda offer: (offer.in_flight >= most, offer.fixed_s + offer.in_flight * pick.PER_REQUEST_S)
            )
            del offers[MOST_OFFERS:]
        return offers

    def hear(self, view: PoolView, now_s: float, *, mine: Container[TicketId]) -> None:
        """Take over the replica list and the others' work: their reports, and leases that are in no report yet.

        `mine`: own tickets that wait here, so that a lease for one of them is not in this worker's ledger.
        """
        if view.replicas is not None and not self._settings.static_replicas:
            self.known = True
            self._list(view.replicas)
        shares: dict[str, ReplicaShare] = {}
        for seen in view.reports:
            if seen.report.worker != self._worker:
                for name, share in seen.report.running.items():
                    _add(shares, name, share)
        for lease in view.queue.leases:
            if lease.owner != self._worker or lease.ticket in mine:
                _add(shares, lease.replica, share_of(lease))
        for replica in self.replicas.values():
            replica.ledger.hear(shares.get(replica.name, ledger.NOTHING), now_s)
        self._claimed = {str(name): claimed for name, claimed in view.queue.claimed.items()}
        self.calibration.hear(view)

    def tick(self, now_s: float) -> bool:
        """Let time pass, and release prefill that must be done by now; whether any was."""
        self.calibration.tick(self.replicas, now_s)
        released = [replica.ledger.release_silent(now_s) for replica in self.replicas.values()]
        return any(released)

    def claimed(self, replica: str, more: Claimed) -> None:
        """Work was claimed for a replica that its ledger contains: no view is needed to know of it."""
        self._claimed[replica] = self._claimed.get(replica, NONE_CLAIMED) + more

    def forget_others(self, now_s: float) -> None:
        """Redis is away: what the others have in flight is unknown, and this worker keeps to its share."""
        for replica in self.replicas.values():
            replica.ledger.hear(ledger.NOTHING, now_s)

    def _list(self, records: tuple[ReplicaRecord, ...]) -> None:
        self.starting = tuple(record for record in records if record.state is ReplicaState.STARTING)
        changed = False
        for record in records:
            known = self.replicas.get(record.name)
            if known is not None and known.url == record.url:
                known.state, known.gpu = record.state, record.gpu
                if known.gpu_ratio != record.ratio > 0.0:
                    known.gpu_ratio, changed = record.ratio, True
                continue
            changed = True
            if known is not None:
                self.replicas.pop(record.name).close()
            if _identity(record) not in self._unusable:
                self._new(record)
        listed = {record.name for record in records}
        self._unusable &= {_identity(record) for record in records}
        for name in [name for name in self.replicas if name not in listed]:
            # Its requests in flight keep their connections and settle on the object they hold.
            self.replicas.pop(name).close()
            changed = True
        if changed:
            self.calibration.apply(self.replicas)

    def _new(self, record: ReplicaRecord) -> None:
        """A replica as the scaler describes it. An address or ratio that cannot be one is said once and left out."""
        try:
            self.replicas[record.name] = Replica(
                name=record.name,
                url=record.url,
                api_key=self._settings.replica_api_key,
                gpus=self._gpus,
                state=record.state,
                gpu=record.gpu,
                gpu_ratio=record.ratio,
            )
        except ValueError as error:
            self._unusable.add(_identity(record))
            _log.warning("replica record is unusable", pool=self._settings.name, cause=str(error))


def _identity(record: ReplicaRecord) -> tuple[str, str, float]:
    """What decides whether a replica can be used."""
    return record.name, record.url, record.ratio


def share_of(lease: Lease) -> ReplicaShare:
    """A lease as work in flight."""
    return ReplicaShare(
        in_flight=1,
        prefill_s=lease.prefill_s,
        prefill_tokens=lease.prefill_tokens,
        kv_tokens=lease.kv_tokens,
        remaining_gpu_s=lease.gpu_s,
    )


def _add(shares: dict[str, ReplicaShare], name: str, share: ReplicaShare) -> None:
    shares[name] = ledger.add_shares(shares[name], share) if name in shares else share
