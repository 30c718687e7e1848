"""Calls of a LiteLLM proxy from the weight to the bill, with a real Redis and every way in which they end."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from backlog.store import Backlog
from gateway.outcome import Outcome, Refusal
from gateway.plugin.calls import MOST_ENDED
from gateway.plugin.front import Front
from gateway.usage import Usage
from tests.gateway.builders import POOL, record, tenant
from tests.gateway.plugin.proxy import ANSWER, LIMIT_S, LONG, Proxy, Stream, deployment, front, settles, until


class Broken(Exception):
    status_code = 500


class Full(Exception):
    status_code = 429


class BadRequest(Exception):
    status_code = 400


@pytest.fixture
async def proxy(redis_url: str, redis_prefix: str) -> AsyncIterator[Proxy]:
    made = Proxy(front(redis_url, redis_prefix))
    made.front.start()
    yield made
    await made.front.stop()


def occupied(proxy: Proxy) -> "list[tuple[asyncio.Event, asyncio.Task[Any]]]":
    """Both replicas busy with long prompts that end when their event is set."""
    busy = []
    for name in ("long-0", "long-1"):
        done = asyncio.Event()
        busy.append((done, proxy.call(name, LONG, answers=[done], streams=True)))
    return busy


def stats(proxy: Proxy) -> dict[str, int]:
    [pool] = proxy.front.start().context.pools
    return {outcome: number for (_, outcome), number in pool.stats.outcomes.items()}


async def test_a_call_is_sent_where_the_scheduler_says(proxy: Proxy) -> None:
    assert await proxy.call("a") == ANSWER
    [(_, sent_to)] = proxy.sent
    name = proxy.front.headers("a")["x-weighbridge-replica"]
    assert sent_to == {"r0": "id-9000", "r1": "id-9001"}[name]
    assert proxy.front.headers("a")["x-weighbridge-outcome"] == "served"


async def test_a_model_without_a_pool_is_left_to_litellm(proxy: Proxy) -> None:
    offered = [deployment(1, group="other"), deployment(2, group="other")]
    assert await proxy.front.place("other", offered, [], {}) == offered
    assert proxy.front.headers("nobody") == {}


async def test_what_is_not_weighed_is_left_to_litellm(proxy: Proxy) -> None:
    call = {"proxy_server_request": {"url": "http://proxy/v1/audio/speech"}}
    assert await proxy.front.place("llama", proxy.offered, None, call) == proxy.offered


async def test_calls_wait_for_room_and_go_in_the_order_of_the_queue(proxy: Proxy, backlog: Backlog) -> None:
    busy = occupied(proxy)
    await until(lambda: len(proxy.sent) == 2)
    waiting = []
    for index in range(3):
        # Each is heavier by seconds of what orders them: when they arrived is known to a few milliseconds only.
        text = LONG * (index + 1)
        waiting.append(proxy.call(f"w{index}", text, answers=[asyncio.Event()], streams=True))
        await until(lambda index=index: proxy.front.start().context.pools[0].room.count == index + 1)
    assert len(proxy.sent) == 2
    for done, task in busy:
        done.set()
        await task
    await until(lambda: len(proxy.sent) == 4)
    assert [name for name, _ in proxy.sent[2:]] == ["w0", "w1"]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await settles(backlog, 0)


async def test_two_workers_share_one_queue(proxy: Proxy, redis_url: str, redis_prefix: str) -> None:
    other = Proxy(front(redis_url, redis_prefix))
    other.front.start()
    try:
        busy = occupied(proxy)
        await until(lambda: len(proxy.sent) == 2)
        await until(lambda: other.front.start().context.pools[0].fleet.loads["r1"].in_flight == 1)
        elsewhere = other.call("elsewhere")
        await until(lambda: other.front.start().context.pools[0].room.count == 1)
        await until(lambda: proxy.front.start().context.pools[0].waiting_elsewhere == 1)
        here = proxy.call("here")
        await until(lambda: proxy.front.start().context.pools[0].room.count == 1)
        assert other.sent == []
        busy[0][0].set()
        assert await elsewhere == ANSWER
        assert await here == ANSWER
        busy[1][0].set()
        await asyncio.gather(*(task for _, task in busy))
    finally:
        await other.front.stop()


async def test_a_client_that_leaves_the_queue_takes_its_ticket_with_it(proxy: Proxy, backlog: Backlog) -> None:
    busy = occupied(proxy)
    await until(lambda: len(proxy.sent) == 2)
    waiting = proxy.call("w")
    await until(lambda: proxy.front.start().context.pools[0].room.count == 1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert proxy.front.start().context.pools[0].room.count == 0
    for done, task in busy:
        done.set()
        await task
    await settles(backlog, 0)
    assert (await backlog.view(POOL)).queue.tickets == 0
    await until(lambda: stats(proxy) == {"served": 2, "client-gone": 1})


async def test_a_client_that_leaves_before_the_first_byte_frees_the_replica(proxy: Proxy, backlog: Backlog) -> None:
    task = proxy.call("a", answers=[asyncio.Event()])
    await settles(backlog, 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await settles(backlog, 0)
    await until(lambda: stats(proxy) == {"client-gone": 1})


async def test_a_stream_is_counted_and_billed_by_its_usage(proxy: Proxy, backlog: Backlog) -> None:
    stream = Stream()
    task = proxy.call("a", LONG, answers=[stream], streams=True)
    assert await task is stream
    await settles(backlog, 1)
    assert len(await proxy.read("a", stream)) == 4
    await settles(backlog, 0)
    [pool] = proxy.front.start().context.pools
    assert (pool.stats.input_tokens, pool.stats.output_tokens) == (9, 4)
    await until(lambda: stats(proxy) == {"served": 1})


async def test_the_first_token_makes_room(proxy: Proxy) -> None:
    stream = Stream()
    await proxy.call("a", LONG, answers=[stream], streams=True)
    [pool] = proxy.front.start().context.pools
    assert sum(load.prefill_s for load in pool.fleet.loads.values()) > 0.25
    relayed = proxy.front.relay("a", stream)
    await anext(relayed)
    assert sum(load.prefill_s for load in pool.fleet.loads.values()) == pytest.approx(0.0)
    async for _ in relayed:
        pass


async def test_a_client_that_leaves_a_stream_frees_the_replica_and_closes_it(proxy: Proxy, backlog: Backlog) -> None:
    stream = Stream(chunks=50)
    await proxy.call("a", answers=[stream], streams=True)
    assert len(await proxy.read("a", stream, most=5)) == 5
    assert stream.closed
    await settles(backlog, 0)
    await until(lambda: stats(proxy) == {"client-gone": 1})
    [pool] = proxy.front.start().context.pools
    assert pool.stats.output_tokens == 5


async def test_a_stream_that_breaks_counts_against_its_replica(proxy: Proxy) -> None:
    stream = Stream(error=Broken())
    await proxy.call("a", answers=[stream], streams=True)
    with pytest.raises(Broken):
        await proxy.read("a", stream)
    await until(lambda: stats(proxy) == {"replica-broke": 1})
    [pool] = proxy.front.start().context.pools
    name = proxy.front.headers("a")["x-weighbridge-replica"]
    assert pool.replicas[name].breaker.failures == 1


@pytest.mark.parametrize("tells", [pytest.param(True, id="a hook tells"), pytest.param(False, id="no hook tells")])
async def test_a_failed_attempt_is_followed_by_one_elsewhere(proxy: Proxy, *, tells: bool) -> None:
    assert await proxy.call("a", answers=[Broken(), ANSWER], tells=tells) == ANSWER
    first, second = proxy.sent
    assert first[1] != second[1]
    await until(lambda: stats(proxy) == {"served": 1})


async def test_calls_that_fail_on_every_attempt_leave_nothing_in_flight(proxy: Proxy, backlog: Backlog) -> None:
    tasks = [proxy.call(f"a{index}", answers=[Broken()] * 3) for index in range(5)]
    assert all(isinstance(error, Broken) for error in await asyncio.gather(*tasks, return_exceptions=True))
    await settles(backlog, 0)
    assert len(proxy.sent) == 15
    await until(lambda: stats(proxy) == {"replica-failed": 5})
    [pool] = proxy.front.start().context.pools
    assert all(load.in_flight == 0 for load in pool.fleet.loads.values())
    assert not any(replica.running for replica in pool.replicas.values())


async def test_a_full_replica_is_left_alone_for_a_while(proxy: Proxy) -> None:
    proxy.offered = [deployment(9000), deployment(9001)]
    assert await proxy.call("a", answers=[Full(), ANSWER]) == ANSWER
    full = proxy.sent[0][1]
    for index in range(4):
        await proxy.call(f"b{index}")
    assert full not in [sent_to for _, sent_to in proxy.sent[1:]]


async def test_a_request_that_is_wrong_says_nothing_of_its_replica(proxy: Proxy) -> None:
    task = proxy.call("a", answers=[BadRequest()])
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: stats(proxy) == {"replica-refused": 1})
    [pool] = proxy.front.start().context.pools
    assert all(replica.breaker.failures == 0 for replica in pool.replicas.values())


async def test_a_refused_call_gets_the_same_answer_again(redis_url: str, redis_prefix: str) -> None:
    proxy = Proxy(front(redis_url, redis_prefix, max_wait_s=0.2))
    try:
        occupied(proxy)
        await until(lambda: len(proxy.sent) == 2)
        seen: list[float] = []

        async def insist() -> None:
            """LiteLLM with `num_retries` of the client's own."""
            for _ in range(3):
                began_s = time.perf_counter()
                with pytest.raises(Refusal):
                    await proxy._call("w", "hi")
                seen.append(time.perf_counter() - began_s)

        await asyncio.create_task(insist())
        assert seen[0] > max(seen[1:])
        await until(lambda: stats(proxy) == {"wait-expired": 1})
        headers = proxy.front.headers("w")
        assert headers["x-weighbridge-outcome"] == "wait-expired"
        assert int(headers["retry-after"]) >= 1
    finally:
        for task in asyncio.all_tasks():
            if task.get_name().startswith("long-"):
                task.cancel()
        await proxy.front.stop()


async def test_a_hosted_model_of_the_group_takes_what_the_pool_refuses(redis_url: str, redis_prefix: str) -> None:
    hosted = deployment(0, "azure/gpt-4o-mini")
    proxy = Proxy(front(redis_url, redis_prefix, max_wait_s=0.1), offered=[deployment(9000), deployment(9001), hosted])
    try:
        occupied(proxy)
        await until(lambda: len(proxy.sent) == 2)
        assert await proxy.call("w") == ANSWER
        assert proxy.sent[-1] == ("w", "id-0")
    finally:
        for task in asyncio.all_tasks():
            if task.get_name().startswith("long-"):
                task.cancel()
        await proxy.front.stop()


async def test_a_call_may_ask_its_model_again_once_it_was_answered(proxy: Proxy, backlog: Backlog) -> None:
    async def with_a_tool() -> None:
        await proxy._call("a", "hi")
        await proxy._call("a", "hi, and here is what the tool said")

    await asyncio.create_task(with_a_tool())
    await until(lambda: stats(proxy) == {"served": 2})
    await settles(backlog, 0)


async def test_what_a_guardrail_has_made_of_the_messages_is_weighed(proxy: Proxy) -> None:
    sent = {"messages": [{"role": "user", "content": LONG}]}
    request = {"url": "http://proxy/v1/chat/completions", "body": sent}
    call = {"litellm_call_id": "a", "proxy_server_request": request}
    await asyncio.create_task(proxy.place("llama", [{"role": "user", "content": "[redacted]"}], call))
    short = float(proxy.front.headers("a")["x-weighbridge-gpu-seconds"])
    await asyncio.create_task(
        proxy.place("llama", [{"role": "user", "content": LONG}], {**call, "litellm_call_id": "b"})
    )
    assert float(proxy.front.headers("b")["x-weighbridge-gpu-seconds"]) > 2 * short


async def test_a_live_replica_needs_no_entry_of_its_own(redis_url: str, redis_prefix: str, backlog: Backlog) -> None:
    proxy = Proxy(front(redis_url, redis_prefix, replicas=0, replica_api_key="pod-key"), offered=[deployment(1)])
    pod = record("pod-7", port=9007)
    await backlog.publish_replicas(POOL, [pod], ttl_s=60.0)
    try:
        await proxy.call("a")
        assert proxy.sent == [("a", "chat/pod-7")]
        proxy.offered = []  # LiteLLM has put its entry into cooldown
        messages = [{"role": "user", "content": "hi"}]
        [entry] = await asyncio.create_task(proxy.place("llama", messages, {"litellm_call_id": "b"}))
        assert entry["litellm_params"] == {
            "model": "hosted_vllm/llama", "api_base": "http://127.0.0.1:9007/v1", "api_key": "pod-key",
        }  # fmt: skip
    finally:
        await proxy.front.stop()


async def test_limits_of_a_tenant_hold_for_its_team(redis_url: str, redis_prefix: str) -> None:
    poor = tenant("poor", gpu_s_per_day=1e-9)
    proxy = Proxy(front(redis_url, redis_prefix, tenants=(poor,)))
    try:
        team = {"user_api_key_team_alias": "poor"}
        outcomes = []
        async with asyncio.timeout(LIMIT_S):
            # What was spent is heard of with the next booking.
            while not outcomes:
                task = proxy.call(f"a{len(proxy.sent)}", metadata=team)
                await asyncio.gather(task, return_exceptions=True)
                outcomes = [error.outcome] if isinstance(error := task.exception(), Refusal) else []
        assert outcomes == [Outcome.BUDGET_SPENT]
        assert await proxy.call("c", metadata={"user_api_key_team_alias": "rich"}) == ANSWER
    finally:
        await proxy.front.stop()


async def test_a_served_call_has_a_price_and_others_have_none(redis_url: str, redis_prefix: str) -> None:
    proxy = Proxy(front(redis_url, redis_prefix, price_per_gpu_hour=3600.0))
    try:
        await proxy.call("a", metadata={"user_api_key_team_alias": "blue"})
        money, fields = proxy.front.priced("a", Usage(9, 4, 0))
        assert money == pytest.approx(fields["gpu_seconds"], abs=1e-6)
        assert money is not None
        assert money > 0.0
        assert fields["tenant"] == "blue"
        await asyncio.gather(proxy.call("b", answers=[BadRequest()]), return_exceptions=True)
        money, fields = proxy.front.priced("b", Usage(9, 4, 0))
        assert money is None
        assert fields["gpu_seconds"] is None
        assert proxy.front.priced("nobody", None) == (None, {})
    finally:
        await proxy.front.stop()


async def test_while_redis_is_away_calls_are_still_placed() -> None:
    proxy = Proxy(front("redis://127.0.0.1:1", "unused"))
    proxy.front.start()
    try:
        assert await proxy.call("a") == ANSWER
    finally:
        await proxy.front.stop()


def test_the_front_starts_with_the_first_call(redis_url: str, redis_prefix: str) -> None:
    made: Front = front(redis_url, redis_prefix)
    assert len(made.calls) == 0


async def test_a_call_that_a_second_replica_answered_is_priced(proxy: Proxy) -> None:
    assert await proxy.call("a", answers=[Broken(), ANSWER]) == ANSWER
    _, fields = proxy.front.priced("a", Usage(9, 4, 0))
    assert fields["gpu_seconds"] > 0.0


async def test_a_client_that_gives_all_its_calls_one_id_is_not_remembered_without_end(proxy: Proxy) -> None:
    for _ in range(MOST_ENDED + 5):
        assert await proxy.call("same") == ANSWER
    assert stats(proxy) == {"served": MOST_ENDED + 5}
    assert proxy.front.calls.remembered("same") == MOST_ENDED


async def test_a_stream_of_messages_that_ends_with_its_output_alone_is_billed_in_full(proxy: Proxy) -> None:
    async def events() -> AsyncIterator[bytes]:
        yield b'data: {"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}'
        yield b'data: {"type":"content_block_delta"}'
        yield b'data: {"type":"message_delta","usage":{"output_tokens":40}}'

    stream = events()
    await proxy.call("a", answers=[stream], streams=True)
    await proxy.read("a", stream)
    [pool] = proxy.front.start().context.pools
    assert (pool.stats.input_tokens, pool.stats.output_tokens) == (9, 40)
