"""The fixture that watches every test: it must see what it is there to see."""

from redis import Redis

from backlog.store import Backlog
from tests.backlog.samples import POOL, decision, replica, worker_report
from tests.conftest import leaked_keys


def test_a_key_without_a_ttl_is_a_leak_and_one_with_a_ttl_is_not(redis_url: str, redis_prefix: str) -> None:
    with Redis.from_url(redis_url, decode_responses=True) as client:
        client.set(f"{redis_prefix}:{{a}}:kept", "x")
        client.set(f"{redis_prefix}:{{a}}:ends", "x", ex=60)
        assert leaked_keys(client) == [f"{redis_prefix}:{{a}}:kept"]
        client.flushall()


async def test_nothing_that_the_backlog_writes_is_a_leak(backlog: Backlog, redis_url: str) -> None:
    await backlog.exchange(POOL, worker_report())
    await backlog.publish_replicas(POOL, [replica()])
    await backlog.publish_decision(POOL, decision())
    with Redis.from_url(redis_url, decode_responses=True) as client:
        assert len(list(client.scan_iter())) == 5
        assert leaked_keys(client) == []
