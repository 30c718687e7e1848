"""The tenants' accounts in Redis: booked in numbered batches, each once; read by day.

Days and months are those of the Redis clock in UTC, at the time of booking. Redis faults surface as
`BacklogUnavailable` (`backlog.connection`); the same batch may then be booked again, whether it had arrived or not.
"""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from math import isfinite
from typing import Any

import msgspec

from backlog import keys
from backlog.account import AccountBatch, Spent, Standing, Usage, UsageKey, UsageRow
from backlog.connection import BacklogUnavailable, Call, Connection
from backlog.scripts import script

_SETTLE = script("clock", "calendar", "account")
_FIELDS = Usage.__struct_fields__
_COUNTS = frozenset(field.name for field in msgspec.structs.fields(Usage) if field.type is int)
_PARTS = 5
"""Answers for each tenant that is asked for."""


class Accounts:
    """Owns nothing: the connection is closed by whoever opened it."""

    def __init__(self, connection: Connection, prefix: str = "wb") -> None:
        self._connection = connection
        self._prefix = prefix

    async def settle(
        self, worker: str, batch: AccountBatch | None, asked: Mapping[str, float | None]
    ) -> Mapping[str, Standing]:
        """Book `batch` and say how the tenants in `asked` stand after it, in one round trip.

        `asked`: tenant -> GPU-seconds per minute, or `None` for no bucket; a charge finds the rate of its bucket here.
        `worker` is a name that no other start of a worker has: batches of each are numbered from 1. Raises ValueError
        for a number that is not finite.
        """
        args: list[str | int | float] = [
            keys.usage_stem(self._prefix),
            keys.spent_stem(self._prefix),
            keys.bucket_stem(self._prefix),
            batch.number if batch is not None else 0,
            _milliseconds(keys.BOOKED_TTL_S),
            _milliseconds(keys.USAGE_TTL_S),
            _milliseconds(keys.SPENT_DAY_TTL_S),
            _milliseconds(keys.SPENT_MONTH_TTL_S),
            len(batch.usage) if batch is not None else 0,
            len(batch.charges) if batch is not None else 0,
        ]
        if batch is not None:
            args.extend(_batch_args(batch, asked))
        for tenant, per_minute in asked.items():
            args += (tenant, _rate(per_minute))
        (answer,) = await self._connection.run(Call(_SETTLE, [keys.booked_key(self._prefix, worker)], args))
        return _standings(answer, asked)

    async def usage(self, since: date, until: date, tenant: str | None = None) -> list[UsageRow]:
        """What was booked from the day `since` to the day `until`, both included; of one tenant or of all.

        Ordered by day, then by key. At most as many days are read as are kept.
        """
        span = min((until - since).days, round(keys.USAGE_TTL_S / 86400))
        rows = []
        for ago in range(span, -1, -1):
            day = until - timedelta(days=ago)
            key = keys.usage_key(self._prefix, day)
            booked = _usage_of(key, await self._connection.ask("HGETALL", key))
            rows += [
                UsageRow(day=day, key=who, usage=booked[who])
                for who in sorted(booked)
                if tenant is None or who.tenant == tenant
            ]
        return rows


def _batch_args(batch: AccountBatch, asked: Mapping[str, float | None]) -> Iterator[str | int | float]:
    for key, usage in batch.usage.items():
        numbers = [getattr(usage, name) for name in _FIELDS]
        _require_finite(*numbers)
        yield " ".join(key)
        yield from numbers
    for tenant, charge in batch.charges.items():
        _require_finite(charge.gpu_s, charge.money)
        yield from (tenant, _rate(asked.get(tenant)), charge.gpu_s, charge.money)


def _rate(per_minute: float | None) -> float | str:
    return "" if per_minute is None else per_minute


def _standings(answer: list[Any], asked: Mapping[str, float | None]) -> dict[str, Standing]:
    day_left_s, month_left_s = float(answer[0]), float(answer[1])
    standings = {}
    for index, tenant in enumerate(asked):
        start = 2 + index * _PARTS
        bucket, *spent = answer[start : start + _PARTS]
        day_gpu_s, day_money, month_gpu_s, month_money = map(float, spent)
        standings[tenant] = Standing(
            bucket_gpu_s=None if bucket is None else float(bucket),
            day=Spent(gpu_s=day_gpu_s, money=day_money, left_s=day_left_s),
            month=Spent(gpu_s=month_gpu_s, money=month_money, left_s=month_left_s),
        )
    return standings


def _usage_of(key: str, booked: Mapping[bytes, bytes]) -> dict[UsageKey, Usage]:
    """A day's hash: `tenant pool model name` -> number. Names that a newer version adds are left out."""
    values: dict[UsageKey, dict[str, float]] = {}
    for raw, number in booked.items():
        try:
            who, _, name = raw.decode().rpartition(" ")
            if name in _FIELDS:
                tenant, pool, model = who.split(" ", 2)
                mine = values.setdefault(UsageKey(tenant, pool, model), {})
                mine[name] = round(float(number)) if name in _COUNTS else float(number)
        except (ValueError, OverflowError) as error:
            raise BacklogUnavailable(f"corrupt record at {key}: {raw[:100]!r}") from error
    return {who: Usage(**numbers) for who, numbers in values.items()}  # type: ignore[arg-type]


def _require_finite(*numbers: float) -> None:
    if not all(map(isfinite, numbers)):
        raise ValueError("usage and charges must be finite numbers")


def _milliseconds(duration_s: float) -> int:
    return round(duration_s * 1000)
