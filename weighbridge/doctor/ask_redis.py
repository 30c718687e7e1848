"""Asks one Redis what it is. Changes nothing in it."""

from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

from backlog.connection import BacklogUnavailable, Connection
from backlog.records import PoolName, PoolView
from backlog.store import Backlog
from weighbridge.doctor.store import RedisFacts

PINGS = 10

Clock = Callable[[], float]


async def ask_redis(
    connection: Connection, prefix: str, pools: Iterable[str], *, clock: Clock, wall_clock: Clock
) -> tuple[RedisFacts, dict[str, PoolView]]:
    """What the Redis tells, and what is in it of each pool. `wall_clock` is Unix time, `clock` never goes back."""
    try:
        await connection.ask("PING")
    except BacklogUnavailable as error:
        return RedisFacts(away=error.cause), {}
    views: dict[str, PoolView] = {}
    refused = None
    backlog = Backlog(connection, prefix=prefix)
    try:
        for pool in pools:
            views[pool] = await backlog.view(PoolName(pool))
    except BacklogUnavailable as error:
        refused = error.cause
    server, memory = await _info(connection, "server"), await _info(connection, "memory")
    limit = memory.get("maxmemory")
    facts = RedisFacts(
        version=_text(server.get("redis_version")),
        eviction=_text(memory.get("maxmemory_policy")),
        max_memory_bytes=limit if isinstance(limit, int) else None,
        clock_ahead_s=await _ahead_s(connection, wall_clock),
        ping_s=await _ping_s(connection, clock),
        refused=refused,
    )
    return facts, views


async def _info(connection: Connection, section: str) -> dict[str, Any]:
    """Empty where Redis does not allow it."""
    try:
        return _one(await connection.ask("INFO", section))
    except BacklogUnavailable:
        return {}


def _one(answer: Any) -> dict[str, Any]:
    """Of a cluster's answers, one per node, the first."""
    if not isinstance(answer, dict):
        return {}
    first = next(iter(answer.values()), None)
    return first if isinstance(first, dict) else answer


async def _ahead_s(connection: Connection, wall_clock: Clock) -> float | None:
    before_s = wall_clock()
    try:
        answer = await connection.ask("TIME")
    except BacklogUnavailable:
        return None
    after_s = wall_clock()
    if isinstance(answer, dict):
        answer = next(iter(answer.values()), None)
    try:
        seconds, microseconds = (int(part) for part in answer)
    except (TypeError, ValueError):
        return None
    return seconds + microseconds / 1e6 - (before_s + after_s) / 2


async def _ping_s(connection: Connection, clock: Clock) -> float | None:
    times = []
    for _ in range(PINGS):
        before_s = clock()
        try:
            await connection.ask("PING")
        except BacklogUnavailable:
            break
        times.append(clock() - before_s)
    return median(times) if times else None


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value) if value is not None else None
