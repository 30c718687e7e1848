"""Supervisor, workers, admin port, signals: the gateway as an operator runs it."""

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.settings import GatewaySettings, TenantSettings
from tests.flows.conftest import KEY, KEY_SHA256, chat, pool_settings, until
from tests.flows.processes import free_port, supervisor
from tests.flows.scripted import DONE, END, SSE_HEAD, Call, answer, chunk, event, replica

HEADERS = {"authorization": f"Bearer {KEY}"}
BODY = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


@pytest.fixture
def settings(redis_url: str, redis_prefix: str) -> GatewaySettings:
    return GatewaySettings(
        port=free_port(),
        admin_port=free_port(),
        redis_url=redis_url,
        redis_prefix=redis_prefix,
        pools=(pool_settings([]),),
        tenants=(TenantSettings(name="t", key_sha256=(KEY_SHA256,)),),
    )


async def test_two_workers_share_the_port_and_one_admin_page_shows_them(
    settings: GatewaySettings, tmp_path: Path
) -> None:
    async with replica(answer) as one:
        settings = replace(settings, workers=2, pools=(pool_settings([one.url]),))
        async with supervisor(settings, tmp_path) as (_, session):
            for _ in range(40):
                # A connection each: the kernel spreads connections, not requests.
                async with session.post(
                    f"http://127.0.0.1:{settings.port}/v1/chat/completions",
                    json=BODY,
                    headers={**HEADERS, "connection": "close"},
                ) as response:
                    assert response.status == 200
            async with session.get(f"http://127.0.0.1:{settings.admin_port}/status") as response:
                page = await response.json()
            async with session.get(f"http://127.0.0.1:{settings.admin_port}/metrics") as response:
                families = {family.name: family for family in text_string_to_metric_families(await response.text())}
    assert page["workers"] == 2
    assert page["pools"]["p"]["outcomes"] == {"served": 40}
    assert page["pools"]["p"]["used_gpu_s_by_tenant"]["t"] > 0.0
    by_worker = {sample.labels["worker"]: sample.value for sample in families["weighbridge_requests"].samples}
    assert sum(by_worker.values()) == 40
    assert len(by_worker) == 2


@pytest.mark.parametrize("how", ["SIGTERM", "POST /drain"])
async def test_a_drain_finishes_the_streams_that_run_and_takes_no_new_ones(
    settings: GatewaySettings, tmp_path: Path, how: str
) -> None:
    may_end = asyncio.Event()

    async def slow(call: Call) -> None:
        call.send(SSE_HEAD + chunk(event("a")))
        await call.writer.drain()
        await may_end.wait()
        call.send(chunk(event("b") + DONE) + END)

    async with replica(slow) as one:
        settings = replace(settings, pools=(pool_settings([one.url]),))
        async with supervisor(settings, tmp_path) as (process, session):
            reader, writer = await asyncio.open_connection("127.0.0.1", settings.port)
            writer.write(chat(stream=True))
            await reader.readuntil(event("a"))
            if how == "SIGTERM":
                process.terminate()
            else:
                async with session.post(f"http://127.0.0.1:{settings.admin_port}/drain") as response:
                    assert response.status == 202

            await until(lambda: _refuses(settings.port))
            may_end.set()
            rest = await reader.read()
            assert event("b") in rest
            assert rest.endswith(DONE + b"\r\n" + END)
            writer.close()
            assert await process.wait() == 0


async def test_a_worker_that_is_killed_is_replaced(settings: GatewaySettings, tmp_path: Path) -> None:
    async with replica(answer) as one:
        settings = replace(settings, pools=(pool_settings([one.url]),))
        async with supervisor(settings, tmp_path) as (process, session):
            (worker,) = await _workers_of(process.pid)
            os.kill(worker, signal.SIGKILL)

            async def answers() -> bool:
                try:
                    async with session.post(
                        f"http://127.0.0.1:{settings.port}/v1/chat/completions", json=BODY, headers=HEADERS
                    ) as response:
                        return response.status == 200
                except aiohttp.ClientError:
                    return False

            await until(lambda: _gone(worker))
            await until(answers, limit_s=20.0)


async def test_workers_die_with_a_supervisor_that_is_killed(settings: GatewaySettings, tmp_path: Path) -> None:
    async with supervisor(settings, tmp_path) as (process, _):
        (worker,) = await _workers_of(process.pid)
        process.kill()
        await process.wait()
        await until(lambda: _gone(worker))


async def test_a_port_in_use_is_named_before_anything_starts(settings: GatewaySettings, tmp_path: Path) -> None:
    async with replica(answer) as other:
        settings = replace(settings, port=other.port)
        with pytest.raises(AssertionError, match=f"cannot listen on 127.0.0.1:{other.port}"):
            async with supervisor(settings, tmp_path):
                pass


async def _refuses(port: int) -> bool:
    """Whether nothing listens. A connection that was queued when the listener closed is reset: ask again."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return False


async def _workers_of(pid: int) -> list[int]:
    """The supervisor's worker processes, without multiprocessing's own helper."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def _gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"
