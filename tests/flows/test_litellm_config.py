"""A LiteLLM `config.yaml` before its servers: a name reaches the server that it means, under the name it has there."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import openai
import pytest

from simulator.server import serve as serve_simulator
from simulator.settings import simulator_settings
from tests.flows.conftest import Gateway, running_gateway
from tests.flows.scripted import ScriptedReplica, answer, replica
from weighbridge.config import Loaded, load
from weighbridge.config_ask import ask_server
from weighbridge.wiring import gateway_settings

EXAMPLE = Path(__file__).parents[2] / "examples" / "litellm-full.yaml"
ENV = {"LITELLM_MASTER_KEY": "sk-master", "VLLM_API_KEY": "sk-vllm"}
ASK = [{"role": "user", "content": "Say something."}]


@dataclass
class Example:
    """The example with a gateway of its own, its scripted servers by the address that stands for them."""

    gateway: Gateway
    loaded: Loaded
    servers: dict[str, ScriptedReplica]

    def sdk(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.gateway.url}/v1", api_key="sk-master", max_retries=0)

    def asked(self) -> list[tuple[str, str]]:
        """Each server that was asked, and for which model."""
        return [
            (name, json.loads(call.body)["model"]) for name, server in self.servers.items() for call in server.calls
        ]


@pytest.fixture
async def example(redis_url: str, redis_prefix: str, tmp_path: Path) -> AsyncIterator[Example]:
    async with AsyncExitStack() as stack:
        scripted = {f"10.0.0.{number}:8000": await stack.enter_async_context(replica(answer)) for number in (1, 2, 3)}
        addresses = {name: server.url.removeprefix("http://") for name, server in scripted.items()}
        for name, model in (("10.0.0.4:8000", "qwen2.5-7b"), ("10.0.0.5:8000", "Qwen/Qwen3-0.6B")):
            settings = simulator_settings(model=model, architecture=model, gpu="H100", port=0)
            server = await stack.enter_async_context(serve_simulator(settings))
            addresses[name] = server.url.removeprefix("http://")
        for file in (EXAMPLE, EXAMPLE.with_suffix("") / "embeddings.yaml"):
            copy = tmp_path / file.relative_to(EXAMPLE.parent)
            copy.parent.mkdir(exist_ok=True)
            text = file.read_text()
            for name, address in addresses.items():
                text = text.replace(name, address)
            copy.write_text(text)
        loaded = await asyncio.to_thread(load, tmp_path / EXAMPLE.name, ENV, ask=ask_server)
        config = loaded.config.model_copy(update={"gateway": loaded.config.gateway.model_copy(update={"port": 0})})
        ours = replace(gateway_settings(config, redis_url=redis_url), redis_prefix=redis_prefix)
        gateway = await stack.enter_async_context(running_gateway(ours))
        yield Example(gateway, loaded, scripted)


@pytest.mark.parametrize(
    ("model", "servers", "served"),
    [
        pytest.param("llama", "12", "meta-llama/Llama-3.1-8B-Instruct", id="a group"),
        pytest.param("gpt-3.5-turbo", "12", "meta-llama/Llama-3.1-8B-Instruct", id="an alias"),
        pytest.param("internal", "12", "meta-llama/Llama-3.1-8B-Instruct", id="a hidden alias"),
        pytest.param("support-de", "3", "support-de", id="a wildcard with a base model"),
    ],
)
async def test_a_name_reaches_its_server_under_that_servers_name(
    example: Example, model: str, servers: str, served: str
) -> None:
    async with example.sdk() as sdk:
        await sdk.chat.completions.create(model=model, messages=ASK)
    ((name, asked),) = example.asked()
    assert name[7] in servers
    assert asked == served


async def test_a_server_that_was_asked_what_it_serves_serves_it(example: Example) -> None:
    async with example.sdk() as sdk:
        completion = await sdk.chat.completions.create(model="hosted_vllm/qwen2.5-7b", messages=ASK, max_tokens=3)
    assert completion.usage is not None
    assert completion.usage.completion_tokens <= 3


async def test_a_model_of_an_included_file_is_served(example: Example) -> None:
    async with example.sdk() as sdk:
        assert len((await sdk.embeddings.create(model="embed", input=["a", "b"])).data) == 2


async def test_the_list_has_names_and_neither_patterns_nor_what_is_hidden(example: Example) -> None:
    async with example.sdk() as sdk:
        names = [model.id async for model in sdk.models.list()]
    assert names == ["embed", "gpt-3.5-turbo", "hosted_vllm/qwen2.5-7b", "llama"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        pytest.param("gpt-4o", "not served here: it is in the configuration, and is of the provider azure", id="azure"),
        pytest.param(
            "hosted_vllm/other", "not served here: no pool can price it; add one", id="a wildcard without a price"
        ),
        pytest.param("nobody", "does not exist here", id="unknown"),
    ],
)
async def test_what_is_not_served_is_refused_with_the_reason(example: Example, model: str, message: str) -> None:
    async with example.sdk() as sdk:
        with pytest.raises(openai.NotFoundError, match=message):
            await sdk.chat.completions.create(model=model, messages=ASK)
    assert example.asked() == []


async def test_the_replicas_get_the_key_of_their_credential(example: Example) -> None:
    async with example.sdk() as sdk:
        await sdk.chat.completions.create(model="llama", messages=ASK)
    (call,) = [call for server in example.servers.values() for call in server.calls]
    assert b"authorization: Bearer sk-vllm\r\n" in call.head.lower().replace(b"bearer", b"Bearer")
