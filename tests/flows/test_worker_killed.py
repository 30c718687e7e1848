"""A gateway worker is killed with requests that wait and run: the others go on, and nothing of it stays in Redis."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import aiohttp
from redis import Redis

from backlog import keys
from backlog.store import Backlog
from gateway.settings import GatewaySettings, TenantSettings
from tests.conftest import leaked_keys
from tests.flows.conftest import KEY, KEY_SHA256, pool_settings, until
from tests.flows.processes import free_port, supervisor
from tests.flows.queueing import POOL, Slots
from tests.flows.scripted import replica

REQUESTS = 300
KV_TOKENS = 200
"""Some fifty of the test's requests at once."""
GONE_WITHIN_S = 3.0


async def test_what_a_killed_worker_had_is_gone_within_three_seconds_and_the_rest_is_served_in_order(
    backlog: Backlog, redis_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    slots = Slots()
    line = f"{keys.line_stem(redis_prefix, POOL)}3:t"
    async with replica(slots.script) as one:
        settings = GatewaySettings(
            port=free_port(),
            admin_port=free_port(),
            workers=2,
            redis_url=redis_url,
            redis_prefix=redis_prefix,
            pools=(pool_settings([one.url], kv_capacity_tokens=KV_TOKENS, dispatch_prefill_s=1000.0),),
            tenants=(TenantSettings(name="t", key_sha256=(KEY_SHA256,)),),
        )
        with Redis.from_url(redis_url, decode_responses=True) as redis:
            async with supervisor(settings, tmp_path), aiohttp.ClientSession(connector=_unlimited()) as session:
                posts = [asyncio.create_task(_post(session, settings.port, n)) for n in range(REQUESTS)]

                async def settled() -> bool:
                    view = await backlog.view(POOL)
                    running = sum(seen.report.running["r0"].in_flight for seen in view.reports if seen.report.running)
                    return running + view.queue.tickets == REQUESTS and running == len(slots.order)

                await until(settled)
                assert 20 <= len(slots.order) < REQUESTS / 2
                reports = (await backlog.view(POOL)).reports
                victim, survivor = sorted(seen.report.worker for seen in reports)
                before = redis.zrange(line, 0, -1)
                kept = [ticket for ticket in before if ticket.startswith(survivor)]
                assert len(before) - len(kept) > 50
                os.kill(int(victim.split("-")[-3]), signal.SIGKILL)

                async def gone() -> bool:
                    view = await backlog.view(POOL)
                    left = redis.exists(keys.owned_stem(redis_prefix, POOL) + victim)
                    return not left and victim not in {seen.report.worker for seen in view.reports}

                await until(gone, limit_s=GONE_WITHIN_S + 1.0)
                # What the dead one had run is free again, so the survivor's first may have been sent meanwhile.
                after = redis.zrange(line, 0, -1)
                assert after == kept[len(kept) - len(after) :]
                slots.open()
                answers = await asyncio.gather(*posts)
                assert answers.count(200) >= len(kept)
                assert set(answers) == {200, 0}
                assert len(set(slots.order)) == len(slots.order)
                await until(lambda: not redis.exists(line))
            assert leaked_keys(redis) == []


def _unlimited() -> aiohttp.TCPConnector:
    return aiohttp.TCPConnector(limit=0, force_close=True)


async def _post(session: aiohttp.ClientSession, port: int, number: int) -> int:
    """The status; 0 when the connection died."""
    headers = {"authorization": f"Bearer {KEY}", "x-request-id": f"r{number}"}
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 4}
    with suppress(aiohttp.ClientError):
        async with session.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, headers=headers) as response:
            await response.read()
            return response.status
    return 0
