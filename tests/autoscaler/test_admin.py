"""The autoscaler's port: what it shows, and when it says that something is wrong."""

import asyncio
from typing import Any

import pytest
from starlette.testclient import TestClient

from autoscaler import admin
from autoscaler.health import SILENCE_S, unhealthy, unready
from autoscaler.lead import Alone
from autoscaler.metrics import AutoscalerMetrics
from autoscaler.observation import Known, Observation, Override, Unknown
from autoscaler.stats import PoolStats
from backlog.records import PoolName
from tests.autoscaler.builders import fleet, work
from tests.autoscaler.decisions import decision
from tests.autoscaler.replicas import until
from tests.redis_servers import free_port


def stats(**changes: Any) -> PoolStats:
    return PoolStats(pool=PoolName("chat"), **changes)


def shown(pool: PoolStats, *, now_s: float = 1000.0, **changes: Any) -> dict[str, float]:
    values: dict[str, Any] = {"lead": Alone("h_1"), "calls": {}, "watch_ages_s": dict, "now": lambda: now_s}
    metrics = AutoscalerMetrics([pool], **(values | changes))
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in metrics.collect()
        for sample in family.samples
    }


def test_what_is_unknown_is_not_shown_as_zero() -> None:
    unknown = Unknown(cause="no news", age_s=7.0)
    pool = stats(record=decision(2, 3, at_s=990.0))
    pool.observation = Observation(
        work=unknown, offered_load=unknown, misses=unknown, last_arrival_at_s=None, fleet=fleet(2)
    )
    found = shown(pool)
    for absent in ("offered_load['chat']", "backlog_work_seconds['chat']", "cold_start_seconds['chat']"):
        assert f"weighbridge_autoscaler_{absent}" not in found
    assert found["weighbridge_autoscaler_observation_age_seconds['chat', 'work']"] == 17.0
    assert found["weighbridge_autoscaler_observation_known['chat', 'work']"] == 0.0
    assert not any("lease_transitions" in name for name in found)


def test_what_the_last_decision_rests_on_is_shown() -> None:
    override = Override(by="kubectl", replicas=6, at_s=1.0)
    pool = stats(record=decision(2, 3, at_s=1000.0), cold_start_s=42.0)
    pool.observation = Observation(
        work=Known(value=work(backlog_s=5.5), age_s=0.5), offered_load=Known(value=1.5, age_s=0.0),
        misses=Unknown(cause="", age_s=0.0), last_arrival_at_s=None,
        fleet=type(fleet(2))(
            desired=2, ready=1, pending=1, draining=0, unschedulable=1, paused="night", override=override
        ),
    )  # fmt: skip
    pool.decisions["law"] += 2
    pool.failures["denied"] += 1
    pool.note_step(0.003, 5.0)
    pool.note_step(100.0, 6.0)
    found = shown(pool, calls={("get", "200"): 4}, watch_ages_s=lambda: {"pods": 3.0, "nodes": None})
    prefix = "weighbridge_autoscaler_"
    assert {name.removeprefix(prefix): value for name, value in found.items() if "bucket" not in name} == {
        "leader['h_1']": 1.0, "lead_changes_total['gained']": 1, "lead_changes_total['lost']": 0,
        "pool_replicas['chat', 'desired']": 3, "pool_replicas['chat', 'recommended']": 3,
        "pool_replicas['chat', 'present']": 2, "pool_replicas['chat', 'ready']": 1,
        "pool_replicas['chat', 'pending']": 1, "pool_replicas['chat', 'draining']": 0,
        "pool_replicas['chat', 'unschedulable']": 1, "cold_start_seconds['chat']": 42.0, "paused['chat']": 1.0,
        "override_replicas['chat']": 6, "offered_load['chat']": 1.5, "backlog_work_seconds['chat']": 5.5,
        "observation_age_seconds['chat', 'work']": 0.5, "observation_age_seconds['chat', 'offered-load']": 0.0,
        "observation_known['chat', 'work']": 1.0,
        "observation_known['chat', 'offered-load']": 1.0, "observation_known['chat', 'misses']": 0.0,
        "decisions_total['chat', 'law']": 2, "apply_errors_total['chat', 'denied']": 1,
        "step_duration_seconds_count['chat']": 2, "step_duration_seconds_sum['chat']": 100.003,
        "api_calls_total['200', 'get']": 4, "watch_age_seconds['pods']": 3.0,
    }  # fmt: skip
    assert found["weighbridge_autoscaler_step_duration_seconds_bucket['0.0025', 'chat']"] == 0
    assert found["weighbridge_autoscaler_step_duration_seconds_bucket['0.005', 'chat']"] == 1


def test_before_the_first_decision_there_is_nothing_to_show_of_a_pool() -> None:
    assert not any("pool_replicas" in name for name in shown(stats()))


@pytest.mark.parametrize(
    ("stepped_at_s", "now_s", "problems"),
    [
        pytest.param(None, 100.0 + SILENCE_S, 0, id="it has just started"),
        pytest.param(None, 101.0 + SILENCE_S, 1, id="it never came to the end of a step"),
        pytest.param(900.0, 901.0, 0, id="it works"),
        pytest.param(900.0, 901.0 + SILENCE_S, 1, id="it is stuck"),
    ],
)
def test_a_loop_that_does_not_end_its_steps_is_unhealthy(
    stepped_at_s: float | None, now_s: float, problems: int
) -> None:
    assert len(unhealthy([stats(stepped_at_s=stepped_at_s)], started_at_s=100.0, now_s=now_s)) == problems


def test_it_is_ready_when_everything_was_read_once() -> None:
    assert unready([stats(backlog_read=True)], {"pods of ml": True}) == []
    assert unready([stats()], {"pods of ml": False}) == [
        "pool chat: the backlog has not been read",
        "pods of ml have not been listed",
    ]


def test_the_port_answers_with_what_is_wrong() -> None:
    problems = ["pool chat: stuck"]
    metrics = AutoscalerMetrics([stats()], lead=Alone("h_1"), calls={}, watch_ages_s=dict, now=lambda: 0.0)
    client = TestClient(admin.build(metrics=metrics, unhealthy=lambda: problems, unready=list))
    refused = client.get("/healthz")
    assert (refused.status_code, refused.json()["problems"]) == (503, problems)
    assert client.get("/readyz").status_code == 200
    assert 'weighbridge_autoscaler_leader{identity="h_1"} 1.0' in client.get("/metrics").text


async def test_the_port_is_served_until_it_is_told_to_stop() -> None:
    metrics = AutoscalerMetrics([stats()], lead=Alone("h_1"), calls={}, watch_ages_s=dict, now=lambda: 0.0)
    application = admin.build(metrics=metrics, unhealthy=list, unready=list)
    stop_event, port = asyncio.Event(), free_port()
    async with asyncio.TaskGroup() as group:
        group.create_task(admin.serve(application, stop_event, host="127.0.0.1", port=port))
        answered: list[bytes] = []

        async def ask() -> None:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                return
            writer.write(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            answered.append(await reader.readline())
            writer.close()
            await writer.wait_closed()

        await until(lambda: bool(answered), also=ask)
        stop_event.set()
    assert answered[0].startswith(b"HTTP/1.1 200")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
