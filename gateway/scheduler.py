"""All pools of one process with what keeps them going: the conversation with Redis, the bookkeeper, lessons, the tick.

A gateway worker serves a port in front of it, the LiteLLM plugin hooks in front of it; what is decided is the same.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress

import structlog

from backlog.accounts import Accounts
from backlog.calibrations import Calibrations
from backlog.connection import connect_redis
from backlog.records import WorkerId
from backlog.store import Backlog
from gateway.auth import Keys
from gateway.bookkeeper import Bookkeeper
from gateway.context import Context
from gateway.overflow import Overflow, caps_of
from gateway.pool import Pool
from gateway.publish import Publisher
from gateway.recalibrate import Recalibrator
from gateway.settings import GatewaySettings
from gateway.snapshot import WorkerState, worker_state

_log = structlog.get_logger()
TICK_S = 0.02
SLOW_TICK_S = 0.5
LEAVE_S = 1.0
REDIS_TIMEOUT_S = 1.0


class Scheduler:
    """Built on the event loop that it runs on. `context` is what requests are scheduled with.

    `check_time` is called with the time every half second, or as often as comments are sent to silent streams.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        number: int,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        check_time: Callable[[float], None],
    ) -> None:
        # With the time, as a process id comes again (in a container at once), and what a worker says is numbered.
        self.worker = WorkerId(f"{socket.gethostname()}-{os.getpid()}-{number}-{int(wall_clock() * 1000):x}")
        self.number = number
        self._check_time = check_time
        weights = {tenant.name: tenant.weight for tenant in settings.tenants}
        urgents = [asyncio.Event() for _ in settings.pools]
        redis = connect_redis(settings.redis_url, timeout_s=REDIS_TIMEOUT_S)
        self._bookkeeper = Bookkeeper(
            Accounts(redis, settings.redis_prefix),
            settings.tenants,
            worker=self.worker,
            clock=clock,
            share=1.0 / settings.workers,
            caps=caps_of(settings.pools) if settings.spill_socket is not None else None,
        )
        self.context = Context(
            pools=[
                Pool(pool, worker=self.worker, weights=weights, urgent=urgent.set)
                for pool, urgent in zip(settings.pools, urgents, strict=True)
            ],
            keys=Keys(settings.tenants),
            limits=settings.limits,
            clock=clock,
            started_at_s=wall_clock(),
            bookkeeper=self._bookkeeper,
            elsewhere=settings.elsewhere,
        )
        if settings.spill_socket is not None:
            self.context.overflows = {
                pool.settings.name: Overflow(
                    pool.settings.spill,
                    pool,
                    socket=settings.spill_socket,
                    limiter=self._bookkeeper.limiter,
                    workers=settings.workers,
                    connect_s=settings.limits.connect_s,
                )
                for pool in self.context.pools
                if pool.settings.spill is not None
            }
        orders = {pool.name: pool.order for pool in settings.pools}
        self._backlog = Backlog(redis, prefix=settings.redis_prefix, orders=orders)
        self.publishers = [
            Publisher(
                pool,
                self._backlog,
                clock=clock,
                wall_clock=wall_clock,
                started_at_s=self.context.started_at_s,
                publish_s=settings.publish_s,
                urgent=urgent,
            )
            for pool, urgent in zip(self.context.pools, urgents, strict=True)
        ]
        self._recalibrator = Recalibrator(self.context.pools, Calibrations(redis, settings.redis_prefix))
        self._running: list[asyncio.Task[None]] = []
        self._booking: asyncio.Task[None] | None = None
        self._ticking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run until `stop`."""
        loop = asyncio.get_running_loop()
        self._running = [
            loop.create_task(publisher.run(), name=f"publish {pool.settings.name}")
            for publisher, pool in zip(self.publishers, self.context.pools, strict=True)
        ]
        self._running.append(loop.create_task(self._recalibrator.run(), name="recalibrator"))
        self._booking = loop.create_task(self._bookkeeper.run(), name="bookkeeper")
        self._ticking = loop.create_task(self._tick(), name="tick")

    async def stop(self) -> None:
        """End the tick and the conversation with Redis. Requests may settle until `leave`."""
        for publisher in self.publishers:
            publisher.stop()
        self._recalibrator.stop()
        await asyncio.gather(*self._running)
        if self._ticking is not None:
            self._ticking.cancel()
            with suppress(asyncio.CancelledError):
                await self._ticking

    async def leave(self) -> None:
        """Book what was used, withdraw from Redis, close its connections. Call once everything has settled."""
        for pool in self.context.pools:
            for replica in pool.replicas.values():
                replica.close()
        for overflow in self.context.overflows.values():
            overflow.provider.close()
        self._bookkeeper.stop()
        if self._booking is not None:
            await self._booking
        async with asyncio.timeout(LEAVE_S * 2):
            await asyncio.gather(*(publisher.leave() for publisher in self.publishers))
            await self._backlog.close()

    def snapshot(self) -> WorkerState:
        """This process's state as a value."""
        context = self.context
        heard = [publisher.heard_at_s for publisher in self.publishers]
        age_s = None if None in heard else context.clock() - min(at_s for at_s in heard if at_s is not None)
        error = next((publisher.error for publisher in self.publishers if publisher.error), None)
        return worker_state(context, worker=self.worker, number=self.number, backlog_age_s=age_s, backlog_error=error)

    async def _tick(self) -> None:
        """The clock of what nothing else triggers: deadlines, released prefill, breakers that close again."""
        context = self.context
        slow_at_s = 0.0
        slow_s = min(SLOW_TICK_S, context.limits.keepalive_s or SLOW_TICK_S)
        while True:
            now_s = context.clock()
            try:
                for pool in context.pools:
                    pool.tick(now_s)
                for overflow in context.overflows.values():
                    overflow.tick(now_s)
                if now_s >= slow_at_s:
                    if context.pools:
                        self._bookkeeper.limiter.share = min(pool.solo.share for pool in context.pools)
                    slow_at_s = now_s + slow_s
                    self._check_time(now_s)
            except Exception:
                # Without a clock no deadline would ever pass again, and nobody would notice.
                _log.exception("tick failed")
            await asyncio.sleep(TICK_S)
