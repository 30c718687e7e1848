"""Replicas that refuse, reset, hang, fill up or die: another one answers, or the client is told in a clean way."""

import asyncio

import pytest

from gateway.settings import Limits
from tests.flows.conftest import StartGateway, chat, until
from tests.flows.scripted import (
    BODY,
    DONE,
    SSE_HEAD,
    Call,
    Script,
    answer,
    chunk,
    event,
    full,
    hang,
    json_response,
    replica,
    reset,
    stream,
)  # fmt: skip


async def _server_error(call: Call) -> None:
    call.send(json_response(b"{}", "500 Internal Server Error"))


async def _nonsense(call: Call) -> None:
    call.send(b"SPDY/9 what\r\n\r\n")


async def _half_a_head(call: Call) -> None:
    call.send(b"HTTP/1.1 200 OK\r\ncontent-")
    await call.writer.drain()
    call.reset()


@pytest.mark.parametrize("fault", [reset, full, _server_error, _nonsense, _half_a_head])
async def test_before_the_first_byte_another_replica_answers(start_gateway: StartGateway, fault: Script) -> None:
    async with replica(fault) as bad, replica(answer) as good, start_gateway([bad.url, good.url]) as gateway:
        responses = [await gateway.chat() for _ in range(12)]
        assert {(r.status, r.body, r.headers["x-weighbridge-replica"]) for r in responses} == {(200, BODY, "r1")}
        assert gateway.pool.stats.retries == len(bad.calls) >= 1


async def test_a_replica_that_refuses_connections_is_passed_over(start_gateway: StartGateway) -> None:
    async with replica(answer) as gone:
        pass
    async with replica(answer) as good, start_gateway([gone.url, good.url]) as gateway:
        responses = [await gateway.chat() for _ in range(12)]
    assert [response.status for response in responses] == [200] * 12


async def test_after_three_failed_attempts_the_client_gets_502(start_gateway: StartGateway) -> None:
    async with replica(_server_error) as bad, start_gateway([bad.url]) as gateway:
        response = await gateway.chat()
        assert (response.status, response.error["code"]) == (502, "replica_failed")
        assert len(bad.calls) == 3
        assert gateway.pool.replicas["r0"].ledger.load.in_flight == 0


async def test_a_client_error_of_the_model_server_is_passed_on(start_gateway: StartGateway) -> None:
    async def refuse(call: Call) -> None:
        call.send(json_response(b'{"error":{"message":"context too long"}}', "400 Bad Request"))

    async with replica(refuse) as one, start_gateway([one.url]) as gateway:
        response = await gateway.chat()
    assert (response.status, response.body) == (400, b'{"error":{"message":"context too long"}}')
    assert response.headers["x-weighbridge-outcome"] == "replica-refused"
    assert len(one.calls) == 1


async def test_a_replica_that_dies_in_a_stream_ends_it_with_an_error_event(start_gateway: StartGateway) -> None:
    async def die(call: Call) -> None:
        call.send(SSE_HEAD + chunk(event("a")) + chunk(event("b")[:20]))
        await call.writer.drain()
        await asyncio.sleep(0.05)
        call.reset()

    async with replica(die) as one, replica(stream) as two:
        async with start_gateway([one.url]) as gateway:
            wire = await gateway.connect()
            wire.send(chat(stream=True))
            response = await wire.response()
            first, *rest = response.body.split(b"\n\n")
            assert first + b"\n\n" == event("a")
            assert b'"code":"replica_broke"' in response.body
            assert response.body.endswith(DONE)
            assert rest
            assert gateway.pool.stats.outcomes == {("m", "replica-broke"): 1}
            assert gateway.pool.replicas["r0"].ledger.load.in_flight == 0
        async with start_gateway([two.url]) as gateway:
            assert (await gateway.chat(stream=True)).body.endswith(DONE)


async def test_the_connection_goes_on_after_a_broken_stream(start_gateway: StartGateway) -> None:
    async def first_dies(call: Call) -> None:
        if len(one.calls) > 1:
            await stream(call)
            return
        call.send(SSE_HEAD + chunk(event("a")))
        await call.writer.drain()
        await asyncio.sleep(0.05)
        call.reset()

    async with replica(first_dies) as one, start_gateway([one.url]) as gateway:
        wire = await gateway.connect()
        wire.send(chat(stream=True))
        assert b"replica_broke" in (await wire.response()).body
        wire.send(chat(stream=True))
        assert (await wire.response()).body == event("a") + event("b") + DONE


async def test_a_plain_body_that_is_cut_short_cannot_be_taken_for_whole(start_gateway: StartGateway) -> None:
    async def die(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await call.writer.drain()
        await asyncio.sleep(0.05)
        call.reset()

    async with replica(die) as one, start_gateway([one.url]) as gateway:
        wire = await gateway.connect()
        wire.send(chat())
        status, headers = await wire.head()
        assert (status, headers["content-length"]) == (200, "100")
        assert await wire.reader.read() == b"half"


async def test_a_replica_that_never_answers_is_given_up(start_gateway: StartGateway) -> None:
    limits = Limits(first_byte_s=0.2, drain_s=0.2)
    async with replica(hang) as one, start_gateway([one.url], limits=limits) as gateway:
        response = await gateway.chat()
        assert (response.status, response.error["code"]) == (504, "replica_timeout")
        assert gateway.pool.replicas["r0"].ledger.load.in_flight == 0


async def test_a_stream_that_stalls_is_ended_with_an_error_event(start_gateway: StartGateway) -> None:
    async def stall(call: Call) -> None:
        call.send(SSE_HEAD + chunk(event("a")))
        await call.closed()

    limits = Limits(stalled_s=0.2, drain_s=0.2)
    async with replica(stall) as one, start_gateway([one.url], limits=limits) as gateway:
        response = await gateway.chat(stream=True)
    assert response.body.startswith(event("a"))
    assert b"replica_broke" in response.body
    assert response.body.endswith(DONE)


async def test_with_all_replicas_gone_requests_are_held_then_refused(start_gateway: StartGateway) -> None:
    async with replica(answer) as gone:
        pass
    async with start_gateway([gone.url], max_wait_s=0.5) as gateway:
        response = await gateway.chat()
        assert (response.status, response.error["code"]) == (503, "wait_expired")
        assert int(response.headers["retry-after"]) >= 1
        assert "cannot connect" in response.error["message"]
        assert gateway.pool.room.count == 0


async def test_held_requests_are_served_when_a_replica_comes_back(start_gateway: StartGateway) -> None:
    async with replica(answer) as gone:
        pass
    async with start_gateway([gone.url], max_wait_s=8.0) as gateway:
        waiting = [asyncio.create_task(gateway.chat()) for _ in range(5)]
        await until(lambda: gateway.pool.room.count == 5)
        async with replica(answer, port=gone.port):
            responses = await asyncio.gather(*waiting)
    assert [response.status for response in responses] == [200] * 5


async def test_a_full_replica_is_tried_again_until_it_has_room(start_gateway: StartGateway) -> None:
    async def full_at_first(call: Call) -> None:
        await (full if len(one.calls) <= 2 else answer)(call)

    async with replica(full_at_first) as one, start_gateway([one.url], max_wait_s=9.0) as gateway:
        response = await gateway.chat()
    assert response.status == 200
    assert len(one.calls) == 3


async def test_an_idle_connection_that_the_replica_closes_costs_no_request(start_gateway: StartGateway) -> None:
    async def answer_and_close(call: Call) -> None:
        call.send(json_response())
        await call.writer.drain()
        call.writer.close()

    async with replica(answer_and_close) as one, start_gateway([one.url]) as gateway:
        responses = [await gateway.chat() for _ in range(10)]
        assert [response.status for response in responses] == [200] * 10
