"""Every Redis key of Weighbridge, and how long it lives. Pure.

The braces are a cluster hash tag: all keys of one pool share one slot, so one script may touch them all.
"""

from backlog.records import PoolName, WorkerId

REPLICAS_TTL_S = 60.0
"""A replica list that nobody renewed for this long is unknown."""
DECISION_TTL_S = 3600.0
DECISION_HISTORY_TTL_S = 7 * 24 * 3600.0

PERMANENT_KEYS: frozenset[str] = frozenset()
"""Last parts of keys that may stay in Redis without a TTL. There are none: whatever dies, Redis empties itself."""


def worker_key(prefix: str, pool: PoolName, worker: WorkerId) -> str:
    """String with one worker's report. TTL: the heartbeat limit, so a dead worker's share expires."""
    return f"{_root(prefix, pool)}:worker:{worker}"


def worker_key_stem(prefix: str, pool: PoolName) -> str:
    """What `worker_key` puts before the worker id; scripts append the ids they find in `workers_key`."""
    return worker_key(prefix, pool, WorkerId(""))


def workers_key(prefix: str, pool: PoolName) -> str:
    """Sorted set of worker ids, score = Redis clock of the last report in microseconds. TTL: the heartbeat limit."""
    return f"{_root(prefix, pool)}:workers"


def replicas_key(prefix: str, pool: PoolName) -> str:
    """String with the scaler's whole replica list. TTL: `REPLICAS_TTL_S` unless its publisher says otherwise."""
    return f"{_root(prefix, pool)}:replicas"


def decision_key(prefix: str, pool: PoolName) -> str:
    """String with the last scaling decision. TTL: `DECISION_TTL_S`."""
    return f"{_root(prefix, pool)}:decision"


def decisions_key(prefix: str, pool: PoolName) -> str:
    """List of the latest decisions, newest first, capped by its publisher. TTL: `DECISION_HISTORY_TTL_S`."""
    return f"{_root(prefix, pool)}:decisions"


def _root(prefix: str, pool: PoolName) -> str:
    """Raises ValueError where a brace or an empty name would move the pool's keys to several slots."""
    if not pool or "{" in pool or "}" in pool:
        raise ValueError(f"pool name {pool!r} must not be empty or contain braces")
    if "{" in prefix or "}" in prefix:
        raise ValueError(f"key prefix {prefix!r} must not contain braces")
    return f"{prefix}:{{{pool}}}"
