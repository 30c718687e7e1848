"""The clients that people use: the openai SDK and curl, against a gateway in front of a simulated model server."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import openai
import pytest

from simulator.server import serve as serve_simulator
from simulator.settings import simulator_settings
from tests.flows.conftest import KEY, Gateway, StartGateway, until
from tests.flows.scripted import answer, replica


@pytest.fixture
async def fleet(start_gateway: StartGateway) -> AsyncIterator[Gateway]:
    settings = simulator_settings(model="m", architecture="llama-3.1-8b", gpu="H100", port=0)
    async with serve_simulator(settings) as one, start_gateway([one.url]) as gateway:
        yield gateway


@pytest.fixture
async def sdk(fleet: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{fleet.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


ASK = [{"role": "user", "content": "Say something."}]


async def test_the_openai_sdk_gets_a_whole_completion(sdk: openai.AsyncOpenAI) -> None:
    completion = await sdk.chat.completions.create(model="m", messages=ASK, max_tokens=12)
    assert completion.usage is not None
    assert completion.usage.completion_tokens <= 12
    assert completion.choices[0].message.content


async def test_the_openai_sdk_streams(sdk: openai.AsyncOpenAI) -> None:
    whole = await sdk.chat.completions.create(model="m", messages=ASK, max_tokens=12)
    parts = [
        event.choices[0].delta.content or ""
        async for event in await sdk.chat.completions.create(model="m", messages=ASK, max_tokens=12, stream=True)
    ]
    assert "".join(parts) == whole.choices[0].message.content
    assert len(parts) > 3


async def test_the_openai_sdk_gets_usage_in_a_stream_when_it_asks(sdk: openai.AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(
        model="m", messages=ASK, max_tokens=5, stream=True, stream_options={"include_usage": True}
    )
    usages = [event.usage async for event in stream if event.usage is not None]
    assert [usage.completion_tokens for usage in usages] == [5]


async def test_the_openai_sdk_completes_embeds_and_lists(sdk: openai.AsyncOpenAI) -> None:
    assert (await sdk.completions.create(model="m", prompt="x", max_tokens=4)).choices[0].text
    assert len((await sdk.embeddings.create(model="m", input=["a", "b"])).data) == 2
    assert [model.id async for model in sdk.models.list()] == ["m"]


async def test_the_openai_sdk_recognizes_our_errors(fleet: Gateway, sdk: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        await sdk.chat.completions.create(model="nope", messages=ASK)
    with pytest.raises(openai.AuthenticationError):
        async with openai.AsyncOpenAI(base_url=f"{fleet.url}/v1", api_key="sk-no", max_retries=0) as stranger:
            await stranger.chat.completions.create(model="m", messages=ASK)
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        await sdk.chat.completions.create(model="m", messages=ASK, max_tokens=-1)


async def test_an_abandoned_stream_is_aborted_on_the_model_server(fleet: Gateway, sdk: openai.AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(
        model="m", messages=ASK, max_tokens=4000, stream=True, extra_body={"ignore_eos": True}
    )
    async for _ in stream:
        break
    await stream.close()
    url = fleet.pool.replicas["r0"].url

    async def idle() -> bool:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as response:
            text = await response.text()
        running = [line for line in text.splitlines() if line.startswith("vllm:num_requests_running")]
        return bool(running) and all(line.endswith(" 0.0") for line in running)

    await until(idle, limit_s=3.0)


def need(program: str) -> None:
    """Skip without `program`, but fail where CI promises it."""
    if shutil.which(program) is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have {program}")
        pytest.skip(f"no {program} on PATH")


async def test_wrk_gets_nothing_but_success(start_gateway: StartGateway, tmp_path: Path) -> None:
    need("wrk")
    script = tmp_path / "post.lua"
    script.write_text(
        f"""wrk.method = "POST"
wrk.headers["Authorization"] = "Bearer {KEY}"
wrk.body = [[{{"model":"m","messages":[{{"role":"user","content":"hi"}}]}}]]
"""
    )
    async with replica(answer) as one, start_gateway([one.url]) as gateway:
        process = await asyncio.create_subprocess_exec(
            "wrk", "-t1", "-c16", "-d1s", "-s", str(script), f"{gateway.url}/v1/chat/completions",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output = (await process.communicate())[0].decode()
        outcomes = gateway.pool.stats.outcomes
    assert process.returncode == 0
    assert "Non-2xx" not in output
    assert "Socket errors" not in output
    # wrk drops what is in flight when its time is over.
    assert set(outcomes) <= {("m", "served"), ("m", "client-gone")}
    assert outcomes["m", "served"] > 16


async def test_curl_streams(fleet: Gateway) -> None:
    need("curl")
    body = '{"model":"m","stream":true,"max_tokens":3,"messages":[{"role":"user","content":"hi"}]}'
    process = await asyncio.create_subprocess_exec(
        "curl", "-sSN", "--fail-with-body", f"{fleet.url}/v1/chat/completions",
        "-H", f"Authorization: Bearer {KEY}", "-H", "Content-Type: application/json", "-d", body,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert output.count(b"data: ") >= 4
    assert output.endswith(b"data: [DONE]\n\n")
