"""Reads what the autoscaler published: where Redis is, each pool's view, a pool's decisions."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backlog.records import DecisionRecord, PoolName, PoolView
from backlog.store import Backlog, connect
from weighbridge.config import from_process
from weighbridge.config_errors import ConfigError, suggestion
from weighbridge.wiring import redis_prefix

TIMEOUT_S = 5.0


class BadPlace(ValueError):
    """Options that lead to no Redis, or to no pool. The message is for the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to read, and which pools."""

    redis_url: str
    prefix: str
    pools: tuple[PoolName, ...]


def place_of(config: Path, *, redis: str | None, pool: str | None) -> Place:
    """Raises BadPlace."""
    try:
        loaded = from_process(config).config
    except ConfigError as error:
        raise BadPlace(str(error)) from None
    if redis is None and loaded.redis is None:
        hint = "or --redis URL; `up` writes a file with one to LOGS/resolved.json"
        raise BadPlace(f"{config}: redis.url is required; {hint}")
    if pool is not None and pool not in loaded.pools:
        close = suggestion(pool, loaded.pools)
        meant = f"; did you mean {close!r}?" if close else f": it has {', '.join(loaded.pools)}"
        raise BadPlace(f"--pool {pool}: {config} has no such pool{meant}")
    names = tuple(loaded.pools) if pool is None else (pool,)
    url = redis or (loaded.redis.url.get_secret_value() if loaded.redis is not None else "")
    return Place(redis_url=url, prefix=redis_prefix(loaded), pools=tuple(map(PoolName, names)))


async def read_pools(place: Place) -> Sequence[PoolView]:
    """One view per pool. Raises BacklogUnavailable."""
    backlog = _connect(place)
    try:
        return [await backlog.view(pool) for pool in place.pools]
    finally:
        await backlog.close()


async def read_decisions(place: Place, last: int) -> tuple[float, list[DecisionRecord]]:
    """When they were read, and the newest decisions of the place's only pool first. Raises BacklogUnavailable."""
    backlog = _connect(place)
    try:
        decisions = await backlog.decisions(place.pools[0], last)
        return time.time(), decisions  # noqa: TID251 (composition root)
    finally:
        await backlog.close()


def _connect(place: Place) -> Backlog:
    return connect(place.redis_url, prefix=place.prefix, timeout_s=TIMEOUT_S)
