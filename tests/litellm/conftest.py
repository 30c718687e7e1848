"""The LiteLLM proxies that tests share, started side by side by the first test that asks for one.

Each model group has ports of its own for its replicas: a test starts the replicas there, and they are gone after it.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Any

import pytest

from backlog.records import PoolName, PoolView
from backlog.store import connect
from tests.litellm.proxy import SPEND_LOG, Client, Group, Proxy, configuration, litellm_proxy, ready
from tests.litellm.replicas import Replica, free_ports, running
from tests.redis_servers import Server, start_redis

ONE_SLOT, TWO_SLOTS = 1, 250
"""KV tokens with which a replica is given so many of the tests' requests at once: an empty one always has room."""
RETRIES = 2
"""LiteLLM's own: three attempts."""


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
        assert self._redis is not None
        backlog = connect(self._redis["url"], prefix=self._redis["prefix"])
        try:
            return await backlog.view(PoolName(pool))
        finally:
            await backlog.close()

    async def in_flight(self, pool: str) -> int:
        """Requests that the plugin's workers believe to run, over all replicas."""
        reports = (await self.view(pool)).reports
        return sum(share.requests for seen in reports for share in seen.report.running.values())

    async def waiting(self, pool: str) -> int:
        """Tickets in the shared queue."""
        return (await self.view(pool)).queue.tickets


@pytest.fixture(scope="session")
def litellm_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_redis(tmp_path_factory.mktemp("litellm-redis")) as server:
        yield server


@pytest.fixture(scope="session")
def stands(tmp_path_factory: pytest.TempPathFactory, litellm_redis: Server) -> Iterator[dict[str, Stand]]:
    """`plain`: LiteLLM alone. `one` and `two`: with the plugin, in so many workers."""
    ports = iter(free_ports(40))

    def take(count: int) -> list[int]:
        return [next(ports) for _ in range(count)]

    with ExitStack() as stack:
        stands = {}
        for name, workers in (("plain", 1), ("one", 1), ("two", 2)):
            groups = {
                "m": Group(take(4), {}),
                "slots": Group(take(2), {"kv_tokens": TWO_SLOTS}),
                "single": Group(take(1), {"kv_tokens": ONE_SLOT}),
                "narrow": Group(take(1), {"kv_tokens": ONE_SLOT, "limits": {"max_waiting": 1}}),
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
            proxy = stack.enter_context(litellm_proxy(config, folder, next(ports), workers=workers))
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
