"""Every Redis key of Weighbridge, and how long it lives. Pure.

The braces are a cluster hash tag: all keys of one pool share one slot, so one script may touch them all.
"""

from datetime import date

from backlog.records import PoolName, WorkerId

REPLICAS_TTL_S = 60.0
"""A replica list that nobody renewed for this long is unknown."""
DECISION_TTL_S = 3600.0
DECISION_HISTORY_TTL_S = 7 * 24 * 3600.0
QUEUE_TTL_S = 3600.0
"""A queue that nothing changed for this long is empty: requests do not wait for an hour."""
USAGE_TTL_S = 400 * 24 * 3600.0
SPENT_DAY_TTL_S = 2 * 24 * 3600.0
SPENT_MONTH_TTL_S = 32 * 24 * 3600.0
CALIBRATION_TTL_S = 7 * 24 * 3600.0
"""What has been learned of a pool's replicas is worth a restart or a weekend."""
BOOKED_TTL_S = 24 * 3600.0
"""A batch whose answer was lost longer ago than this could be booked twice."""

PERMANENT_KEYS: frozenset[str] = frozenset()
"""Last parts of keys that may stay in Redis without a TTL. There are none: whatever dies, Redis empties itself."""


def worker_key(prefix: str, pool: PoolName, worker: WorkerId) -> str:
    """String with one worker's report. TTL: the heartbeat limit, so a dead worker's share expires."""
    return f"{_root(prefix, pool)}:worker:{worker}"


def worker_key_stem(prefix: str, pool: PoolName) -> str:
    """What `worker_key` puts before the worker id; scripts append the ids they find in `workers_key`."""
    return worker_key(prefix, pool, WorkerId(""))


def workers_key(prefix: str, pool: PoolName) -> str:
    """Sorted set of worker ids, score = Redis clock of the last report in microseconds. TTL: `QUEUE_TTL_S`."""
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


def ticket_bodies_key(prefix: str, pool: PoolName) -> str:
    """Hash: ticket id -> arrival, key, band, overdue, body (JSON of `Ticket`). TTL: `QUEUE_TTL_S` after a change."""
    return f"{_root(prefix, pool)}:tickets"


def line_stem(prefix: str, pool: PoolName) -> str:
    """Completed by `BAND:TENANT`. Sorted set of waiting ticket ids, score = key in seconds. TTL: `QUEUE_TTL_S`."""
    return f"{_root(prefix, pool)}:line:"


def band_stem(prefix: str, pool: PoolName) -> str:
    """Completed by a band. Sorted set of tenants that wait in it, score = what decides their turn. TTL: as a line."""
    return f"{_root(prefix, pool)}:band:"


def owned_stem(prefix: str, pool: PoolName) -> str:
    """Completed by a worker id. Set of its ticket ids, waiting or leased. TTL: `QUEUE_TTL_S`."""
    return f"{_root(prefix, pool)}:owned:"


def bounds_key(prefix: str, pool: PoolName) -> str:
    """Sorted set of ticket ids, score = when they have waited as long as their bound. TTL: `QUEUE_TTL_S`."""
    return f"{_root(prefix, pool)}:bounds"


def leases_key(prefix: str, pool: PoolName) -> str:
    """Sorted set of leased ticket ids, score = end of the lease in microseconds. TTL: `QUEUE_TTL_S`."""
    return f"{_root(prefix, pool)}:leases"


def leased_key(prefix: str, pool: PoolName) -> str:
    """Hash: leased ticket id -> the `Lease`. TTL: `QUEUE_TTL_S`."""
    return f"{_root(prefix, pool)}:leased"


def virtual_key(prefix: str, pool: PoolName) -> str:
    """Hash: `now:BAND` -> virtual time, `t:BAND:TENANT` -> finish tag, `woken` -> last wake-up. TTL: `QUEUE_TTL_S`."""
    return f"{_root(prefix, pool)}:virtual"


def sums_key(prefix: str, pool: PoolName) -> str:
    """Hash: `tickets` -> how many wait, `since` -> since when, `BAND:TENANT` -> GPU-seconds. Gone when empty."""
    return f"{_root(prefix, pool)}:sums"


def claimed_key(prefix: str, pool: PoolName) -> str:
    """Hash: `p:REPLICA` -> prefill seconds ever claimed for it, `k:REPLICA` -> KV tokens. TTL: `QUEUE_TTL_S`."""
    return f"{_root(prefix, pool)}:claimed"


def counted_key(prefix: str, pool: PoolName) -> str:
    """Hash: replica -> how many requests were ever claimed for it. TTL: `QUEUE_TTL_S`."""
    return f"{_root(prefix, pool)}:counted"


def mail_stem(prefix: str, pool: PoolName) -> str:
    """Completed by a worker id. List: `L` and a lease, `E` and an evicted id, `W`. TTL: the heartbeat limit."""
    return f"{_root(prefix, pool)}:mail:"


def paces_key(prefix: str, pool: PoolName) -> str:
    """Hash: tenant -> level of its bucket of prefill seconds, and when that was. TTL: `QUEUE_TTL_S`."""
    return f"{_root(prefix, pool)}:paces"


def flying_stem(prefix: str, pool: PoolName) -> str:
    """Completed by a worker id. Hash: tenant with a limit -> its GPU-seconds in flight. TTL: the heartbeat limit."""
    return f"{_root(prefix, pool)}:flying:"


def batch_stem(prefix: str, pool: PoolName) -> str:
    """Completed by a worker id. Number of the last batch of charges that was applied. TTL: `QUEUE_TTL_S`."""
    return f"{_root(prefix, pool)}:batch:"


def draining_key(prefix: str, pool: PoolName) -> str:
    """Set of the replicas that drain, as in the replica list. TTL: that of the list."""
    return f"{_root(prefix, pool)}:draining"


def calibration_key(prefix: str, pool: PoolName) -> str:
    """String with what has been learned of the replicas' speed. TTL: `CALIBRATION_TTL_S` after the last lesson."""
    return f"{_root(prefix, pool)}:calibration"


def pool_keys(prefix: str, pool: PoolName) -> list[str]:
    """All keys and stems of a pool, in the order in which `names.lua` takes them."""
    return [name(prefix, pool) for name in POOL_KEYS]


POOL_KEYS = (
    workers_key,
    worker_key_stem,
    replicas_key,
    decision_key,
    ticket_bodies_key,
    line_stem,
    band_stem,
    owned_stem,
    bounds_key,
    leases_key,
    leased_key,
    virtual_key,
    sums_key,
    claimed_key,
    mail_stem,
    paces_key,
    flying_stem,
    batch_stem,
    draining_key,
    counted_key,
)


def usage_key(prefix: str, day: date) -> str:
    """Hash: `TENANT POOL MODEL NAME` -> what was used on a day of UTC (`Usage`). TTL: `USAGE_TTL_S`."""
    return f"{usage_stem(prefix)}{day.isoformat()}"


def usage_stem(prefix: str) -> str:
    """What `usage_key` puts before the day; the day is that of the Redis clock."""
    return f"{_tenants(prefix)}:usage:"


def spent_stem(prefix: str) -> str:
    """Completed by a day or a month of UTC. Hash: `gpu_s TENANT` and `money TENANT` -> what was charged in it.

    TTL: `SPENT_DAY_TTL_S`, `SPENT_MONTH_TTL_S`.
    """
    return f"{_tenants(prefix)}:spent:"


def bucket_stem(prefix: str) -> str:
    """Completed by a tenant. Hash: `level` in GPU-seconds and `at`, Redis clock in us. TTL: until it would be full."""
    return f"{_tenants(prefix)}:bucket:"


def booked_key(prefix: str, worker: str) -> str:
    """Number of the last batch of a worker that was booked. TTL: `BOOKED_TTL_S`."""
    return f"{_tenants(prefix)}:booked:{worker}"


def _tenants(prefix: str) -> str:
    """The accounts of all tenants share a slot. No key of a pool that is called `tenants` is in the way."""
    return _root(prefix, PoolName("tenants"))


def _root(prefix: str, pool: PoolName) -> str:
    """Raises ValueError where a brace or an empty name would move the pool's keys to several slots."""
    if not pool or "{" in pool or "}" in pool:
        raise ValueError(f"pool name {pool!r} must not be empty or contain braces")
    if "{" in prefix or "}" in prefix:
        raise ValueError(f"key prefix {prefix!r} must not contain braces")
    return f"{prefix}:{{{pool}}}"
