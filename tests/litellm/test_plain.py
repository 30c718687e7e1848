"""What LiteLLM does alone: the ground that the plugin stands on."""

import asyncio

import pytest

from tests.flows.conftest import until
from tests.litellm.answers import INPUT_TOKENS, OUTPUT_TOKENS
from tests.litellm.conftest import Stand

pytestmark = [pytest.mark.litellm, pytest.mark.timeout(180)]  # the first of them starts the proxies


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_the_proxy_relays_a_call_to_a_replica(plain: Stand, stream: bool) -> None:
    async with plain.replicas("m") as replicas, plain.client() as client:
        answer = await client.chat("relayed", stream=stream)
        assert answer.status == 200, answer.text
        assert "relayed" in answer.text
        assert answer.replica is None
        served = [one for replica in replicas for one in replica.served]
        assert [(one.name, one.stream, one.cut) for one in served] == [("relayed", stream, False)]


async def test_a_cut_connection_reaches_the_replica(plain: Stand) -> None:
    async with plain.replicas("single") as (replica,), plain.client() as client:
        replica.go_on.clear()
        async with client.open("leaver", model="single") as response:
            await response.content.readany()
        await until(lambda: replica.served[0].cut)


async def test_alone_it_rejects_what_finds_no_slot(plain: Stand) -> None:
    async with plain.replicas("slots", slots=2) as replicas, plain.client() as client:
        for replica in replicas:
            replica.begin.clear()
        calls = [asyncio.create_task(client.chat(f"c{i}", model="slots")) for i in range(12)]
        await until(lambda: sum(call.done() for call in calls) >= 8)
        for replica in replicas:
            replica.begin.set()
        answers = await asyncio.gather(*calls)
    assert sorted(answer.status for answer in answers) == [200] * 4 + [429] * 8
    assert [replica.most_running for replica in replicas] == [2, 2]


async def test_its_log_has_no_price_for_a_self_hosted_model(plain: Stand) -> None:
    async with plain.replicas("m"), plain.client() as client:
        assert (await client.chat("unpriced")).status == 200
        (record,) = await until(lambda: plain.proxy.spent("unpriced"))
    assert record["response_cost"] == 0.0
    assert record["total_tokens"] == INPUT_TOKENS + OUTPUT_TOKENS
