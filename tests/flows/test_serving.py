"""A request that nothing disturbs: forwarded unchanged, answered unchanged, weighed and accounted for."""

import msgspec
import pytest

from tests.flows.conftest import KEY, StartGateway, chat, post, until
from tests.flows.scripted import BODY, DONE, USAGE_EVENT, answer, event, full, replica, stream

OK = b'{"model":"m","messages":[{"role":"user","content":"a"}]}'


async def test_a_response_that_does_not_stream_passes_unchanged(start_gateway: StartGateway) -> None:
    async with replica(answer) as one, start_gateway([one.url]) as gateway:
        response = await gateway.chat()
    assert (response.status, response.body) == (200, BODY)
    assert response.headers["x-weighbridge-replica"] == "r0"
    assert response.headers["x-weighbridge-outcome"] == "served"
    assert float(response.headers["x-weighbridge-gpu-seconds"]) > 0.0
    assert float(response.headers["x-weighbridge-queue-ms"]) >= 0.0
    assert response.headers["x-request-id"].startswith("wb-")


async def test_the_body_is_forwarded_byte_for_byte_when_nothing_must_change(start_gateway: StartGateway) -> None:
    body = b'{ "messages":[{"role":"user","content":"h\\u00e9"}],\n "model" : "m", "unknown_field": 1.50 }'
    async with replica(answer) as one, start_gateway([one.url]) as gateway:
        wire = await gateway.connect()
        wire.send(post("/v1/chat/completions", body))
        assert (await wire.response()).status == 200
    assert one.calls[0].body == body


async def test_usage_is_asked_for_and_hidden_from_a_client_that_did_not_ask(start_gateway: StartGateway) -> None:
    async with replica(stream) as one, start_gateway([one.url]) as gateway:
        response = await gateway.chat(stream=True)
        assert gateway.pool.stats.output_tokens == 2
        assert gateway.pool.stats.input_tokens == 7
    assert b'"include_usage":true' in one.calls[0].body
    assert response.body == event("a") + event("b") + DONE


async def test_usage_stays_for_a_client_that_asked(start_gateway: StartGateway) -> None:
    async with replica(stream) as one, start_gateway([one.url]) as gateway:
        response = await gateway.chat(stream=True, stream_options={"include_usage": True})
    assert response.body == event("a") + event("b") + USAGE_EVENT + DONE


async def test_the_replica_gets_its_own_model_name_and_key_and_not_the_clients(start_gateway: StartGateway) -> None:
    from gateway.settings import StaticReplica

    async with replica(answer) as one:
        static = (StaticReplica(name="r0", url=one.url + "/base", api_key="sk-replica"),)
        async with start_gateway([], static_replicas=static, served_model="org/served") as gateway:
            wire = await gateway.connect()
            headers = "x-request-id: mine-1\r\nx-weighbridge-priority: 5\r\nx-other: kept\r\n"
            wire.send(post("/v1/chat/completions?x=1", OK, headers=headers))
            response = await wire.response()
    head = one.calls[0].head
    assert head.startswith(b"POST /base/v1/chat/completions HTTP/1.1\r\n")
    assert b"authorization: Bearer sk-replica\r\n" in head
    assert KEY.encode() not in head
    assert b"x-weighbridge-priority" not in head
    assert b"x-other: kept\r\n" in head
    assert b"x-request-id: mine-1\r\n" in head
    assert response.headers["x-request-id"] == "mine-1"
    assert msgspec.json.decode(one.calls[0].body)["model"] == "org/served"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"model": "m", "prompt": "hello"}),
        ("/v1/completions", {"model": "m", "prompt": [1, 2, 3]}),
        ("/v1/embeddings", {"model": "m", "input": ["a", "b"]}),
        (
            "/chat/completions",
            {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        ),
    ],
)
async def test_other_endpoints_reach_the_replica(start_gateway: StartGateway, path: str, body: dict) -> None:
    async with replica(answer) as one, start_gateway([one.url]) as gateway:
        wire = await gateway.connect()
        wire.send(post(path, msgspec.json.encode(body)))
        assert (await wire.response()).status == 200
    assert one.calls[0].head.split()[1].startswith(b"/v1/")


async def test_models_and_health_are_answered_by_the_gateway(start_gateway: StartGateway) -> None:
    async with start_gateway([]) as gateway:
        wire = await gateway.connect()
        wire.send(f"GET /v1/models HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n\r\n".encode())
        models = await wire.response()
        wire.send(b"GET /health/liveliness HTTP/1.1\r\nhost: g\r\n\r\n")
        alive = await wire.response()
        wire.send(b"GET /health/readiness HTTP/1.1\r\nhost: g\r\n\r\n")
        ready = await wire.response()
    assert [model["id"] for model in msgspec.json.decode(models.body)["data"]] == ["m"]
    assert (alive.status, ready.status) == (200, 200)


async def test_estimates_follow_what_the_replica_reports(start_gateway: StartGateway) -> None:
    async with replica(answer) as one, start_gateway([one.url]) as gateway:

        async def estimate() -> float:
            return float((await gateway.chat()).headers["x-weighbridge-gpu-seconds"])

        before = await estimate()

        async def learned() -> bool:
            return await estimate() < before / 2

        # The replica reports 2 output tokens each time; before any report the prior expects about two hundred.
        await until(learned)


async def test_connections_to_the_replica_are_reused(start_gateway: StartGateway) -> None:
    async with replica(answer) as one, start_gateway([one.url]) as gateway:
        wire = await gateway.connect()
        for _ in range(5):
            wire.send(chat())
            await wire.response()
        assert len(gateway.pool.replicas["r0"].open) == 1
    assert len({id(call.writer) for call in one.calls}) == 1


async def test_work_that_no_replica_did_is_not_billed(start_gateway: StartGateway) -> None:
    async with replica(full) as one, start_gateway([one.url], max_wait_s=0.3) as gateway:
        response = await gateway.chat()
        assert (response.status, response.error["code"]) == (503, "replica_full")
        assert one.calls
        assert gateway.pool.stats.used_s == {}


async def test_a_bug_of_ours_ends_one_request_only(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with replica(answer) as one, start_gateway([one.url]) as gateway:
        wire = await gateway.connect()
        with monkeypatch.context() as patch:
            patch.setattr(gateway.pool.weigher, "weigh", lambda *_: 1 / 0)
            wire.send(chat())
            response = await wire.response()
        assert (response.status, response.error["code"]) == (500, "gateway_fault")
        wire.send(chat())
        assert (await wire.response()).status == 200
