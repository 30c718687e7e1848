"""One pool's conversation with Redis: this worker's report, tickets and claims out, view and leases in.

One turn is under way at a time, so what is heard is never older than what was said. Redis away: the worker goes on by
itself, says so once, and tells Redis everything anew when it is back.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from backlog.records import TicketId
from backlog.store import Backlog, BacklogUnavailable
from backlog.turn import Reply, Turn
from gateway.pool import Pool

_log = structlog.get_logger()
QUIET_S = 0.5
"""An unchanged report is renewed this often: well inside the heartbeat limit, and new replicas are heard of in time."""
MAIL_WAIT_S = 1.0
RETRY_S = 0.2
"""Between two attempts to read mail from a Redis that is away."""
MISSING_S = 1.0
"""If Redis knows other tickets of this worker than it should for so long, it is told everything anew."""


class Publisher:
    """Runs the conversation of one pool. `urgent` is set when somebody waits for the next turn."""

    def __init__(
        self,
        pool: Pool,
        backlog: Backlog,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        started_at_s: float,
        publish_s: float,
        urgent: asyncio.Event,
    ) -> None:
        self._pool = pool
        self._name = pool.settings.name
        self._backlog = backlog
        self._clock = clock
        self._wall_clock = wall_clock
        self._started_at_s = started_at_s
        self._publish_s = publish_s
        self._urgent = urgent
        self._published_at_s: float | None = None
        self._missing_since_s: float | None = None
        self._stopping = False
        self.error: str | None = None
        """Why Redis is unavailable; `None` while it answers."""
        self.heard_at_s: float | None = None

    async def run(self) -> None:
        """Runs until `stop`. Not by cancellation: a Redis client in the middle of a call may swallow that."""
        mail = asyncio.get_running_loop().create_task(self._read_mail(), name=f"mail of {self._name}")
        try:
            while not self._stopping:
                try:
                    await self.turn()
                except Exception:
                    # Silence would look like a dead worker to the others, and its tickets would be dropped.
                    _log.exception("exchange with redis failed")
                    # Nobody knows what of it arrived: Redis is told everything anew.
                    self._pool.connected = False
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._publish_s):
                        await self._urgent.wait()
                if not self._stopping:
                    self._urgent.clear()
        finally:
            mail.cancel()
            with suppress(asyncio.CancelledError):
                await mail

    def stop(self) -> None:
        """End `run` after the turn that is under way, which the backlog bounds in time."""
        self._stopping = True
        self._urgent.set()

    async def turn(self) -> None:
        """One round trip, unless there is nothing to say and nothing has changed lately."""
        pool, now_s = self._pool, self._clock()
        report = not pool.connected or self._due(now_s)
        if not (report or pool.outbox.urgent or pool.claim_now):
            return
        try:
            if not pool.connected:
                await self._backlog.withdraw(self._name, pool.worker)
                pool.reconnected()
            await self._talk(now_s, report=report)
        except BacklogUnavailable as error:
            self._lose(error.cause)
            return
        if self.error is not None:
            _log.info("redis is back", pool=self._name)
            self.error = None

    def _due(self, now_s: float) -> bool:
        """Whether the report is to be sent and the view to be read."""
        pool, last_at_s = self._pool, self._published_at_s
        if last_at_s is None or pool.report_now or now_s - last_at_s >= QUIET_S:
            return True
        starved = pool.room.count > 0 or pool.waiting_elsewhere > 0
        return (pool.changed or starved) and now_s - last_at_s >= self._publish_s

    async def _talk(self, now_s: float, *, report: bool) -> None:
        pool = self._pool
        # Cleared before the turn is made: a change during the round trip goes into the next one.
        letter = pool.outbox.write(now_s, report=report)
        known = len(pool.outbox.known)
        if report:
            pool.changed = pool.report_now = False
        turn = Turn(
            report=pool.report(self._started_at_s, epoch_s=self._wall_clock() - now_s) if report else None,
            flying=dict(pool.flying),
            # What has been sent is in the report from now on, and must not be leased work as well.
            start=letter.start,
            evict=letter.evict,
            charges=letter.charges,
            enqueue=letter.enqueue,
            most_tickets=pool.settings.max_waiting,
            claim=pool.claim(now_s),
            look=report,
        )
        try:
            reply = await self._backlog.turn(self._name, pool.worker, turn)
        except BacklogUnavailable:
            pool.outbox.lost()
            raise
        self._take(reply, known)

    def _take(self, reply: Reply, known: int) -> None:
        pool, now_s = self._pool, self._clock()
        burdens = pool.outbox.answered(reply.turned_away)
        for replica, sent in burdens.items():
            pool.fleet.claimed(replica, sent)
        # The view is the state after the claim, so the claim's consequences come first.
        if reply.claims is not None:
            pool.claimed(reply.claims, now_s)
        if reply.view is not None:
            self._published_at_s = self.heard_at_s = now_s
            pool.hear(reply.view, now_s)
        for ticket in reply.turned_away:
            pool.turned_away(ticket, now_s)
        if reply.owned is not None:
            self._check(reply.owned == known, now_s)

    def _check(self, complete: bool, now_s: float) -> None:
        """A Redis that failed over may have lost tickets, or kept some that have left.

        As many of one kind as of the other: the numbers agree until `Pool.granted` withdraws one that has left.
        """
        if complete:
            self._missing_since_s = None
        elif self._missing_since_s is None:
            self._missing_since_s = now_s
        elif now_s - self._missing_since_s >= MISSING_S:
            self._missing_since_s = None
            _log.warning("redis has lost tickets, telling it everything anew", pool=self._name)
            self._pool.connected = False

    def _lose(self, cause: str) -> None:
        now_s = self._clock()
        if self.error is None:
            _log.warning("redis unavailable, serving from the last view", pool=self._name, cause=cause)
        self.error = cause
        self._pool.changed = True
        if self._pool.connected:
            self._pool.disconnected(now_s)

    async def _read_mail(self) -> None:
        """Leases, evictions and wake-ups that others leave for this worker."""
        pool = self._pool
        while True:
            try:
                message = await self._backlog.mail(self._name, pool.worker, wait_s=MAIL_WAIT_S)
                if message is not None and pool.connected:
                    self._open(message)
            except BacklogUnavailable:
                await asyncio.sleep(RETRY_S)
            except Exception:
                _log.exception("mail could not be read")
                await asyncio.sleep(RETRY_S)

    def _open(self, message: bytes) -> None:
        pool, now_s = self._pool, self._clock()
        kind = message[:1]
        if kind == b"L":
            pool.granted(self._backlog.lease_from_mail(self._name, message), now_s)
        elif kind == b"E":
            pool.turned_away(TicketId(message[1:].decode()), now_s)
        else:
            pool.woken()

    async def leave(self) -> None:
        """Withdraw this worker's report; its heartbeat would expire anyway."""
        try:
            await self._backlog.leave(self._name, self._pool.worker)
        except BacklogUnavailable as error:
            _log.warning("could not leave the backlog", cause=error.cause)
