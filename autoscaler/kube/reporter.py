"""Tells the cluster what happens to its pools: Events on targets, and the status. The leader's only."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from autoscaler.kube.events import Events
from autoscaler.kube.names import Json
from autoscaler.kube.news import EventReason, Moment, news
from autoscaler.kube.status_map import UNDECIDED, StatusMap, status_of
from autoscaler.kube.target import Target, Writes
from autoscaler.stats import PoolStats

EVERY_S = 0.5
BACKOFF_S = 10.0
_log = structlog.get_logger("autoscaler")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedPool:
    """A pool, what its loop last saw, and the objects that are told of it."""

    stats: PoolStats
    targets: tuple[Target, ...]
    writes: Writes


class Reporter:
    """`tell` is for those who know news of their own; `run` finds what follows from decisions."""

    def __init__(
        self,
        pools: Sequence[ReportedPool],
        *,
        events: Events,
        status: StatusMap,
        leads: Callable[[], bool],
        rivals: Mapping[str, str],
        uid_of: Callable[[Target], str | None],
    ) -> None:
        """`rivals`: who else writes the replicas of a target, by its label."""
        self._pools = pools
        self._events = events
        self._status = status
        self._leads = leads
        self._rivals = rivals
        self._uid_of = uid_of
        self._before: dict[str, Moment] = {}

    def tell(self, target: Target, reason: str, message: str) -> None:
        """An Event on a target. Never waits. Raises ValueError for a reason that is none of `EventReason`."""
        uid = self._uid_of(target)
        reference: Json = {**target.reference, **({} if uid is None else {"uid": uid})}
        self._events.record(reference, EventReason(reason), message)

    async def run(self, stop_event: asyncio.Event) -> None:
        """Report until `stop_event`."""
        while not stop_event.is_set():
            pause_s = EVERY_S
            try:
                await self.step()
            except Exception:
                _log.exception("reporting to the cluster failed")
                pause_s = BACKOFF_S
            try:
                async with asyncio.timeout(pause_s):
                    await stop_event.wait()
            except TimeoutError:
                continue

    async def step(self) -> None:
        """One look at all pools, and the writes that are due."""
        if not self._leads():
            self._before.clear()
            self._status.forget()
        moments = {pool.stats.pool: moment for pool in self._pools if (moment := self._moment(pool)) is not None}
        if self._leads():
            for pool in self._pools:
                if pool.stats.pool in moments:
                    self._compare(pool, moments[pool.stats.pool])
            if moments:
                undecided: dict[str, str] = {pool.stats.pool: UNDECIDED for pool in self._pools}
                await self._status.show(undecided | {name: status_of(moment) for name, moment in moments.items()})
        await self._events.write_due()

    def _compare(self, pool: ReportedPool, now: Moment) -> None:
        for item in news(self._before.get(pool.stats.pool), now):
            for target in pool.targets:
                self.tell(target, item.reason, item.message)
        self._before[pool.stats.pool] = now

    def _moment(self, pool: ReportedPool) -> Moment | None:
        stats = pool.stats
        if stats.record is None or stats.observation is None:
            return None
        # Where KEDA owns the replicas, its autoscaler is no rival.
        watched = pool.targets if pool.writes is Writes.ALL else ()
        rivals = tuple(self._rivals[target.label] for target in watched if target.label in self._rivals)
        return Moment(record=stats.record, fleet=stats.observation.fleet, changed=stats.changed, rivals=rivals)
