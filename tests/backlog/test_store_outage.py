"""Pull the plug: Redis dies, hangs or is not there, and the backlog says so, in time, and recovers by itself."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from backlog.embedded import EmbeddedRedis, find_servers
from backlog.records import PoolName
from backlog.store import BacklogUnavailable, connect
from tests.backlog.samples import POOL, decision, worker_report
from tests.backlog.waiting import LIMIT_S, until, until_async


@pytest.fixture(params=find_servers() or [None])
def binary(request: pytest.FixtureRequest, redis_server: EmbeddedRedis) -> str:
    """Every server on this machine; `redis_server` skips, or fails where CI is set, if there is none."""
    return request.param


@pytest.fixture
def server(binary: str, tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis.start(tmp_path, server=binary) as running:
        yield running


def kill(server: EmbeddedRedis) -> None:
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: not server.running)


async def test_a_caller_loop_survives_a_killed_redis_and_recovers_when_it_is_back(
    server: EmbeddedRedis, binary: str, tmp_path: Path
) -> None:
    backlog = connect(server.url, timeout_s=LIMIT_S)
    outcomes: list[str] = []
    stopping = asyncio.Event()

    async def publish() -> None:
        while not stopping.is_set():
            try:
                view = await backlog.exchange(POOL, worker_report("w1"))
                outcomes.append("seen" if len(view.reports) == 1 else "lost")
            except BacklogUnavailable:
                outcomes.append("unavailable")
            await asyncio.sleep(0.001)

    async with asyncio.TaskGroup() as group:
        group.create_task(publish(), name="publish")
        await until_async(lambda: "seen" in outcomes)
        kill(server)
        await until_async(lambda: "unavailable" in outcomes)
        with EmbeddedRedis.start(tmp_path, server=binary):
            since = len(outcomes)
            await until_async(lambda: outcomes[since:].count("seen") >= 3)
            assert "unavailable" not in outcomes[outcomes.index("seen", since) :]
            stopping.set()
    await backlog.close()
    assert "lost" not in outcomes


async def test_a_redis_that_restarts_between_two_calls_is_not_noticed(
    server: EmbeddedRedis, binary: str, tmp_path: Path
) -> None:
    backlog = connect(server.url, timeout_s=LIMIT_S)
    await backlog.publish_decision(POOL, decision(1.0))
    kill(server)
    with EmbeddedRedis.start(tmp_path, server=binary):
        view = await backlog.exchange(POOL, worker_report("w1"))
        assert view.decision is None
        assert len(view.reports) == 1
        await backlog.close()


async def test_a_hung_redis_is_unavailable_and_its_late_answers_reach_nobody(server: EmbeddedRedis) -> None:
    backlog = connect(server.url, timeout_s=0.2)
    other = PoolName("embed")
    await backlog.exchange(POOL, worker_report("w1"))
    os.kill(server.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(LIMIT_S):
            for _ in range(2):
                with pytest.raises(BacklogUnavailable):
                    await backlog.exchange(POOL, worker_report("w1"))
            with pytest.raises(BacklogUnavailable):
                await backlog.decisions(POOL)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    views = []
    async with asyncio.timeout(LIMIT_S):
        while len(views) < 5:
            try:
                views.append(await backlog.exchange(other, worker_report("w2")))
            except BacklogUnavailable:
                continue
    assert {seen.report.worker for view in views for seen in view.reports} == {"w2"}
    await backlog.close()


async def test_closing_does_not_wait_for_a_hung_redis(server: EmbeddedRedis) -> None:
    backlog = connect(server.url, timeout_s=0.2)
    await backlog.view(POOL)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(LIMIT_S):
            await backlog.close()
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def test_a_cancelled_call_leaves_the_connection_usable(server: EmbeddedRedis) -> None:
    backlog = connect(server.url, timeout_s=LIMIT_S)
    await backlog.exchange(POOL, worker_report("w1"))
    for turns in range(30):
        call = asyncio.create_task(backlog.exchange(PoolName("cancelled"), worker_report("w0")))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        view = await backlog.exchange(POOL, worker_report("w1"))
        assert view.pool == POOL
        assert [seen.report.worker for seen in view.reports] == ["w1"]
    await backlog.close()


@pytest.mark.parametrize("url", ["unix:///nonexistent/redis.sock", "redis://127.0.0.1:1"])
async def test_a_redis_that_was_never_there_is_unavailable_for_every_call(url: str) -> None:
    backlog = connect(url)
    calls = (
        lambda: backlog.exchange(POOL, worker_report()),
        lambda: backlog.view(POOL),
        lambda: backlog.leave(POOL, worker_report().worker),
        lambda: backlog.withdraw(POOL, worker_report().worker),
        lambda: backlog.publish_replicas(POOL, []),
        lambda: backlog.publish_decision(POOL, decision()),
        lambda: backlog.decisions(POOL),
    )
    for call in calls:
        with pytest.raises(BacklogUnavailable) as caught:
            await call()
        assert "ConnectionError" in caught.value.cause
    await backlog.close()


async def test_a_peer_that_accepts_and_says_nothing_is_unavailable() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener:
        backlog = connect(f"redis://127.0.0.1:{port}", timeout_s=0.1)
        async with asyncio.timeout(LIMIT_S):
            with pytest.raises(BacklogUnavailable, match="did not answer"):
                await backlog.view(POOL)
            await backlog.close()


async def test_a_peer_that_talks_another_protocol_is_unavailable() -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(web, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener:
        backlog = connect(f"redis://127.0.0.1:{port}", timeout_s=1.0)
        async with asyncio.timeout(LIMIT_S):
            with pytest.raises(BacklogUnavailable):
                await backlog.view(POOL)
            await backlog.close()
