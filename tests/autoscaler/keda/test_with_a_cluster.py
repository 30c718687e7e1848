"""KEDA's number, the pods' marks and a Deployment together: who goes is who has drained, and nobody else."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest

from autoscaler.keda.answer import Answer, answer
from autoscaler.kube.target import Writes
from backlog.records import ReplicaState
from tests.autoscaler.keda.builders import decided
from tests.autoscaler.kube.pool import Pool, a_pool
from tests.kube.server import FakeServer

LIMIT_S = 60.0


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as fake:
        yield fake


@dataclass(slots=True, kw_only=True)
class Hpa:
    """What KEDA's HPA does at each sync: it writes the number that it is told. It remembers every number."""

    pool: Pool
    written: list[int] = field(default_factory=list)

    def sync(self, desired: int) -> int:
        look = self.pool.look()
        said = answer(replace(look, decision=decided(desired, at_s=look.read_at_s)), limit_s=LIMIT_S)
        assert isinstance(said, Answer)
        if said.replicas != self.pool.replicas():
            self.pool.server.store.change("deployments", "chat", {"spec": {"replicas": said.replicas}})
            self.written.append(said.replicas)
        return said.replicas

    async def until_gone(self, desired: int, count: int) -> None:
        """Sync and let the scaler move on until so many pods are left, and once more when all is quiet."""
        await self.pool.until(lambda: self.sync(desired) >= 0 and len(self.pool.names()) == count, "the HPA's part")
        self.sync(desired)


async def test_the_number_falls_when_the_drain_is_over_and_the_drained_pod_goes(server: FakeServer) -> None:
    async with a_pool(server, replicas=3, writes=Writes.MARKS) as pool:
        hpa, (first, *others) = Hpa(pool=pool), pool.names()
        pool.busy = {first: 1, others[0]: 5, others[1]: 5}
        assert hpa.sync(2) == 3, "decided, and not yet marked: all three serve"
        await pool.apply(2)
        await pool.until(lambda: pool.states()[first] == ReplicaState.DRAINING)
        for _ in range(5):
            await pool.scaler.advance(pool.look())
            assert hpa.sync(2) == 3, "a request runs there"
        pool.busy = {others[0]: 5, others[1]: 5}
        await hpa.until_gone(2, 2)
        assert pool.names() == sorted(others)
        assert (hpa.written, pool.replicas(), pool.writes()) == ([2], 2, 0)


async def test_a_pod_that_is_going_is_not_replaced(server: FakeServer) -> None:
    async with a_pool(server, replicas=2, writes=Writes.MARKS) as pool:
        hpa = Hpa(pool=pool)
        await pool.apply(0)
        await hpa.until_gone(0, 0)
        assert hpa.written[-1] == 0
        assert hpa.written == sorted(hpa.written, reverse=True)


async def test_load_that_returns_during_a_drain_revives_the_replica(server: FakeServer) -> None:
    async with a_pool(server, replicas=2, writes=Writes.MARKS) as pool:
        hpa, (first, other) = Hpa(pool=pool), pool.names()
        pool.busy = {first: 1, other: 5}
        await pool.apply(1)
        await pool.until(lambda: pool.states()[first] == ReplicaState.DRAINING)
        assert hpa.sync(1) == 2
        await pool.apply(2)
        await pool.until(lambda: pool.states()[first] == ReplicaState.READY)
        assert (hpa.sync(2), hpa.written, pool.names()) == (2, [], [first, other])


async def test_more_is_ordered_at_once(server: FakeServer) -> None:
    async with a_pool(server, replicas=1, writes=Writes.MARKS) as pool:
        hpa = Hpa(pool=pool)
        await pool.apply(3)
        assert hpa.sync(3) == 3
        await pool.until(lambda: len(pool.names(ReplicaState.READY)) == 3)
        assert (hpa.sync(3), hpa.written, pool.writes()) == (3, [3], 0)
