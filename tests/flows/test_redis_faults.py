"""Redis dies and comes back under load: no request fails, and the backlog is whole again without a restart."""

import asyncio
from pathlib import Path

from backlog.embedded import EmbeddedRedis
from backlog.store import BacklogUnavailable, connect
from tests.flows.conftest import StartGateway, until
from tests.flows.scripted import answer, replica


async def test_no_request_fails_while_redis_is_killed_and_restarted(
    start_gateway: StartGateway, redis_prefix: str, tmp_path: Path
) -> None:
    redis = EmbeddedRedis.start(tmp_path)
    try:
        async with replica(answer) as one, start_gateway([one.url], redis=redis.url) as gateway:
            statuses: list[int] = []
            stop = asyncio.Event()

            async def load() -> None:
                while not stop.is_set():
                    statuses.append((await gateway.chat()).status)

            clients = [asyncio.create_task(load()) for _ in range(4)]
            await until(lambda: len(statuses) > 20)
            redis.stop()
            await until(lambda: gateway.running.publishers[0].error)
            away = len(statuses)
            await until(lambda: len(statuses) > away + 50)
            redis = EmbeddedRedis.start(tmp_path)
            await until(lambda: gateway.running.publishers[0].error is None)
            stop.set()
            await asyncio.gather(*clients)
            assert set(statuses) == {200}

            reader = connect(redis.url, prefix=redis_prefix)

            async def counted() -> bool:
                try:
                    view = await reader.view(gateway.pool.settings.name)
                except BacklogUnavailable:
                    return False
                return sum(seen.report.arrived for seen in view.reports) == len(statuses)

            # Reports are absolute: what arrived while Redis was away is not lost.
            await until(counted)
            await reader.close()
    finally:
        redis.stop()


async def test_a_gateway_starts_while_redis_is_away(start_gateway: StartGateway, tmp_path: Path) -> None:
    async with replica(answer) as one, start_gateway([one.url], redis=f"unix://{tmp_path}/none.sock") as gateway:
        assert (await gateway.chat()).status == 200
        await until(lambda: gateway.running.publishers[0].error)
