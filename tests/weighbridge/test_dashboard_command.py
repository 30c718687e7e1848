"""`weighbridge dashboard` as an operator calls it: a process over a real Redis, and what it refuses."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.redis_servers import free_port
from tests.weighbridge.commands import invoke
from weighbridge.config import parse
from weighbridge.dashboard_command import register
from weighbridge.dashboard_process import pool_facts
from weighbridge.wiring import command_line

LIMIT_S = 30.0
POOLS = """
pools:
  chat:
    models: [llama-3.1-8b]
    gpu: L40S
    price_per_gpu_hour: 1.5
    replicas:
      processes: {min: 0, max: 3}
  fixed:
    models: [other]
    architecture: llama-3.1-8b
    gpu: H100
    tensor_parallel: 2
    replicas:
      static: [{url: "http://10.0.0.7:8000", api_key: sk-secret}, {name: second, url: "http://10.0.0.8:8000"}]
tenants:
  blue: {keys: [sk-hidden]}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "pools.yaml"
    file.write_text(POOLS)
    return file


def test_the_page_knows_pools_without_addresses_and_keys() -> None:
    chat, fixed = pool_facts(parse(POOLS, {}, source="test").config)
    assert (chat.min_replicas, chat.max_replicas, chat.static_replicas, chat.priced) == (0, 3, (), True)
    assert (fixed.min_replicas, fixed.max_replicas, fixed.priced, fixed.gpus_per_replica) == (None, None, False, 2)
    assert fixed.static_replicas == ("10.0.0.7:8000", "second")
    assert "secret" not in repr((chat, fixed))
    assert "sk-hidden" not in repr((chat, fixed))


def test_without_redis_it_says_where_to_say_it(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEIGHBRIDGE_REDIS", raising=False)
    result = invoke(register, "--config", str(config))
    assert (result.exit_code, "redis.url is required" in result.output) == (2, True)


def test_a_configuration_with_mistakes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("pools: {chat: {modells: [a]}}")
    result = invoke(register, "--config", str(file))
    assert (result.exit_code, "modells" in result.output) == (2, True)


async def start(config: Path, redis_url: str, port: int) -> asyncio.subprocess.Process:
    words = command_line("dashboard", "--config", str(config), "--redis", redis_url, "--port", str(port))
    root = str(Path(__file__).parents[2])
    return await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={**os.environ, "PYTHONPATH": root}
    )


async def test_it_serves_the_page_until_it_is_told_to_stop(config: Path, redis_url: str, no_leaked_keys: None) -> None:
    port = free_port()
    process = await start(config, redis_url, port)
    try:
        async with asyncio.timeout(LIMIT_S), aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{port}/data.json") as response:
                        raw = await response.text()
                        break
                except aiohttp.ClientConnectionError:
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
            page = json.loads(raw)
            process.send_signal(signal.SIGTERM)
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()
    assert [(pool["name"], pool["queue"], pool["error"]) for pool in page["pools"]] == [
        ("chat", None, None),
        ("fixed", None, None),
    ]
    assert "secret" not in raw + output.decode()


async def test_a_port_in_use_ends_it_with_a_reason(config: Path, redis_url: str, no_leaked_keys: None) -> None:
    taken = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    try:
        port = taken.sockets[0].getsockname()[1]
        process = await start(config, redis_url, port)
        async with asyncio.timeout(LIMIT_S):
            output, _ = await process.communicate()
    finally:
        taken.close()
        await taken.wait_closed()
    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in output.decode()
    assert "Traceback" not in output.decode(), sys.version
