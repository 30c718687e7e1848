"""The LiteLLM proxies that tests share, started side by side by the first test that asks for one.

Each model group has ports of its own for its replicas: a test starts the replicas there, and they are gone after it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from typing import Any

import pytest

from backlog.records import PoolName, PoolView, ReplicaName, ReplicaRecord, ReplicaState
from backlog.store import Backlog, connect
from tests.flows.conftest import until
from tests.litellm.proxy import SPEND_LOG, Answer, Client, Group, Proxy, configuration, litellm_proxy, ready
from tests.litellm.replicas import Replica, free_ports, running
from tests.redis_servers import Server, start_redis

ONE_SLOT, TWO_SLOTS = 1, 250
"""KV tokens with which a replica is given so many of the tests' requests at once: an empty one always has room."""
RETRIES = 2
"""LiteLLM's own: three attempts."""


Call = Callable[[], Coroutine[Any, Any, Answer]]


class Stand:
    """A proxy, and what is around it: its groups' replicas and its part of Redis."""

    def __init__(self, proxy: Proxy, groups: dict[str, Group], redis: dict[str, str] | None) -> None:
        self.proxy = proxy
        self._groups = groups
        self._redis = redis

    def replicas(self, group: str, **fields: Any) -> AbstractAsyncContextManager[list[Replica]]:
        """All replicas of a group, running."""
        return running(self._groups[group].ports, **fields)

    def client(self) -> AbstractAsyncContextManager[Client]:
        return self.proxy.client()

    async def view(self, pool: str) -> PoolView:
        """What the plugin's workers have published."""
        async with self._backlog() as backlog:
            return await backlog.view(PoolName(pool))

    async def publish(self, pool: str, replicas: Mapping[str, str]) -> None:
        """What an autoscaler says: ready replicas by name and address."""
        records = [
            ReplicaRecord(name=ReplicaName(name), url=url, state=ReplicaState.READY, created_at_s=0.0)
            for name, url in replicas.items()
        ]
        async with self._backlog() as backlog:
            await backlog.publish_replicas(PoolName(pool), records)

    @asynccontextmanager
    async def _backlog(self) -> AsyncIterator[Backlog]:
        assert self._redis is not None
        backlog = connect(self._redis["url"], prefix=self._redis["prefix"])
        try:
            yield backlog
        finally:
            await backlog.close()

    async def in_flight(self, pool: str) -> int:
        """Requests that the plugin's workers believe to run, over all replicas."""
        reports = (await self.view(pool)).reports
        return sum(share.in_flight for seen in reports for share in seen.report.running.values())

    async def busy(self, pool: str) -> int:
        """Workers in which calls run or wait."""
        reports = [seen.report for seen in (await self.view(pool)).reports]
        return sum(
            report.waiting > 0 or any(share.in_flight for share in report.running.values()) for report in reports
        )

    async def waiting(self, pool: str) -> int:
        """Tickets in the shared queue."""
        return (await self.view(pool)).queue.tickets

    async def line_up(self, calls: Sequence[Call], pool: str, replica: Replica) -> list["asyncio.Task[Answer]"]:
        """Make calls one after the other: the first runs on `replica`, the others wait. They stay so."""
        replica.begin.clear()
        tasks = []
        for call in calls:
            tasks.append(asyncio.create_task(call()))
            await until(lambda: replica.running == 1)
            await self.waits(pool, len(tasks) - 1)
        return tasks

    async def idle(self, pool: str, *, limit_s: float = 10.0) -> None:
        """Wait until nothing waits and nothing runs, as far as the workers know."""
        await until(lambda: self._waits(pool, 0), limit_s=limit_s)
        await until(lambda: self._runs(pool, 0), limit_s=limit_s)

    async def waits(self, pool: str, count: int) -> None:
        """Wait until so many tickets are in the shared queue."""
        await until(lambda: self._waits(pool, count))

    async def _waits(self, pool: str, count: int) -> bool:
        return await self.waiting(pool) == count

    async def _runs(self, pool: str, count: int) -> bool:
        return await self.in_flight(pool) == count


@pytest.fixture(scope="session")
def litellm_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_redis(tmp_path_factory.mktemp("litellm-redis")) as server:
        yield server


@pytest.fixture(scope="session")
def stands(tmp_path_factory: pytest.TempPathFactory, litellm_redis: Server) -> Iterator[dict[str, Stand]]:
    """`plain`: LiteLLM alone. `one` and `two`: with the plugin, in so many workers; `one` has a file for it."""
    ports = iter(free_ports(60))

    def take(count: int) -> list[int]:
        return [next(ports) for _ in range(count)]

    with ExitStack() as stack:
        stands = {}
        for name, workers in (("plain", 1), ("one", 1), ("two", 2)):
            groups = {
                "m": Group(take(4), {}),
                "failing": Group(take(3), {}),
                "dying": Group(take(4), {}),
                "slots": Group(take(2), {"kv_tokens": TWO_SLOTS}),
                "single": Group(take(1), {"kv_tokens": ONE_SLOT}),
                "narrow": Group(take(1), {"kv_tokens": ONE_SLOT, "limits": {"max_waiting": 1}}),
                "live": Group(take(1), {"replicas": {"kubernetes": {"name": "live", "min": 0, "max": 4}}}),
                "other": Group(take(1)),
            }
            redis = None if name == "plain" else {"url": litellm_redis.url, "prefix": name}
            config = configuration(
                groups,
                redis=redis,
                callbacks=[SPEND_LOG, "prometheus"],
                router={"num_retries": RETRIES, "fallbacks": [{"narrow": ["other"]}]},
            )
            folder = tmp_path_factory.mktemp(f"litellm-{name}")
            started = litellm_proxy(config, folder, next(ports), workers=workers, own_file=name == "one")
            proxy = stack.enter_context(started)
            stands[name] = Stand(proxy, groups, redis)
        for stand in stands.values():
            ready(stand.proxy)
        yield stands


@pytest.fixture
def plain(stands: dict[str, Stand]) -> Stand:
    return stands["plain"]


@pytest.fixture
def one(stands: dict[str, Stand]) -> Stand:
    return stands["one"]


@pytest.fixture
def two(stands: dict[str, Stand]) -> Stand:
    return stands["two"]


@pytest.fixture
async def client(one: Stand) -> AsyncIterator[Client]:
    """Of the proxy `one`."""
    async with one.client() as client:
        yield client
