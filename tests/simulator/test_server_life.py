"""What the server does over time: starts, fills up, loses clients, stops, and what it tells about itself."""

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from simulator.server import serve
from tests.simulator.servers import WAIT_S, Client, chat, running, settings, until

LONG = chat(max_tokens=100_000, ignore_eos=True)


async def samples(client: Client) -> dict[str, float]:
    """Scraped values by name and distinguishing labels."""
    async with client.get("/metrics") as response:
        text = await response.text()
    return {
        name + "".join(f"/{labels[key]}" for key in ("finished_reason", "le") if key in labels): value
        for family in text_string_to_metric_families(text)
        for name, labels, value, *_ in family.samples
    }


@pytest.mark.parametrize("stream", [True, False], ids=["streaming", "not streaming"])
async def test_a_client_that_goes_away_frees_its_kv_blocks_at_once(stream: bool) -> None:
    async with running() as client:
        engine = client.serving.realtime.engine
        asking = asyncio.create_task(client.answer("/v1/chat/completions", {**LONG, "stream": stream}))
        await until(lambda: engine.kv.used_blocks > 3)
        asking.cancel()
        await until(lambda: engine.idle)
        assert engine.kv.used_blocks == 0
        assert (await samples(client))["vllm:request_success_total/abort"] == 1
        assert (await client.answer("/v1/chat/completions", chat(max_tokens=1)))[0] == 200


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as client:
        _, writer = await asyncio.open_connection("127.0.0.1", client.serving.port)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert (await client.answer("/v1/chat/completions", chat(max_tokens=1)))[0] == 200
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_when_the_queue_is_full_the_next_request_gets_503_and_one_that_left_makes_room() -> None:
    async with running(settings(max_sequences=1, max_waiting=1)) as client:
        engine = client.serving.realtime.engine
        runs = asyncio.create_task(client.answer("/v1/chat/completions", LONG))
        await until(lambda: engine.running == 1)
        waits = asyncio.create_task(client.answer("/v1/chat/completions", LONG))
        await until(lambda: engine.waiting == 1)
        status, answer = await client.answer("/v1/chat/completions", chat())
        assert (status, answer["error"]["code"]) == (503, 503)
        assert "queue is full" in answer["error"]["message"]
        waits.cancel()
        await until(lambda: engine.waiting == 0)
        runs.cancel()
        await until(lambda: engine.idle)
        assert (await client.answer("/v1/chat/completions", chat(max_tokens=1)))[0] == 200


async def test_until_the_model_is_loaded_the_port_is_open_and_says_503() -> None:
    async with running(settings(start_delay_s=0.3)) as client:
        async with client.get("/health") as health, client.get("/v1/models") as models:
            assert (health.status, models.status) == (503, 503)
        assert (await client.answer("/v1/chat/completions", chat()))[0] == 503
        async with asyncio.timeout(WAIT_S):
            while True:
                async with client.get("/health") as health:
                    if health.status == 200:
                        break
        assert (await client.answer("/v1/chat/completions", chat(max_tokens=1)))[0] == 200


async def test_stopping_ends_streams_with_an_error_event_and_answers_with_503() -> None:
    async with aiohttp.ClientSession() as http:
        async with serve(settings()) as serving:
            client = Client(http, serving)
            streaming = asyncio.create_task(client.events("/v1/chat/completions", LONG))
            whole = asyncio.create_task(client.answer("/v1/chat/completions", LONG))
            await until(lambda: serving.realtime.engine.kv.used_blocks > 4)
        *chunks, error, done = await streaming
        assert (error["error"]["code"], done) == (503, "[DONE]")
        assert len(chunks) > 1
        assert (await whole)[0] == 503
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.answer("/v1/chat/completions", chat())


async def test_an_engine_that_fails_is_seen_by_whoever_serves() -> None:
    class Broken:
        def time_s(self, **_: float) -> float:
            raise ArithmeticError("no step time")

    async with running(replace(settings(), steps=Broken())) as client:
        asking = asyncio.create_task(client.answer("/v1/chat/completions", chat()))
        await until(client.serving.failed.done)
        with pytest.raises(ArithmeticError):
            client.serving.failed.result()
        asking.cancel()


async def test_many_streams_at_once_all_end_whole() -> None:
    async with running(settings(max_sequences=32)) as client:
        bodies = [chat(f"request {index}", max_tokens=40, ignore_eos=True) for index in range(100)]
        streams = await asyncio.gather(*(client.events("/v1/chat/completions", body) for body in bodies))
        assert [len(stream) for stream in streams] == [42] * 100
        seen = await samples(client)
        assert seen["vllm:generation_tokens_total"] == 4000
        assert seen["vllm:request_success_total/length"] == 100


async def test_metrics_have_the_names_and_values_of_a_vllm_server() -> None:
    async with running(settings(max_sequences=1)) as client:
        engine = client.serving.realtime.engine
        await client.answer("/v1/chat/completions", chat(max_tokens=4, ignore_eos=True))
        asking = [asyncio.create_task(client.answer("/v1/chat/completions", LONG)) for _ in range(3)]
        await until(lambda: engine.waiting == 2 and engine.kv.used_blocks > 0)
        seen = await samples(client)
        for task in asking:
            task.cancel()
    assert (seen["vllm:num_requests_running"], seen["vllm:num_requests_waiting"]) == (1, 2)
    assert 0 < seen["vllm:kv_cache_usage_perc"] < 1
    assert seen["vllm:num_preemptions_total"] == 0
    assert seen["vllm:prompt_tokens_total"] >= 5
    assert seen["vllm:generation_tokens_total"] >= 4
    assert seen["vllm:request_success_total/length"] == 1
    for name in ("time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds"):
        assert seen[f"vllm:{name}_count"] == seen[f"vllm:{name}_bucket/+Inf"] > 0
        assert seen[f"vllm:{name}_sum"] > 0
    assert seen["vllm:cache_config_info"] == 1


PROGRAM = """
import sys
from simulator.server import run
from simulator.settings import simulator_settings
run(simulator_settings(model="tiny", architecture="llama-3.1-8b", gpu="L40S", port=int(sys.argv[1])))
"""


async def first_events(http: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> aiohttp.ClientResponse:
    """A response that has begun, once the server's process answers."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                response = await http.post(url, json={**body, "stream": True})
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.02)
                continue
            await response.content.readuntil(b"\n\n")
            return response


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_a_signal_ends_the_streams_and_the_process(number: signal.Signals, unused_tcp_port: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(unused_tcp_port)], stdout=subprocess.PIPE, env={**os.environ}
    ) as process:
        try:
            async with aiohttp.ClientSession() as http:
                url = f"http://127.0.0.1:{unused_tcp_port}/v1/chat/completions"
                response = await first_events(http, url, LONG)
                process.send_signal(number)
                rest = await response.text()
                assert rest.endswith("data: [DONE]\n\n")
                assert "server is stopping" in rest
            assert await asyncio.to_thread(process.wait, WAIT_S) == 0
        finally:
            process.kill()
