"""The backlog in Redis: what workers and the autoscaler publish and read, each call one round trip.

Every Redis fault, a hung Redis included, surfaces as `BacklogUnavailable` within the timeout. Calls may be repeated:
what they say is absolute or numbered. Callers that get `BacklogUnavailable` hold on to their last view: unknown is not
zero.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog

from backlog import codec, keys
from backlog.connection import BacklogUnavailable as BacklogUnavailable
from backlog.connection import Call, Connection, connect_redis
from backlog.order import Order
from backlog.records import (
    DecisionRecord,
    Lease,
    PoolName,
    PoolView,
    ReplicaRecord,
    ReplicaState,
    WorkerId,
    WorkerReport,
)
from backlog.scripts import script
from backlog.turn import PoolScripts, Reply, Turn

HEARTBEAT_S = 2.5
"""A worker silent for longer is dead: its tickets and its work are gone within 3 s of its end."""
PUBLISH_DECISION = script("publish_decision")

_log = structlog.get_logger("backlog")


def connect(
    url: str,
    *,
    prefix: str = "wb",
    heartbeat_s: float = HEARTBEAT_S,
    timeout_s: float = 1.0,
    orders: Mapping[PoolName, Order] | None = None,
) -> "Backlog":
    """A backlog on the Redis of `url`. Opens no connection yet; raises ValueError for a URL that is none."""
    return Backlog(connect_redis(url, timeout_s=timeout_s), prefix=prefix, heartbeat_s=heartbeat_s, orders=orders)


class Backlog:
    """Owns `connection` and closes it. Every process of one deployment must use the same `prefix` and `heartbeat_s`.

    `heartbeat_s`: a worker silent for longer is dead and its report is dropped; workers publish several times in it.
    `orders`: of the pools whose tickets this process moves; others count as fair.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        prefix: str = "wb",
        heartbeat_s: float = HEARTBEAT_S,
        orders: Mapping[PoolName, Order] | None = None,
    ) -> None:
        if heartbeat_s < 0.001:
            raise ValueError(f"heartbeat_s={heartbeat_s} must be positive")
        self._connection = connection
        self._prefix = prefix
        self._heartbeat_s = heartbeat_s
        self._orders = dict(orders or {})
        self._scripts: dict[PoolName, PoolScripts] = {}

    async def turn(self, pool: PoolName, worker: WorkerId, turn: Turn) -> Reply:
        """Say and hear everything in `turn` at once."""
        scripts = self._pool(pool)
        answers = await self._connection.run(*scripts.calls(worker, turn))
        with _mapped():
            return scripts.reply(turn, answers)

    async def mail(self, pool: PoolName, worker: WorkerId, *, wait_s: float) -> bytes | None:
        """The next message to a worker, or `None` when none came within `wait_s`."""
        return await self._connection.pop(keys.mail_stem(self._prefix, pool) + worker, wait_s=wait_s)

    def lease_from_mail(self, pool: PoolName, message: bytes) -> Lease:
        """The lease in a message that begins with `L`."""
        with _mapped():
            return self._pool(pool).lease_from_mail(message)

    async def exchange(self, pool: PoolName, report: WorkerReport) -> PoolView:
        """Publish `report` and read the whole pool, `report` included, in one round trip."""
        reply = await self.turn(pool, report.worker, Turn(report=report, look=True))
        assert reply.view is not None
        return reply.view

    async def view(self, pool: PoolName) -> PoolView:
        """Read the pool. Changes nothing in Redis."""
        scripts = self._pool(pool)
        (answer,) = await self._connection.run(scripts.view())
        with _mapped():
            return scripts.read(answer)

    async def leave(self, pool: PoolName, worker: WorkerId) -> None:
        """Withdraw a worker's report and its tickets now. A worker that never published is no error."""
        await self._connection.run(self._pool(pool).leave(worker, stays=False))

    async def withdraw(self, pool: PoolName, worker: WorkerId) -> None:
        """Forget a worker's tickets. Its report stays, for the others to know what it runs, until it sends the next."""
        await self._connection.run(self._pool(pool).leave(worker, stays=True))

    async def publish_replicas(
        self, pool: PoolName, replicas: Sequence[ReplicaRecord], *, ttl_s: float = keys.REPLICAS_TTL_S
    ) -> None:
        """Replace the pool's replica list. Not renewed for `ttl_s`, it becomes unknown; an empty list means zero."""
        payload = codec.encode_replicas(replicas)
        draining = [replica.name for replica in replicas if replica.state is ReplicaState.DRAINING]
        names = [replica.name for replica in replicas]
        await self._connection.run(self._pool(pool).drain(payload, _milliseconds(ttl_s), draining, names))

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

    def _pool(self, pool: PoolName) -> PoolScripts:
        scripts = self._scripts.get(pool)
        if scripts is None:
            order = self._orders.get(pool, Order.FAIR)
            scripts = PoolScripts(pool, prefix=self._prefix, heartbeat_s=self._heartbeat_s, order=order)
            self._scripts[pool] = scripts
        return scripts


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except codec.CorruptRecord as error:
        raise BacklogUnavailable(f"corrupt record at {error}") from error


def _milliseconds(duration_s: float) -> int:
    if not duration_s >= 0.001:
        raise ValueError(f"a TTL of {duration_s} s is shorter than a millisecond")
    return round(duration_s * 1000)
