"""Book what tenants used, hear how they stand. Redis away: keep the batch that is under way, say so once, go on."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import structlog

from backlog.account import NO_CHARGE, NO_USAGE, AccountBatch, Charge, Usage, UsageKey
from backlog.accounts import Accounts
from backlog.connection import BacklogUnavailable
from gateway.limits import Limiter
from gateway.settings import TenantSettings

_log = structlog.get_logger()
FLUSH_S = 0.25
"""What was used or charged is booked this often."""
HEAR_S = 1.0
"""How often a worker hears of all tenants with limits; of those that it charged it hears with every batch."""
FINAL_FLUSHES = 2
"""A batch that was under way, and what came after it."""


class Bookkeeper:
    """Collects usage and charges of one worker. `worker`: a name that no other start of any worker has."""

    def __init__(
        self,
        accounts: Accounts,
        tenants: Iterable[TenantSettings],
        *,
        worker: str,
        clock: Callable[[], float],
        share: float = 1.0,
        caps: Mapping[str, float] | None = None,
    ) -> None:
        """`caps`: as in `Limiter`."""
        self.limiter = Limiter(tenants, share=share, caps=caps)
        self.error: str | None = None
        """Why Redis is unavailable; `None` while it answers."""
        self._accounts = accounts
        self._worker = worker
        self._clock = clock
        self._usage: dict[UsageKey, Usage] = {}
        self._charges: dict[str, Charge] = {}
        """Of tenants without limits: what they spend is kept, so that a limit that comes later begins with it."""
        self._batch: AccountBatch | None = None
        """Sent, and not known to have arrived."""
        self._number = 0
        self._heard_at_s = -HEAR_S
        self._stopping = asyncio.Event()

    def settled(self, key: UsageKey, usage: Usage, charged: Charge = NO_CHARGE) -> None:
        """A request has ended. `charged`: what `limiter.charge` gave for it; `NO_USAGE` if it never ran."""
        if usage != NO_USAGE:
            self._usage[key] = self._usage.get(key, NO_USAGE) + usage
        difference = usage.charge - charged
        if not self.limiter.correct(key.tenant, difference, self._clock()) and difference != NO_CHARGE:
            self._charges[key.tenant] = self._charges.get(key.tenant, NO_CHARGE) + difference

    async def run(self) -> None:
        """Runs until `stop`, then books what is left, within two calls to Redis."""
        while not self._stopping.is_set():
            await self._try_flush()
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S):
                    await self._stopping.wait()
        for _ in range(FINAL_FLUSHES):
            await self._try_flush()
        if self._batch is not None:
            _log.warning("usage was not booked before the end", cause=self.error)

    def stop(self) -> None:
        """End `run`. Nothing may be settled afterwards."""
        self._stopping.set()

    async def flush(self) -> None:
        """One round trip, unless nothing has changed and nothing is due."""
        due = bool(self.limiter.rates) and self._clock() - self._heard_at_s >= HEAR_S
        if self._batch is None and (self._usage or self._charges or self.limiter.changed):
            self._batch = self._cut()
        batch = self._batch
        if batch is None and not due:
            return
        rates = self.limiter.rates
        charged = () if batch is None else batch.charges
        asked = rates if due else {tenant: rates[tenant] for tenant in charged if tenant in rates}
        try:
            standings = await self._accounts.settle(self._worker, batch, asked)
        except BacklogUnavailable as error:
            if self.error is None:
                _log.warning("usage cannot be booked now", cause=error.cause)
            self.error = error.cause
            return
        if self.error is not None:
            _log.info("usage is booked again")
            self.error = None
        self._batch = None
        now_s = self._clock()
        if due:
            self._heard_at_s = now_s
        self.limiter.hear(standings, now_s)

    async def _try_flush(self) -> None:
        try:
            await self.flush()
        except Exception:
            # Sent again, the same batch would fail in the same way, and nothing after it would be booked.
            _log.exception("booking usage failed, one batch is lost")
            self._batch = None

    def _cut(self) -> AccountBatch:
        """Everything up to now under the next number."""
        self._number += 1
        usage, self._usage = self._usage, {}
        charges, self._charges = self._charges, {}
        return AccountBatch(number=self._number, usage=usage, charges={**self.limiter.cut(), **charges})
