import json
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from backlog import keys
from backlog.records import PoolName, PoolView, ReplicaState, WorkerId
from backlog.store import Backlog, BacklogUnavailable, connect
from backlog.turn import MAX_WORKERS
from tests.backlog.samples import POOL, decision, replica, worker_report
from tests.backlog.waiting import LIMIT_S

OTHER = PoolName("embed")


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


def workers(view: PoolView) -> set[str]:
    return {seen.report.worker for seen in view.reports}


async def test_an_untouched_pool_has_no_reports_and_unknown_replicas(backlog: Backlog) -> None:
    view = await backlog.view(POOL)
    assert (view.pool, view.reports, view.replicas, view.decision) == (POOL, (), None, None)


async def test_an_exchange_publishes_its_report_and_returns_every_live_one(backlog: Backlog) -> None:
    first, second = worker_report("w1", arrived=3), worker_report("w2", arrived=4)
    assert workers(await backlog.exchange(POOL, first)) == {"w1"}
    view = await backlog.exchange(POOL, second)
    assert {seen.report.worker: seen.report for seen in view.reports} == {"w1": first, "w2": second}


async def test_an_exchange_shows_replicas_and_decision(backlog: Backlog) -> None:
    await backlog.publish_replicas(POOL, [replica("r0"), replica("r1", ReplicaState.DRAINING)])
    await backlog.publish_decision(POOL, decision(7.0))
    view = await backlog.exchange(POOL, worker_report())
    assert view.replicas == (replica("r0"), replica("r1", ReplicaState.DRAINING))
    assert view.decision == decision(7.0)


async def test_an_empty_replica_list_is_zero_replicas_not_unknown(backlog: Backlog) -> None:
    await backlog.publish_replicas(POOL, [])
    assert (await backlog.view(POOL)).replicas == ()


async def test_a_replica_list_that_nobody_renews_becomes_unknown(backlog: Backlog) -> None:
    await backlog.publish_replicas(POOL, [replica()], ttl_s=0.05)
    while (await backlog.view(POOL)).replicas is not None:
        pass


async def test_a_worker_that_falls_silent_drops_out_and_leaves_nothing(
    redis: Redis, redis_url: str, redis_prefix: str
) -> None:
    backlog = connect(redis_url, prefix=redis_prefix, heartbeat_s=0.05)
    await backlog.exchange(POOL, worker_report())
    while (await backlog.view(POOL)).reports:
        pass
    while await redis.keys(f"{redis_prefix}:*w1*"):
        pass
    # Its name goes when the next worker reports.
    await backlog.exchange(POOL, worker_report("w2"))
    assert await redis.zrange(keys.workers_key(redis_prefix, POOL), 0, -1) == [b"w2"]
    await backlog.close()


async def test_the_age_of_a_report_grows_by_the_redis_clock(backlog: Backlog) -> None:
    first = await backlog.exchange(POOL, worker_report())
    assert first.reports[0].age_s < LIMIT_S
    later = await backlog.view(POOL)
    while later.read_at_s == first.read_at_s:
        later = await backlog.view(POOL)
    elapsed_s = later.read_at_s - first.read_at_s
    assert later.reports[0].age_s - first.reports[0].age_s == pytest.approx(elapsed_s, abs=1e-5)


async def test_a_worker_that_leaves_is_gone_at_once_and_may_leave_twice(backlog: Backlog) -> None:
    await backlog.exchange(POOL, worker_report("w1"))
    await backlog.exchange(POOL, worker_report("w2"))
    await backlog.leave(POOL, WorkerId("w1"))
    await backlog.leave(POOL, WorkerId("w1"))
    assert workers(await backlog.view(POOL)) == {"w2"}


async def test_a_worker_that_withdraws_its_tickets_stays(backlog: Backlog) -> None:
    await backlog.exchange(POOL, worker_report("w1"))
    await backlog.withdraw(POOL, WorkerId("w1"))
    assert workers(await backlog.view(POOL)) == {"w1"}


async def test_pools_do_not_see_each_other(backlog: Backlog) -> None:
    await backlog.exchange(POOL, worker_report("w1"))
    await backlog.publish_replicas(POOL, [replica()])
    view = await backlog.exchange(OTHER, worker_report("w2"))
    assert workers(view) == {"w2"}
    assert view.replicas is None


async def test_a_report_left_in_the_future_by_a_clock_set_back_is_dropped(
    backlog: Backlog, redis: Redis, redis_prefix: str
) -> None:
    read_at_s = (await backlog.exchange(POOL, worker_report("ghost"))).read_at_s
    await redis.zadd(keys.workers_key(redis_prefix, POOL), {"ghost": (read_at_s + 3600) * 1e6})
    assert workers(await backlog.view(POOL)) == set()
    assert workers(await backlog.exchange(POOL, worker_report("w1"))) == {"w1"}
    assert await redis.zrange(keys.workers_key(redis_prefix, POOL), 0, -1) == [b"w1"]


async def test_decisions_come_newest_first_and_only_the_newest_are_kept(backlog: Backlog) -> None:
    for second in range(5):
        await backlog.publish_decision(POOL, decision(float(second)), keep=3)
    assert [each.at_s for each in await backlog.decisions(POOL)] == [4.0, 3.0, 2.0]
    assert [each.at_s for each in await backlog.decisions(POOL, limit=2)] == [4.0, 3.0]
    assert await backlog.decisions(POOL, limit=0) == []


async def test_a_repeated_publication_is_one_entry_of_the_history(backlog: Backlog) -> None:
    await backlog.publish_decision(POOL, decision(1.0))
    await backlog.publish_decision(POOL, decision(1.0))
    assert await backlog.decisions(POOL) == [decision(1.0)]


async def test_a_history_entry_that_cannot_be_read_is_left_out(
    backlog: Backlog, redis: Redis, redis_prefix: str
) -> None:
    await backlog.publish_decision(POOL, decision(1.0))
    await redis.lpush(keys.decisions_key(redis_prefix, POOL), b"{broken")
    await backlog.publish_decision(POOL, decision(2.0))
    assert [each.at_s for each in await backlog.decisions(POOL)] == [2.0, 1.0]


@pytest.mark.parametrize("name", [keys.replicas_key, keys.decision_key])
async def test_a_corrupt_record_makes_the_view_unknown_and_is_named(
    name, backlog: Backlog, redis: Redis, redis_prefix: str
) -> None:
    key = name(redis_prefix, POOL)
    await redis.set(key, b'{"pool":', ex=60)
    with pytest.raises(BacklogUnavailable) as caught:
        await backlog.view(POOL)
    assert key in caught.value.cause


async def test_a_corrupt_report_makes_the_view_unknown_and_is_named(
    backlog: Backlog, redis: Redis, redis_prefix: str
) -> None:
    await backlog.exchange(POOL, worker_report("w1"))
    key = keys.worker_key(redis_prefix, POOL, WorkerId("w1"))
    await redis.set(key, json.dumps({"worker": "w1"}), ex=60)
    with pytest.raises(BacklogUnavailable) as caught:
        await backlog.exchange(POOL, worker_report("w2"))
    assert key in caught.value.cause


async def test_a_key_of_the_wrong_type_makes_the_view_unknown(
    backlog: Backlog, redis: Redis, redis_prefix: str
) -> None:
    await redis.set(keys.workers_key(redis_prefix, POOL), b"not a sorted set", ex=60)
    with pytest.raises(BacklogUnavailable, match="WRONGTYPE"):
        await backlog.view(POOL)


async def test_forgotten_scripts_are_loaded_again(backlog: Backlog, redis: Redis) -> None:
    await backlog.exchange(POOL, worker_report("w1"))
    await redis.script_flush()
    assert workers(await backlog.exchange(POOL, worker_report("w1"))) == {"w1"}


async def test_an_exchange_is_two_scripts_in_a_row(backlog: Backlog, redis: Redis) -> None:
    await backlog.exchange(POOL, worker_report("w1"))
    await redis.config_resetstat()
    await backlog.exchange(POOL, worker_report("w1"))
    calls = {name: stats["calls"] for name, stats in (await redis.info("commandstats")).items()}
    assert calls["cmdstat_evalsha"] == 2
    assert "cmdstat_eval" not in calls


async def test_a_view_reads_a_bounded_number_of_reports_freshest_first(
    backlog: Backlog, redis: Redis, redis_prefix: str
) -> None:
    read_at_s = (await backlog.exchange(POOL, worker_report("fresh"))).read_at_s
    members = {f"old{i}": (read_at_s - 1) * 1e6 for i in range(MAX_WORKERS)}
    await redis.zadd(keys.workers_key(redis_prefix, POOL), members)
    payload = '{"worker":"old","started_at_s":1}'
    for name in members:
        await redis.set(keys.worker_key(redis_prefix, POOL, WorkerId(name)), payload, ex=60)
    view = await backlog.view(POOL)
    assert len(view.reports) == MAX_WORKERS
    assert view.reports[0].report.worker == "fresh"


@pytest.mark.parametrize("worker", ["", "host:1", "{odd} name", "wörker", "new\nline"])
async def test_any_worker_name_works(worker: str, backlog: Backlog) -> None:
    assert workers(await backlog.exchange(POOL, worker_report(worker))) == {worker}
    await backlog.leave(POOL, WorkerId(worker))
    assert workers(await backlog.view(POOL)) == set()


@pytest.mark.parametrize("url", ["http://127.0.0.1:6379", "127.0.0.1:6379"])
def test_a_url_that_is_not_redis_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        connect(url)


async def test_limits_that_make_no_sense_are_refused(backlog: Backlog, redis_url: str) -> None:
    for limits in ({"heartbeat_s": 0.0}, {"heartbeat_s": -1.0}, {"timeout_s": 0.0}):
        with pytest.raises(ValueError):
            connect(redis_url, **limits)
    with pytest.raises(ValueError):
        await backlog.publish_decision(POOL, decision(), keep=0)
    with pytest.raises(ValueError):
        await backlog.publish_replicas(POOL, [], ttl_s=0.0)
