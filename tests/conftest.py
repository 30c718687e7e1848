"""A real Redis for every test that asks for one, and proof that no test leaves a key behind for ever."""

import os
from collections.abc import AsyncIterator, Iterator
from itertools import count

import pytest
from hypothesis import settings
from redis import Redis

from backlog.embedded import EmbeddedRedis, EmbeddedRedisMissing
from backlog.keys import PERMANENT_KEYS
from backlog.store import Backlog, connect

# A busy machine must not fail a test. A profile given on the command line stays.
if settings.get_current_profile_name() in ("default", "ci"):
    settings.register_profile("no-deadline", deadline=None)
    settings.load_profile("no-deadline")

_prefixes = count()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """One Redis for the whole run. Tests that kill or stop a Redis start their own."""
    try:
        server = EmbeddedRedis.start()
    except EmbeddedRedisMissing as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have a Redis server: {error}")
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    return redis_server.url


@pytest.fixture
def no_leaked_keys(redis_server: EmbeddedRedis) -> Iterator[None]:
    """Fail the test if it leaves a key that has no TTL and is not in PERMANENT_KEYS; then empty Redis."""
    yield
    with Redis.from_url(redis_server.url, decode_responses=True) as client:
        leaked = leaked_keys(client)
        client.flushall()
    assert not leaked, f"keys without a TTL: {leaked}"


@pytest.fixture
def redis_prefix(no_leaked_keys: None) -> str:
    """A key prefix that no other test uses. Asking for it checks for leaks."""
    return f"test{next(_prefixes)}"


@pytest.fixture
async def backlog(redis_url: str, redis_prefix: str) -> AsyncIterator[Backlog]:
    """An empty backlog on the shared Redis."""
    store = connect(redis_url, prefix=redis_prefix)
    yield store
    await store.close()


def leaked_keys(client: Redis) -> list[str]:
    keys = [key for key in client.scan_iter(count=1000) if key.rsplit(":", 1)[-1] not in PERMANENT_KEYS]
    return sorted(key for key in keys if client.ttl(key) == -1)
