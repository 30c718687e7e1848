"""The backlog in Redis: what workers and the autoscaler publish and read, each call one round trip.

Every Redis fault, a hung Redis included, surfaces as `BacklogUnavailable` within the timeout. Calls may be repeated:
each publishes an absolute state. Callers that get `BacklogUnavailable` hold on to their last view: unknown is not zero.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import structlog

from backlog import codec, keys
from backlog.connection import BacklogUnavailable as BacklogUnavailable
from backlog.connection import Call, Connection, connect_redis
from backlog.records import DecisionRecord, PoolName, PoolView, ReplicaRecord, SeenReport, WorkerId, WorkerReport
from backlog.scripts import script

MAX_WORKERS = 1024
"""Most reports in one view, freshest first: it bounds how long one script can hold Redis."""

EXCHANGE = script("clock", "exchange", "view")
VIEW = script("clock", "view")
LEAVE = script("leave")
PUBLISH_DECISION = script("publish_decision")

_log = structlog.get_logger("backlog")


def connect(url: str, *, prefix: str = "wb", heartbeat_s: float = 3.0, timeout_s: float = 1.0) -> "Backlog":
    """A backlog on the Redis of `url`. Opens no connection yet; raises ValueError for a URL that is none."""
    return Backlog(connect_redis(url, timeout_s=timeout_s), prefix=prefix, heartbeat_s=heartbeat_s)


class Backlog:
    """Owns `connection` and closes it. Every process of one deployment must use the same `prefix` and `heartbeat_s`.

    `heartbeat_s`: a worker silent for longer is dead and its report is dropped; workers publish several times in it.
    """

    def __init__(self, connection: Connection, *, prefix: str = "wb", heartbeat_s: float = 3.0) -> None:
        if heartbeat_s < 0.001:
            raise ValueError(f"heartbeat_s={heartbeat_s} must be positive")
        self._connection = connection
        self._prefix = prefix
        self._heartbeat_ms = _milliseconds(heartbeat_s)

    async def exchange(self, pool: PoolName, report: WorkerReport) -> PoolView:
        """Publish `report` and read the whole pool, `report` included, in one round trip."""
        worker_key = keys.worker_key(self._prefix, pool, report.worker)
        (answer,) = await self._connection.run(
            Call(
                EXCHANGE,
                [*self._pool_keys(pool), worker_key],
                [*self._view_args(pool), report.worker, codec.encode_report(report)],
            )
        )
        return self._decode(pool, answer)

    async def view(self, pool: PoolName) -> PoolView:
        """Read the pool. Changes nothing in Redis."""
        (answer,) = await self._connection.run(Call(VIEW, self._pool_keys(pool), self._view_args(pool)))
        return self._decode(pool, answer)

    async def leave(self, pool: PoolName, worker: WorkerId) -> None:
        """Withdraw a worker's report now. A worker that never published is no error."""
        names = [keys.workers_key(self._prefix, pool), keys.worker_key(self._prefix, pool, worker)]
        await self._connection.run(Call(LEAVE, names, [worker]))

    async def publish_replicas(
        self, pool: PoolName, replicas: Sequence[ReplicaRecord], *, ttl_s: float = keys.REPLICAS_TTL_S
    ) -> None:
        """Replace the pool's replica list. Not renewed for `ttl_s`, it becomes unknown; an empty list means zero."""
        payload = codec.encode_replicas(replicas)
        await self._connection.ask("SET", keys.replicas_key(self._prefix, pool), payload, "PX", _milliseconds(ttl_s))

    async def publish_decision(self, pool: PoolName, decision: DecisionRecord, *, keep: int = 256) -> None:
        """Set the last decision and add it to the history, of which the newest `keep` stay."""
        if keep < 1:
            raise ValueError(f"keep={keep} must be at least 1")
        await self._connection.run(
            Call(
                PUBLISH_DECISION,
                [keys.decision_key(self._prefix, pool), keys.decisions_key(self._prefix, pool)],
                [
                    codec.encode_decision(decision),
                    _milliseconds(keys.DECISION_TTL_S),
                    keep,
                    _milliseconds(keys.DECISION_HISTORY_TTL_S),
                ],
            )
        )

    async def decisions(self, pool: PoolName, limit: int = 50) -> list[DecisionRecord]:
        """The newest decisions first, at most `limit`. Entries that cannot be read are left out and logged."""
        if limit < 1:
            return []
        key = keys.decisions_key(self._prefix, pool)
        history: list[DecisionRecord] = []
        for raw in await self._connection.ask("LRANGE", key, 0, limit - 1):
            try:
                history.append(codec.decode_decision(key, raw))
            except codec.CorruptRecord as error:
                _log.warning("decision in history is corrupt", pool=pool, key=key, error=error.detail)
        return history

    async def close(self) -> None:
        """Close the connections. A Redis that is away or hung does not hold the caller."""
        await self._connection.close()

    def _pool_keys(self, pool: PoolName) -> list[str]:
        return [name(self._prefix, pool) for name in (keys.workers_key, keys.replicas_key, keys.decision_key)]

    def _view_args(self, pool: PoolName) -> list[str | int]:
        return [keys.worker_key_stem(self._prefix, pool), self._heartbeat_ms, MAX_WORKERS]

    def _decode(self, pool: PoolName, answer: Any) -> PoolView:
        """From what view.lua returns. One corrupt record spoils the view: what is left would look like less work."""
        now_us, replicas, decision, flat = answer
        try:
            return PoolView(
                pool=pool,
                read_at_s=now_us / 1e6,
                reports=tuple(self._seen(pool, flat)),
                replicas=codec.decode_replicas(keys.replicas_key(self._prefix, pool), replicas)
                if replicas is not None
                else None,
                decision=codec.decode_decision(keys.decision_key(self._prefix, pool), decision)
                if decision is not None
                else None,
            )
        except codec.CorruptRecord as error:
            raise BacklogUnavailable(f"corrupt record at {error}") from error

    def _seen(self, pool: PoolName, flat: Sequence[Any]) -> Iterator[SeenReport]:
        stem = keys.worker_key_stem(self._prefix, pool)
        for worker, raw, age_us in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
            name = worker.decode(errors="replace") if isinstance(worker, bytes) else worker
            yield SeenReport(report=codec.decode_report(stem + name, raw), age_s=age_us / 1e6)


def _milliseconds(duration_s: float) -> int:
    if not duration_s >= 0.001:
        raise ValueError(f"a TTL of {duration_s} s is shorter than a millisecond")
    return round(duration_s * 1000)
