"""Every endpoint that carries work is weighed; a rejected call falls back; a client's own retries change nothing."""

import asyncio
from functools import partial
from typing import Any

import pytest

from tests.flows.conftest import until
from tests.litellm.conftest import Stand
from tests.litellm.proxy import ENDPOINTS, Answer, Client
from tests.litellm.replicas import Replica

pytestmark = [pytest.mark.litellm, pytest.mark.timeout(180)]  # the first of them starts the proxies


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("path", "body"), ENDPOINTS.values(), ids=ENDPOINTS.keys())
async def test_an_endpoint_that_generates_is_weighed(
    one: Stand, client: Client, path: str, body: dict[str, Any], stream: bool
) -> None:
    async with one.replicas("m") as replicas:
        answer = await client.post(path, {**body, "stream": stream})
        await one.idle("m")
    assert answer.status == 200, answer.text
    assert all(word in answer.text for word in ("one ", "two ", "three"))
    _weighed(answer, replicas)


async def test_the_priority_of_a_body_reaches_the_model_server(one: Stand, client: Client) -> None:
    async with one.replicas("m") as replicas:
        assert (await client.chat("urgent", priority=-5)).status == 200
        await one.idle("m")
    assert [served.body.get("priority") for replica in replicas for served in replica.served] == [-5]


async def test_embeddings_are_weighed(one: Stand, client: Client) -> None:
    async with one.replicas("m") as replicas:
        answer = await client.post("/v1/embeddings", {"model": "m", "input": ["#it"]})
        await one.idle("m")
    assert answer.status == 200, answer.text
    _weighed(answer, replicas)


async def test_a_model_of_no_pool_is_none_of_our_business(one: Stand, client: Client) -> None:
    async with one.replicas("other") as (replica,):
        answer = await client.chat("foreign", model="other")
    assert (answer.status, replica.names()) == (200, ["foreign"])
    assert not [name for name in answer.headers if name.startswith("x-weighbridge")]


async def test_a_rejected_call_falls_back_to_another_model_group(one: Stand, client: Client) -> None:
    calls = [partial(client.chat, name, model="narrow") for name in ("runs", "waits")]
    async with one.replicas("narrow") as (replica,), one.replicas("other") as (other,):
        tasks = await one.line_up(calls, "narrow", replica)
        answer = await client.chat("falls", model="narrow")
        replica.begin.set()
        assert [(await task).status for task in tasks] == [200, 200]
        await one.idle("narrow")
    assert answer.status == 200, answer.text
    assert (replica.names(), other.names()) == (["runs", "waits"], ["falls"])


async def test_a_rejected_call_is_asked_for_once_whatever_the_client_says(one: Stand, client: Client) -> None:
    calls = [partial(client.chat, name, model="narrow") for name in ("runs", "waits")]
    async with one.replicas("narrow") as (replica,):
        before = await _arrived(one)
        tasks = await one.line_up(calls, "narrow", replica)
        answer = await client.chat("insists", model="narrow", num_retries=1, disable_fallbacks=True)
        await until(lambda: _arrived_since(one, before, 3))
        replica.begin.set()
        await asyncio.gather(*tasks)
        await one.idle("narrow")
    assert answer.status == 429, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert replica.names() == ["runs", "waits"]


def _weighed(answer: Answer, replicas: list[Replica]) -> None:
    (replica,) = [replica for replica in replicas if replica.served]
    assert [served.name for served in replica.served] == ["it"]
    assert answer.replica == replica.name
    assert float(answer.headers["x-weighbridge-gpu-seconds"]) > 0.0


async def _arrived_since(stand: Stand, before: int, count: int) -> bool:
    arrived = await _arrived(stand) - before
    assert arrived <= count
    return arrived == count


async def _arrived(stand: Stand) -> int:
    """Calls that the pool was asked for so far."""
    return sum(seen.report.arrived for seen in (await stand.view("narrow")).reports)
