"""Every kind of Redis that a URL can name, with the scripts of the shared queue on it: TLS, Sentinel, a cluster."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from backlog.connection import BacklogUnavailable
from backlog.records import PoolName, WorkerId
from backlog.store import Backlog, connect
from backlog.ticket import Pending
from backlog.turn import Turn
from tests.backlog.samples import ticket, worker_report
from tests.backlog.waiting import LIMIT_S
from tests.redis_servers import (
    cluster_url,
    make_certificates,
    start_cluster,
    start_redis,
    start_replica,
    start_sentinel,
)

ONE, OTHER = PoolName("chat"), PoolName("code")


async def waits(backlog: Backlog, pool: PoolName, worker: str) -> list[str]:
    """Enqueue a ticket, and name the tenants that wait."""
    owner = WorkerId(worker)
    pending = Pending(ticket=ticket(f"{worker}:1", owner=worker, tenant=f"of {worker}"), waited_s=0.0, bound_s=30.0)
    reply = await backlog.turn(pool, owner, Turn(report=worker_report(worker), enqueue=[pending], look=True))
    assert reply.view is not None
    return [line.tenant for line in reply.view.queue.lines]


async def test_a_queue_over_tls_with_a_password(tmp_path: Path) -> None:
    with start_redis(tmp_path, certificates=make_certificates(tmp_path), password="secret") as server:
        backlog = connect(server.url)
        assert await waits(backlog, ONE, "w1") == ["of w1"]
        await backlog.close()
        stranger = connect(server.url.replace("secret", "wrong"))
        with pytest.raises(BacklogUnavailable):
            await stranger.view(ONE)
        await stranger.close()


async def test_queues_of_several_pools_in_a_cluster(tmp_path: Path) -> None:
    with start_cluster(tmp_path, nodes=2) as nodes:
        backlog = connect(cluster_url(nodes))
        for pool in (ONE, OTHER):
            assert await waits(backlog, pool, "w1") == ["of w1"]
            assert await backlog.mail(pool, WorkerId("w1"), wait_s=0.01) is None
        assert [line.tickets for line in (await backlog.view(OTHER)).queue.lines] == [1]
        await backlog.close()


async def test_a_queue_goes_on_at_the_master_that_sentinel_names(tmp_path: Path) -> None:
    with start_redis(tmp_path) as master, start_replica(master, tmp_path), start_sentinel(tmp_path, master) as sentinel:
        backlog = connect(sentinel.url_of("redis+sentinel") + "/main")
        assert await waits(backlog, ONE, "w1") == ["of w1"]
        master.kill()
        seen: list[str] = []
        async with asyncio.timeout(LIMIT_S):
            while not seen:
                # What the replica had not received yet is its owner's to tell again.
                with suppress(BacklogUnavailable):
                    seen = await waits(backlog, ONE, "w2")
        assert "of w2" in seen
        await backlog.close()
