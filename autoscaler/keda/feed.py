"""One pool's activity, for all streams that follow it: looked up once for all, and only while there are any.

A stream is told the newest value that it has not been told. One that cannot keep up misses what came between, and costs
no memory. While the activity is unknown nothing is said: a stream that is cut is opened again by KEDA only after up to
a minute, and KEDA asks by itself, too.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from autoscaler.keda.answer import Answer, Unanswered
from backlog.records import PoolName

FAILED_PAUSE_S = 5.0

_log = structlog.get_logger("autoscaler")


class Feed:
    """`run` keeps it current, `tell` follows it. `look` raises nothing but what is a bug."""

    def __init__(
        self, pool: PoolName, look: Callable[[PoolName], Awaitable[Answer | Unanswered]], *, poll_s: float
    ) -> None:
        self._pool = pool
        self._look = look
        self._poll_s = poll_s
        self._active: bool | None = None
        self._changed = asyncio.Event()
        self._listened = asyncio.Event()
        self._closed = False
        self.listeners = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._listened.wait()
            pause_s = self._poll_s
            try:
                found = await self._look(self._pool)
                self._note(found.active if isinstance(found, Answer) else None)
            except Exception:
                _log.exception("keda feed failed", pool=self._pool)
                pause_s = FAILED_PAUSE_S
            await asyncio.sleep(pause_s)

    async def tell(self, write: Callable[[bool], Awaitable[None]]) -> None:
        """Write the activity once it is known, then each change, until `close`, or until `write` raises."""
        self.listeners += 1
        self._listened.set()
        told: bool | None = None
        try:
            while not self._closed:
                changed = self._changed
                if self._active is not None and self._active != told:
                    told = self._active
                    await write(told)
                else:
                    await changed.wait()
        finally:
            self.listeners -= 1
            if self.listeners == 0:
                self._listened.clear()
                self._active = None

    def close(self) -> None:
        """End every `tell` in an orderly way, also those that begin later."""
        self._closed = True
        self._wake()

    def _note(self, active: bool | None) -> None:
        if active != self._active and self.listeners:
            self._active = active
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
