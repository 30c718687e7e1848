"""Tell Redis what this worker has, hear what the others have. Redis away: keep the last view, say so once, go on."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from backlog.records import WorkerId
from backlog.store import Backlog, BacklogUnavailable
from gateway.context import Context
from gateway.pool import Pool

_log = structlog.get_logger()
QUIET_S = 0.5
"""An unchanged report is renewed this often: well inside the heartbeat limit, and new replicas are heard of in time."""


class Publisher:
    """Exchanges every pool's report for the pool's view, when something changed or `QUIET_S` has passed."""

    def __init__(
        self,
        context: Context,
        backlog: Backlog,
        *,
        worker: WorkerId,
        wall_clock: Callable[[], float],
        publish_s: float,
        urgent: asyncio.Event,
    ) -> None:
        self._context = context
        self._backlog = backlog
        self._worker = worker
        self._wall_clock = wall_clock
        self._publish_s = publish_s
        self._urgent = urgent
        self._published_at_s: dict[str, float] = {}
        self._stopping = False
        self.error: str | None = None
        """Why Redis is unavailable; `None` while it answers."""
        self.heard_at_s: float | None = None

    async def run(self) -> None:
        """Runs until `stop`. Not by cancellation: a Redis client in the middle of a call may swallow that."""
        while not self._stopping:
            try:
                for pool in self._context.pools:
                    await self.exchange(pool)
            except Exception:
                # Silence would look like a dead worker to the others, and its replica list would never change again.
                _log.exception("exchange with redis failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._publish_s):
                    await self._urgent.wait()
            if not self._stopping:
                self._urgent.clear()

    def stop(self) -> None:
        """End `run` after the exchange that is under way, which the backlog bounds in time."""
        self._stopping = True
        self._urgent.set()

    async def exchange(self, pool: Pool) -> None:
        """One round trip for one pool, unless nothing has changed lately."""
        name, now_s = pool.settings.name, self._context.clock()
        starved = pool.room.count > 0
        if not (pool.changed or starved or now_s - self._published_at_s.get(name, -QUIET_S) >= QUIET_S):
            return
        # Cleared before the report is made: a change during the round trip is published by the next one.
        pool.changed = False
        report = pool.report(
            self._worker, self._context.started_at_s, epoch_s=self._wall_clock() - self._context.clock()
        )
        try:
            view = await self._backlog.exchange(name, report)
        except BacklogUnavailable as error:
            pool.changed = True
            if self.error is None:
                _log.warning("redis unavailable, serving from the last view", cause=error.cause)
            self.error = error.cause
            return
        if self.error is not None:
            _log.info("redis is back")
            self.error = None
        self._published_at_s[name] = now_s
        self.heard_at_s = self._context.clock()
        pool.hear(view, self._worker, self.heard_at_s)

    async def leave(self) -> None:
        """Withdraw this worker's reports; its heartbeat would expire anyway."""
        for pool in self._context.pools:
            try:
                await self._backlog.leave(pool.settings.name, self._worker)
            except BacklogUnavailable as error:
                _log.warning("could not leave the backlog", cause=error.cause)
                return
