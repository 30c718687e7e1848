"""`weighbridge autoscaler` with `controller.keda`, asked as KEDA asks."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import grpc.aio

from tests.autoscaler.keda.client import INACTIVE, keda, query, reference, value_of
from tests.redis_servers import free_port
from weighbridge.wiring import command_line

LIMIT_S = 40.0
CONFIG = """
redis: {{url: "{url}", prefix: {prefix}}}
controller: {{port: {port}, keda: {{port: {keda}}}}}
pools:
  chat:
    models: [llama-3.1-8b]
    gpu: L40S
    replicas: {{processes: {{min: 0, max: 1}}}}
"""


async def test_an_autoscaler_answers_keda_until_it_stops(tmp_path: Path, redis_url: str, redis_prefix: str) -> None:
    port = free_port()
    file = tmp_path / "pools.yaml"
    file.write_text(CONFIG.format(url=redis_url, prefix=redis_prefix, port=free_port(), keda=port))
    process = await asyncio.create_subprocess_exec(
        *command_line("autoscaler", "--config", str(file)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        async with asyncio.timeout(LIMIT_S), keda(port) as client:
            while True:
                with suppress(grpc.aio.AioRpcError):
                    assert await client.call("IsActive", reference()) == INACTIVE
                    break
                assert process.returncode is None
                await asyncio.sleep(0.05)
            assert value_of(await client.call("GetMetrics", query())) == 0
            stream = client.stream(reference())
            assert await stream.read() == INACTIVE
            process.send_signal(signal.SIGTERM)
            assert await stream.read() is grpc.aio.EOF
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()
    assert "Traceback" not in output.decode()
