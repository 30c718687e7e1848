"""A real Redis and model servers on loopback, asked as they are."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backlog.records import PoolName, ReplicaName, ReplicaRecord, ReplicaState
from backlog.store import connect
from tests.flows.scripted import Call, hang, json_response, replica
from tests.redis_servers import Server, free_port, start_redis
from tests.weighbridge.configs import read
from weighbridge.config_models import Config
from weighbridge.doctor.finding import Finding
from weighbridge.doctor.network import check_network

MODELS = {"data": [{"id": "m", "max_model_len": 8192}]}
PAGE = b"vllm:num_requests_running 0\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_redis(tmp_path_factory.mktemp("doctor"), "maxmemory-policy allkeys-lru", password="hushed") as made:
        yield made


def config(*urls: str, redis: str | None = None) -> Config:
    replicas = f"static: {json.dumps(list(urls))}" if urls else "processes: {min: 0, max: 1}"
    pool = f"{{models: [m], architecture: llama-3.1-8b, gpu: L40S, api_key: sk-of-replica, replicas: {{{replicas}}}}}"
    section = f"redis: {{url: {json.dumps(redis)}}}\n" if redis else ""
    return read(f"{section}pools: {{p: {pool}}}").config


async def look(
    config: Config,
    *,
    timeout_s: float = 5.0,
    probe: bool = False,
    wall_clock: Callable[[], float] = time.time,
) -> dict[str, Finding]:
    """What was found, by check: the last of each."""
    findings = await check_network(
        config,
        timeout_s=timeout_s,
        max_clock_skew_s=1.0,
        probe=probe,
        clock=time.perf_counter,
        wall_clock=wall_clock,
    )
    return {finding.check: finding for finding in findings}


async def vllm(call: Call) -> None:
    """Lists its model to who has the key, and does not schedule by priority."""
    path = call.head.split()[1]
    if path == b"/v1/models":
        known = b"bearer sk-of-replica" in call.head.lower()
        call.send(json_response(json.dumps(MODELS).encode()) if known else json_response(b"{}", "401 Unauthorized"))
    elif path == b"/metrics":
        call.send(json_response(PAGE))
    elif path == b"/v1/completions":
        assert json.loads(call.body)["max_tokens"] == 1
        message = b'{"error": {"message": "Got priority 1 but Priority scheduling is not enabled."}}'
        call.send(json_response(message, "400 Bad Request"))
    else:
        call.send(json_response(b""))


async def sglang(call: Call) -> None:
    pages = {
        b"/v1/models": json.dumps(MODELS).encode(),
        b"/metrics": b"sglang:num_running_reqs 0\n",
        b"/get_server_info": b'{"disable_radix_cache": true, "enable_priority_scheduling": true}',
    }
    call.send(json_response(pages.get(call.head.split()[1], b"{}")))


def test_a_redis_is_judged_by_what_it_tells(server: Server) -> None:
    found = asyncio.run(look(config(redis=server.url)))
    severities = {check: finding.severity.value for check, finding in found.items()}
    assert severities["redis-version"] == severities["redis-scripts"] == severities["clock"] == "ok"
    assert severities["redis-eviction"] == "warning"
    assert "allkeys-lru" in found["redis-eviction"].what
    assert "redis-latency" in found


def test_a_clock_that_differs_from_that_of_redis_is_told(server: Server) -> None:
    found = asyncio.run(look(config(redis=server.url), wall_clock=lambda: time.time() - 100))
    assert found["clock"].severity.value == "warning"
    assert "100.0" in found["clock"].what
    assert "ahead of" in found["clock"].what


def test_a_user_who_may_not_run_scripts_is_told(server: Server) -> None:
    server.tell("ACL", "SETUSER", "weak", "on", ">weak", "~*", "+ping", "+time")
    url = server.url.replace(":hushed@", "weak:weak@")
    found = asyncio.run(look(config(redis=url)))
    assert found["redis-scripts"].severity.value == "error"
    assert found["redis-version"].severity.value == found["redis-eviction"].severity.value == "unknown"


def test_a_redis_that_is_away_is_told_without_its_password(server: Server) -> None:
    found = asyncio.run(look(config(redis=f"redis://:hushed@127.0.0.1:{free_port()}")))
    assert found["redis"].severity.value == "error"
    assert "hushed" not in repr(found)


def test_replicas_that_an_autoscaler_published_are_asked(server: Server) -> None:
    async def run() -> tuple[dict[str, Finding], dict[str, Finding]]:
        settings = config(redis=server.url)
        before = await look(settings)
        async with replica(vllm) as model_server:
            backlog = connect(server.url)
            records = [
                ReplicaRecord(
                    name=ReplicaName(name), url=model_server.url, state=state, created_at_s=0.0, ready_at_s=1.0
                )
                for name, state in (("one", ReplicaState.READY), ("two", ReplicaState.STARTING))
            ]
            await backlog.publish_replicas(PoolName("p"), records)
            await backlog.close()
            return before, await look(settings)

    before, after = asyncio.run(run())
    assert before["replica"].severity.value == "unknown"
    assert after["replica"].what == "p/one is reached"
    assert "context 8,192 tokens" in after["replica-model"].what


def test_a_vllm_is_probed_only_on_demand() -> None:
    async def run(*, probe: bool) -> tuple[str, bool]:
        async with replica(vllm) as model_server:
            found = await look(config(model_server.url), probe=probe)
            return found["priority"].severity.value, any(b"POST" in call.head for call in model_server.calls)

    assert asyncio.run(run(probe=False)) == ("unknown", False)
    assert asyncio.run(run(probe=True)) == ("warning", True)


def test_an_sglang_tells_its_flags() -> None:
    async def run() -> dict[str, Finding]:
        async with replica(sglang) as model_server:
            return await look(config(model_server.url))

    found = asyncio.run(run())
    assert found["prefix-caching"].severity.value == "warning"
    assert found["priority"].severity.value == "ok"


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"<html>", "200 OK"), (b"[1]", "200 OK"), (b'{"data": 3}', "200 OK"), (b"", "500 Internal Server Error")],
)
def test_an_answer_that_is_no_list_of_models_leaves_them_unknown(body: bytes, status: str) -> None:
    async def odd(call: Call) -> None:
        call.send(json_response(body, status))

    async def run() -> dict[str, Finding]:
        async with replica(odd) as model_server:
            return await look(config(model_server.url))

    assert asyncio.run(run())["replica-model"].severity.value == "unknown"


def test_a_replica_that_hangs_ends_within_the_limit() -> None:
    async def run() -> dict[str, Finding]:
        async with replica(hang) as model_server:
            return await look(config(model_server.url), timeout_s=0.2)

    found = asyncio.run(run())
    assert found["replica"].severity.value == "error"
    assert "no answer in time" in found["replica"].what


def test_a_replica_that_is_away_is_told_by_its_cause(tmp_path: Path) -> None:
    found = asyncio.run(look(config(f"http://127.0.0.1:{free_port()}")))
    assert found["replica"].what.endswith("cannot be reached: connection refused")
