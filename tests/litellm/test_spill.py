"""Requests that spill, with LiteLLM's own SDK between the gateway and a hosted model."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.conftest import until
from tests.litellm.answers import INPUT_TOKENS, WORDS
from tests.litellm.proxy import kill
from tests.litellm.replicas import running
from tests.litellm.spilling import ALLOWED, NOT_ALLOWED, PROVIDER_KEY, Spilling, gateway
from tests.redis_servers import Server

pytestmark = [pytest.mark.litellm, pytest.mark.timeout(120)]  # the first of them starts the gateway

LISTED = (0.15, 0.6)
"""What LiteLLM's list says of `gpt-4o-mini`, per million tokens."""


@pytest.fixture(scope="module")
def spilling(tmp_path_factory: pytest.TempPathFactory, litellm_redis: Server) -> Iterator[Spilling]:
    with gateway(tmp_path_factory.mktemp("spilling"), litellm_redis.url, "spilling") as one:
        yield one


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_pool_at_zero_spills_through_the_sdk(spilling: Spilling, path: str, stream: bool) -> None:
    before = spilling.spill("zero")["money"]
    async with running([spilling.ports["zero"]]) as (hosted,), spilling.client() as client:
        prompt = {"messages": [{"role": "user", "content": "#x"}]} if "chat" in path else {"prompt": "#x"}
        answer = await client.post(path, {"model": "zero", "stream": stream, **prompt}, key=ALLOWED)
    assert answer.status == 200, answer.text
    assert answer.headers["x-weighbridge-outcome"] == "spilled"
    assert answer.headers["x-weighbridge-replica"] == "spill:openai/gpt-4o-mini"
    assert answer.headers["x-weighbridge-spill-reason"].startswith("no replica is ready; ")
    (served,) = hosted.served
    assert (served.path, served.body["model"], served.stream) == ("/v1/chat/completions", "gpt-4o-mini", stream)
    if stream:
        events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
        assert events[-1] == "[DONE]"
        assert all(json.loads(event)["choices"] for event in events[:-1])
        text = "".join(word for word in WORDS if json.dumps(word)[1:-1] in answer.text)
        assert text == "".join(WORDS)
    else:
        assert "".join(WORDS) in answer.text
    per_input, per_output = LISTED
    paid = spilling.spill("zero")["money"] - before
    assert paid == pytest.approx((INPUT_TOKENS * per_input + len(WORDS) * per_output) / 1e6)


async def test_the_provider_is_given_its_own_key_and_none_of_the_clients_headers(spilling: Spilling) -> None:
    heads: list[bytes] = []

    async def provide(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(provide, "127.0.0.1", spilling.ports["zero"])
    async with server, spilling.client() as client:
        await client.chat("x", model="zero", key=ALLOWED)
    assert heads
    for head in heads:
        assert f"bearer {PROVIDER_KEY}".lower().encode() in head.lower()
        assert ALLOWED.encode() not in head


@pytest.mark.parametrize(
    ("status", "tries"),
    [
        pytest.param(400, 1, id="a request that is wrong: once"),
        pytest.param(429, 2, id="a quota: twice"),
        pytest.param(500, 2, id="a fault: twice"),
    ],
)
async def test_a_provider_that_fails_leaves_the_request_waiting(spilling: Spilling, status: int, tries: int) -> None:
    await until(lambda: spilling.spill("zero")["answering"])
    async with running([spilling.ports["zero"]], fail=lambda _: status) as (hosted,), spilling.client() as client:
        answer = await client.chat("x", model="zero", key=ALLOWED)
        assert len(hosted.served) == tries
    assert (answer.status, answer.headers["x-weighbridge-outcome"]) == (503, "wait-expired")
    # What it says of itself names what failed.
    assert "spill:openai/gpt-4o-mini" in answer.error
    async with running([spilling.ports["zero"]]), spilling.client() as client:
        await until(lambda: spilling.spill("zero")["answering"])
        answer = await client.chat("x", model="zero", key=ALLOWED)
        assert answer.headers["x-weighbridge-outcome"] == "spilled"


@pytest.mark.parametrize(
    ("model", "key"),
    [
        pytest.param("zero", NOT_ALLOWED, id="a tenant that may not"),
        pytest.param("capped", ALLOWED, id="no money left"),
    ],
)
async def test_who_may_not_spill_waits(spilling: Spilling, model: str, key: str) -> None:
    async with running([spilling.ports["zero"]]) as (hosted,), spilling.client() as client:
        answer = await client.chat("x", model=model, key=key)
    assert (answer.status, answer.headers["x-weighbridge-outcome"]) == (503, "wait-expired")
    assert hosted.served == []


async def test_what_waits_for_a_replica_spills_after_its_time(spilling: Spilling) -> None:
    ports = [spilling.ports["replica"], spilling.ports["full"]]
    async with running(ports) as (replica, hosted), spilling.client() as client:
        replica.begin.clear()
        first = asyncio.create_task(client.chat("first", model="full", key=NOT_ALLOWED))
        await until(lambda: replica.names() == ["first"])
        answer = await client.chat("second", model="full", key=ALLOWED, stream=True)
        replica.begin.set()
        assert (await first).headers["x-weighbridge-outcome"] == "served"
    assert answer.headers["x-weighbridge-outcome"] == "spilled"
    assert hosted.names() == ["second"]


async def test_a_client_that_leaves_ends_the_call_to_the_provider(spilling: Spilling) -> None:
    async with running([spilling.ports["zero"]]) as (hosted,), spilling.client() as client:
        hosted.go_on.clear()
        async with client.open("leaver", model="zero", key=ALLOWED) as response:
            await response.content.readany()
        await until(lambda: hosted.served[0].cut, limit_s=5.0)
        assert spilling.spill("zero")["in_flight"] == 0


async def test_the_spill_process_comes_back_and_nobody_else_holds_the_sdk(spilling: Spilling) -> None:
    children = spilling.children()
    tiktoken = {name: "tiktoken" in Path(f"/proc/{pid}/maps").read_text() for name, pid in children.items()}
    assert tiktoken == {"spill": True, "worker": False}
    kill(children["spill"])
    async with running([spilling.ports["zero"]]), spilling.client() as client:

        async def spills() -> bool:
            answer = await client.chat("x", model="zero", key=ALLOWED)
            return answer.headers["x-weighbridge-outcome"] == "spilled"

        await until(spills, limit_s=60.0)
    assert spilling.children()["worker"] == children["worker"]
    assert spilling.children()["spill"] != children["spill"]
