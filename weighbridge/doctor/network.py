"""The checks that need a network, side by side: Redis, then the replicas that the file and Redis name."""

import asyncio
from collections.abc import Callable

import aiohttp

from backlog.connection import connect_redis
from backlog.records import PoolView, ReplicaState
from weighbridge.config_models import Config
from weighbridge.doctor.ask_redis import ask_redis
from weighbridge.doctor.ask_replica import ask_replica
from weighbridge.doctor.config import asked, static_replicas, unpublished
from weighbridge.doctor.finding import Finding
from weighbridge.doctor.replica import Asked, check_replica
from weighbridge.doctor.store import check_redis
from weighbridge.wiring import redis_prefix

AT_ONCE = 64

Clock = Callable[[], float]


async def check_network(
    config: Config, *, timeout_s: float, max_clock_skew_s: float, probe: bool, clock: Clock, wall_clock: Clock
) -> list[Finding]:
    """`timeout_s` bounds each question. Raises ValueError for a Redis URL that is none."""
    findings: list[Finding] = []
    views: dict[str, PoolView] = {}
    if config.redis is not None:
        connection = connect_redis(config.redis.url.get_secret_value(), timeout_s=timeout_s)
        try:
            facts, views = await ask_redis(
                connection, redis_prefix(config), config.pools, clock=clock, wall_clock=wall_clock
            )
        finally:
            await connection.close()
        findings.extend(check_redis(facts, max_clock_skew_s=max_clock_skew_s))
    replicas = [*static_replicas(config)]
    for name, pool in config.pools.items():
        if pool.replicas.static is None:
            found = _published(config, name, views.get(name))
            findings.extend([unpublished(name)] if found is None else [])
            replicas.extend(found or ())
    findings.extend(await _replicas(replicas, timeout_s=timeout_s, probe=probe))
    return findings


def _published(config: Config, pool: str, view: PoolView | None) -> list[Asked] | None:
    """Those that are ready. `None`: nobody says which there are."""
    if view is None or view.replicas is None:
        return None
    secret = config.pools[pool].api_key
    key = None if secret is None else secret.get_secret_value()
    return [
        asked(config, pool, name=replica.name, url=replica.url, api_key=key)
        for replica in view.replicas
        if replica.state is ReplicaState.READY
    ]


async def _replicas(replicas: list[Asked], *, timeout_s: float, probe: bool) -> list[Finding]:
    limit = aiohttp.ClientTimeout(total=timeout_s)
    async with aiohttp.ClientSession(timeout=limit, connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
        facts = await asyncio.gather(*(ask_replica(session, replica, probe=probe) for replica in replicas))
    return [
        finding for replica, found in zip(replicas, facts, strict=True) for finding in check_replica(replica, found)
    ]
