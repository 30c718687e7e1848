"""Reads Redis for the page: when somebody looks, and not more often than the parts change, however many look."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from backlog.accounts import Accounts
from backlog.connection import BacklogUnavailable
from backlog.records import PoolName
from backlog.store import Backlog
from dashboard.page import Booked, Everything, Look
from dashboard.settings import PoolFacts

VIEW_EVERY_S = 1.0
DECISIONS_EVERY_S = 5.0
USAGE_EVERY_S = 10.0
DECISIONS = 60

_log = structlog.get_logger("dashboard")


class Reader:
    """Keeps what was last read. Owns neither `backlog` nor `accounts`.

    While Redis is away the last values stay, with their age, and the error beside them.
    """

    def __init__(
        self, pools: Sequence[PoolFacts], backlog: Backlog, accounts: Accounts, clock: Callable[[], float]
    ) -> None:
        self._pools = tuple(pools)
        self._backlog = backlog
        self._accounts = accounts
        self._clock = clock
        self._looks: dict[PoolName, Look] = {facts.name: Look() for facts in pools}
        self._booked = Booked()
        self._read_at_s: dict[str, float] = {}
        self._reading = asyncio.Lock()
        self._away = False

    async def read(self) -> Everything:
        """What is known now. Those who ask while it is read wait for that reading."""
        async with self._reading:
            if self._is_due("view", VIEW_EVERY_S):
                await self._look()
            return Everything(looks=dict(self._looks), booked=self._booked)

    def _is_due(self, part: str, every_s: float) -> bool:
        """Whether to read now; if so, not again for `every_s`. A clock that was set back makes everything due."""
        now_s = self._clock()
        last_at_s = self._read_at_s.get(part)
        if last_at_s is not None and 0 <= now_s - last_at_s < every_s:
            return False
        self._read_at_s[part] = now_s
        return True

    async def _look(self) -> None:
        history = self._is_due("decisions", DECISIONS_EVERY_S)
        error: str | None = None
        for facts in self._pools:
            look = self._looks[facts.name]
            try:
                if error is None:
                    look = await self._pool(look, facts.name, history=history)
            except BacklogUnavailable as gone:
                error = gone.cause
            self._looks[facts.name] = replace(look, error=error)
        if error is None and self._is_due("usage", USAGE_EVERY_S):
            error = await self._book()
        self._tell(error)

    async def _pool(self, look: Look, name: PoolName, *, history: bool) -> Look:
        view = await self._backlog.view(name)
        look = replace(look, view=view, view_at_s=self._clock())
        if history or look.decisions is None:
            look = replace(look, decisions=tuple(await self._backlog.decisions(name, DECISIONS)))
        return look

    async def _book(self) -> str | None:
        """The usage of the present day; returns why it could not be read."""
        today = datetime.fromtimestamp(self._clock(), UTC).date()
        try:
            rows = await self._accounts.usage(today, today)
        except BacklogUnavailable as gone:
            return gone.cause
        self._booked = Booked(day=today, rows=tuple(rows), at_s=self._clock())
        return None

    def _tell(self, error: str | None) -> None:
        """Say once when Redis goes, and when it is back."""
        if error is not None and not self._away:
            _log.warning("redis unavailable, the page shows what was last read", cause=error)
        elif error is None and self._away:
            _log.info("redis available again")
        self._away = error is not None
