"""The shared queue as clients see it: one order over all gateways, fair between tenants, bounded, visible."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from backlog.order import LEAD_S, Order, Queue
from backlog.records import ReplicaName, ReplicaRecord, ReplicaState, TicketId
from backlog.store import Backlog
from tests.flows.conftest import StartGateway, Wire, until
from tests.flows.queueing import ONE_SLOT, POOL, Slots, drain, occupy, send, tenant, tickets
from tests.flows.scripted import answer, replica

A, B = tenant("a"), tenant("b")


async def statuses(wires: Sequence[Wire]) -> list[int]:
    return [response.status for response in await asyncio.gather(*(wire.response() for wire in wires))]


@pytest.mark.parametrize("skew_s", [0.0, 5.0, -5.0])
async def test_two_gateways_serve_in_the_order_of_arrival_whatever_their_clocks_say(
    start_gateway: StartGateway, backlog: Backlog, skew_s: float
) -> None:
    slots = Slots()
    given = {"kv_capacity_tokens": ONE_SLOT, "order": Order.FCFS, "tenants": [A, B]}
    async with (
        replica(slots.script) as one,
        start_gateway([one.url], **given) as first,
        start_gateway([one.url], skew_s=skew_s, **given) as second,
    ):
        wires = [await occupy(slots, first, second)]
        names = [f"n{number}" for number in range(8)]
        for number, name in enumerate(names):
            gateway, who = ((first, "a"), (second, "b"))[number % 2]
            wires.append(await send(gateway, name, tenant=who))
            await tickets(backlog, number + 1)
        assert await drain(slots, len(names)) == names
        slots.open()
        assert await statuses(wires) == [200] * 9
        assert first.pool.stats.dispatches == {"idle": 1, "leased": 4}
        assert second.pool.stats.dispatches == {"leased": 4}


async def test_a_tenant_that_floods_one_gateway_is_served_in_turn_with_one_that_asks_little_of_another(
    start_gateway: StartGateway, backlog: Backlog
) -> None:
    slots = Slots()
    given = {"kv_capacity_tokens": ONE_SLOT, "tenants": [A, B]}
    async with (
        replica(slots.script) as one,
        start_gateway([one.url], **given) as first,
        start_gateway([one.url], **given) as second,
    ):
        wires = [await occupy(slots, first, second)]
        wires += [await send(first, f"a{number}") for number in range(40)]
        await tickets(backlog, 40)
        wires += [await send(second, f"b{number}", tenant="b") for number in range(3)]
        await tickets(backlog, 43)
        order = await drain(slots, 8)
        slots.open()
        assert await statuses(wires) == [200] * 44
    assert {"b0", "b1", "b2"} < set(order)
    assert len([name for name in order[:2] if name.startswith("b")]) == 1


async def test_a_full_queue_takes_the_last_place_of_the_tenant_that_has_most(
    start_gateway: StartGateway, backlog: Backlog
) -> None:
    slots = Slots()
    given = {"kv_capacity_tokens": ONE_SLOT, "max_waiting": 4, "tenants": [A, B]}
    async with (
        replica(slots.script) as one,
        start_gateway([one.url], **given) as first,
        start_gateway([one.url], **given) as second,
    ):
        await occupy(slots, first, second)
        wires = []
        for number in range(4):
            wires.append(await send(first, f"a{number}"))
            await tickets(backlog, number + 1)
        pushing = await send(second, "b0", tenant="b")
        refused = await wires.pop().response()
        assert (refused.status, refused.headers["x-weighbridge-outcome"]) == (429, "backlog-full")
        assert int(refused.headers["retry-after"]) >= 1
        too_many = await (await send(first, "a4")).response()
        assert (too_many.status, too_many.headers["x-weighbridge-outcome"]) == (429, "backlog-full")
        await tickets(backlog, 4)
        slots.open()
        assert await statuses([*wires, pushing]) == [200] * 4


async def test_a_priority_goes_first_where_its_tenant_may_ask_for_it(
    start_gateway: StartGateway, backlog: Backlog
) -> None:
    slots = Slots()
    tenants = [A, tenant("b", max_priority=7)]
    given = {"kv_capacity_tokens": ONE_SLOT, "order": Order.FCFS, "tenants": tenants}
    async with replica(slots.script) as one, start_gateway([one.url], **given) as gateway:
        await occupy(slots, gateway)
        asks = [("plain", "a", ""), ("clamped", "a", "7"), ("late", "b", "0"), ("urgent", "b", "7")]
        for number, (name, who, priority) in enumerate(asks):
            headers = f"x-weighbridge-priority: {priority}\r\n" if priority else ""
            await send(gateway, name, tenant=who, headers=headers)
            await tickets(backlog, number + 1)
        assert await drain(slots, 4) == ["urgent", "plain", "clamped", "late"]
        slots.open()


async def test_what_waits_for_the_first_replica_is_sent_when_it_is_listed(
    start_gateway: StartGateway, backlog: Backlog
) -> None:
    async with replica(answer) as one, start_gateway([], tenants=[A], cold_start_s=20.0) as gateway:
        starting = ReplicaRecord(
            name=ReplicaName("x"), url=one.url, state=ReplicaState.STARTING, created_at_s=time.time()
        )
        await backlog.publish_replicas(POOL, [starting])
        await until(lambda: gateway.pool.fleet.starting)
        wires = [await send(gateway, f"n{number}") for number in range(5)]
        await tickets(backlog, 5)
        ready = ReplicaRecord(name=ReplicaName("x"), url=one.url, state=ReplicaState.READY, created_at_s=time.time())
        await backlog.publish_replicas(POOL, [ready])
        responses = await asyncio.gather(*(wire.response() for wire in wires))
    assert [response.status for response in responses] == [200] * 5
    assert all(float(response.headers["x-weighbridge-queue-ms"]) > 0 for response in responses)
    assert all(float(response.headers["x-weighbridge-wait-estimate-ms"]) > 1000 for response in responses)


@pytest.mark.parametrize("used_tokens", [2, 4000])
async def test_a_tenant_pays_what_its_request_used_and_not_what_was_expected(
    start_gateway: StartGateway, backlog: Backlog, used_tokens: int
) -> None:
    slots = Slots()
    slots.body = b'{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":%d}}' % used_tokens
    given = {"kv_capacity_tokens": ONE_SLOT, "tenants": [A, B]}
    async with replica(slots.script) as one, start_gateway([one.url], **given) as gateway:
        await occupy(slots, gateway)
        for number in range(3):
            await send(gateway, f"b{number}", tenant="b")
            await tickets(backlog, number + 1)
        expected_gpu_s = gateway.pool.room.seats[0].ticket.gpu_s
        used_gpu_s = gateway.pool.price.used(input_tokens=7, output_tokens=used_tokens).gpu_s
        assert not 0.1 < used_gpu_s / expected_gpu_s < 10.0
        await drain(slots, 2)
        # What one wrong price costs a tenant later is bounded. The second request runs and is charged as expected.
        paid_v = min(used_gpu_s, LEAD_S) + expected_gpu_s

        async def paid() -> bool:
            view = await backlog.view(POOL)
            return [line.finish_v for line in view.queue.lines] == [pytest.approx(paid_v)]

        await until(paid)
        slots.open()


async def test_tenants_with_weights_are_served_in_exactly_the_order_of_the_pure_queue(
    start_gateway: StartGateway, backlog: Backlog
) -> None:
    slots, expected = Slots(), Queue(Order.FAIR)
    heavy = tenant("b", weight=3.0)
    given = {"kv_capacity_tokens": ONE_SLOT, "tenants": [A, heavy]}
    async with replica(slots.script) as one, start_gateway([one.url], **given) as gateway:
        wires = [await occupy(slots, gateway)]
        named: dict[TicketId, str] = {}
        for number in range(16):
            name = f"{'ab'[number % 2]}{number // 2}"
            wires.append(await send(gateway, name, tenant=name[0]))
            await tickets(backlog, number + 1)
            (waiting,) = [seat.ticket for seat in gateway.pool.room.seats if seat.ticket.id not in named]
            named[waiting.id] = name
            expected.add(waiting, float(number))
        ((gpu_s, priority),) = {(waiting.gpu_s, waiting.priority) for waiting in expected}
        # Each one ends, and is charged by what it used, before the next one goes. The first is the one that ran.
        price = gateway.pool.price
        used_gpu_s = price.gpus * price.prefill_s(input_tokens=7, cached_tokens=0)
        used_gpu_s += price.gpus * price.decode_s(input_tokens=7, output_tokens=2)
        expected.charge("a", A.weight, gpu_s, priority)
        expected.charge("a", A.weight, used_gpu_s - gpu_s, priority)
        order = []
        while (head := expected.head()) is not None:
            taken = expected.take(head.id)
            expected.charge(taken.tenant, taken.tenant_weight, used_gpu_s - gpu_s, priority)
            order.append(named[taken.id])
        assert await drain(slots, len(order)) == order
        slots.open()
        assert await statuses(wires) == [200] * 17
    # A fourth of the GPU-seconds is a's as long as both wait; the first of b's turns makes up for the blocker.
    assert [name[0] for name in order[:10]].count("a") == 2
