"""Replicas that answer 429 beyond their slots: a pool that counts these serves all requests, and none meets a 429."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from backlog.store import Backlog
from tests.flows.conftest import StartGateway, until
from tests.flows.queueing import emptied, send, tenant, tickets
from tests.flows.scripted import Call, json_response, replica

SLOTS, REQUESTS = 2, 12
BUSY = b'{"error":{"message":"too many requests"}}'


class Bounded:
    """A replica's script with `SLOTS` places: each request stays until `open` is set, one more is answered 429."""

    def __init__(self, opened: asyncio.Event) -> None:
        self.running = self.most_running = self.served = self.refused = 0
        self._opened = opened

    async def script(self, call: Call) -> None:
        if self.running >= SLOTS:
            self.refused += 1
            call.send(json_response(BUSY, "429 Too Many Requests"))
            return
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await self._opened.wait()
        self.running -= 1
        self.served += 1
        call.send(json_response())


@pytest.mark.parametrize("gateways", [1, 2])
async def test_twelve_requests_on_two_replicas_with_two_slots_are_all_served_and_none_is_answered_429(
    gateways: int, start_gateway: StartGateway, backlog: Backlog
) -> None:
    opened = asyncio.Event()
    bounded = [Bounded(opened) for _ in range(2)]
    given = {"max_in_flight": SLOTS, "tenants": [tenant("a")]}
    async with AsyncExitStack() as stack:
        urls = [(await stack.enter_async_context(replica(one.script))).url for one in bounded]
        workers = [await stack.enter_async_context(start_gateway(urls, **given)) for _ in range(gateways)]
        for worker in workers:
            await until(lambda worker=worker: worker.pool.connected and worker.pool.solo.share == 1.0 / gateways)
        wires = [await send(workers[number % gateways], f"n{number}") for number in range(REQUESTS)]
        await tickets(backlog, REQUESTS - 2 * SLOTS)
        await until(lambda: [one.running for one in bounded] == [SLOTS, SLOTS])
        opened.set()
        responses = [await wire.response() for wire in wires]
        assert [response.status for response in responses] == [200] * REQUESTS
        assert [(one.refused, one.most_running) for one in bounded] == [(0, SLOTS)] * 2
        assert sum(one.served for one in bounded) == REQUESTS
        assert sum(worker.pool.stats.retries for worker in workers) == 0
        assert sum(worker.pool.stats.over_dispatches for worker in workers) == 0
        await emptied(backlog)


async def test_slots_that_end_early_are_given_to_whoever_waits(start_gateway: StartGateway, backlog: Backlog) -> None:
    """A client that leaves gives its slot back, though its replica says nothing."""
    opened = asyncio.Event()
    one = Bounded(opened)
    async with (
        replica(one.script) as served,
        start_gateway([served.url], max_in_flight=1, tenants=[tenant("a")]) as gateway,
    ):
        leaves = await send(gateway, "leaves")
        await until(lambda: one.running == 1)
        stays = await send(gateway, "stays")
        await tickets(backlog, 1)
        leaves.close()
        await until(lambda: one.running == 2)
        opened.set()
        assert (await stays.response()).status == 200
        await emptied(backlog)
