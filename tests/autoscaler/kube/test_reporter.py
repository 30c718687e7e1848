"""Events and the status as an API server gets them, and what a server that refuses them changes: nothing."""

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from autoscaler.kube.events import Events
from autoscaler.kube.news import EventReason, Moment
from autoscaler.kube.reporter import ReportedPool, Reporter
from autoscaler.kube.status_map import EVERY_S, NAME, StatusMap, bounded, status_of
from autoscaler.kube.target import DEPLOYMENT, Target, Writes
from autoscaler.observation import Fleet, Observation, Override, Unknown
from autoscaler.stats import PoolStats
from backlog.records import PoolName
from tests.autoscaler.decisions import decision
from tests.kube.server import FakeServer

TARGET = Target(kind=DEPLOYMENT, namespace="ml", name="chat", port=8000)
UNKNOWN = Unknown(cause="", age_s=0.0)


class World:
    """A reporter of one pool on a fake server, with a clock and a lead that a test moves."""

    def __init__(self, server: FakeServer, writes: Writes = Writes.ALL, *, others: tuple[str, ...] = ()) -> None:
        self.now_s = 1_000_000.0
        self.leading = True
        self.rivals: dict[str, str] = {}
        self.stats = PoolStats(pool=PoolName("chat"))
        api = server.api()
        self.reporter = Reporter(
            [
                ReportedPool(stats=stats, targets=(TARGET,), writes=writes)
                for stats in (self.stats, *(PoolStats(pool=PoolName(name)) for name in others))
            ],
            events=Events(api, lambda: self.now_s, leads=lambda: self.leading, instance="host_1"),
            status=StatusMap(api, namespace="ml", clock=lambda: self.now_s, leads=lambda: self.leading),
            leads=lambda: self.leading,
            rivals=self.rivals,
            uid_of=lambda _: "uid-1",
        )

    def decides(self, present: int, desired: int, **fleet: Any) -> None:
        self.stats.record = decision(present, desired, at_s=self.now_s)
        if present != desired:
            self.stats.changed = self.stats.record
        values: dict[str, Any] = {"desired": desired, "ready": present, "pending": 0, "draining": 0}
        self.stats.observation = Observation(
            work=UNKNOWN, offered_load=UNKNOWN, misses=UNKNOWN, last_arrival_at_s=None, fleet=Fleet(**(values | fleet))
        )

    async def step(self, after_s: float = EVERY_S) -> None:
        self.now_s += after_s
        await self.reporter.step()


def events(server: FakeServer) -> list[dict[str, Any]]:
    return server.store.all("events", "ml")


async def test_a_change_becomes_an_event_on_the_target(server: FakeServer) -> None:
    world = World(server)
    world.decides(2, 2)
    await world.step()
    world.decides(2, 4)
    await world.step()
    [event] = events(server)
    assert event["involvedObject"] == {**TARGET.reference, "uid": "uid-1"}
    assert (event["reason"], event["type"], event["count"]) == ("ScaledUp", "Normal", 1)
    assert event["message"] == "2 -> 4 replicas: offered load 2.00"
    assert event["source"] == {"component": "weighbridge-autoscaler"}
    assert event["lastTimestamp"].endswith("Z")


async def test_the_same_news_again_counts_the_event_up(server: FakeServer) -> None:
    world = World(server)
    for _ in range(3):
        world.reporter.tell(TARGET, "DrainDeadline", "chat-1: cut off")
        await world.step(after_s=5.0)
    [event] = events(server)
    assert (event["count"], event["type"]) == (3, "Warning")
    server.store.remove("events", event["metadata"]["name"], "ml")
    world.reporter.tell(TARGET, "DrainDeadline", "chat-1: cut off")
    await world.step()
    assert [event["reason"] for event in events(server)] == ["DrainDeadline"]


async def test_another_writer_is_told_unless_it_is_kedas_and_keda_owns_the_replicas(server: FakeServer) -> None:
    for writes in (Writes.MARKS, Writes.ALL):
        world = World(server, writes)
        world.rivals[TARGET.label] = "ScaledObject chat"
        world.decides(2, 2)
        await world.step()
    assert [event["reason"] for event in events(server)] == ["AnotherWriter"]


async def test_a_follower_writes_nothing(server: FakeServer) -> None:
    world = World(server)
    world.leading = False
    world.decides(2, 4, paused="night")
    world.reporter.tell(TARGET, "DrainDeadline", "chat-1")
    await world.step()
    assert server.calls == []
    world.leading = True
    await world.step()
    assert [event["reason"] for event in events(server)] == ["Paused"], "a state, and no change of another's"


async def test_a_reason_that_is_none_is_refused(server: FakeServer) -> None:
    with pytest.raises(ValueError, match="Whatever"):
        World(server).reporter.tell(TARGET, "Whatever", "")


async def test_the_status_says_what_was_decided_and_changes_when_that_does(server: FakeServer) -> None:
    world = World(server)
    world.decides(2, 4, draining=1, override=Override(by="kubectl", replicas=4, at_s=5.0))
    await world.step()
    status = json.loads(server.store.get("configmaps", NAME, "ml")["data"]["chat"])
    assert status == {
        "headline": "offered load 2.00", "mode": "apply", "desired": 4, "ready": 2, "pending": 0, "draining": 1,
        "unschedulable": 0, "paused": None, "override": {"by": "kubectl", "replicas": 4, "at_s": 5},
        "last_change": {"at_s": 1_000_000, "desired": 4, "reason": "offered load 2.00"},
    }  # fmt: skip
    await world.step(after_s=EVERY_S / 4)
    assert server.made("patch", "configmaps") == [], "nothing has changed"
    world.decides(4, 4)
    await world.step(after_s=EVERY_S / 4)
    assert server.made("patch", "configmaps") == [], "at most every 10 s"
    await world.step()
    assert len(server.made("patch", "configmaps")) == 1
    assert json.loads(server.store.get("configmaps", NAME, "ml")["data"]["chat"])["ready"] == 4


async def test_a_pool_that_is_not_decided_on_does_not_hide_the_others(server: FakeServer) -> None:
    world = World(server, others=("lost",))
    await world.step()
    assert server.calls == []
    world.decides(2, 2)
    await world.step()
    data = server.store.get("configmaps", NAME, "ml")["data"]
    assert json.loads(data["lost"]) == {"headline": "nothing has been decided"}
    assert json.loads(data["chat"])["desired"] == 2


async def test_a_new_leader_takes_over_the_status_and_drops_pools_that_are_no_more(server: FakeServer) -> None:
    first = World(server)
    first.decides(2, 2)
    await first.step()
    server.store.change("configmaps", NAME, {"data": {"old": "{}"}}, "ml")
    second = World(server)
    second.decides(2, 2)
    await second.step()
    assert set(server.store.get("configmaps", NAME, "ml")["data"]) == {"chat"}
    third = World(server)
    third.decides(2, 2)
    patches = len(server.made("patch", "configmaps"))
    await third.step()
    assert len(server.made("patch", "configmaps")) == patches, "it says so already"


async def test_a_status_that_was_deleted_is_written_again(server: FakeServer) -> None:
    world = World(server)
    world.decides(2, 2)
    await world.step()
    server.store.remove("configmaps", NAME, "ml")
    world.decides(3, 3)
    await world.step()
    assert json.loads(server.store.get("configmaps", NAME, "ml")["data"]["chat"])["ready"] == 3


async def test_a_server_that_refuses_is_reported_once_and_tried_again(server: FakeServer) -> None:
    world = World(server)
    world.decides(2, 2)
    server.faults.next(None, resource="events", status=403)
    server.faults.next(None, resource="configmaps", status=403)
    with capture_logs() as logs:
        for number in range(3):
            world.reporter.tell(TARGET, "DrainDeadline", f"chat-{number}")
            await world.step()
    assert sorted(entry["event"] for entry in logs) == ["events cannot be written", "status cannot be written"]
    server.faults.clear()
    world.reporter.tell(TARGET, "DrainDeadline", "chat-9")
    await world.step()
    assert [event["message"] for event in events(server)] == ["chat-9"]
    assert server.store.find("configmaps", NAME, "ml") is not None


def test_a_status_leaves_out_pools_that_do_not_fit() -> None:
    assert bounded({"b": "x" * 10, "a": "y" * 10, "c": "z"}, most_bytes=15) == {"a": "y" * 10}


def test_a_status_is_small_whatever_is_in_it() -> None:
    fleet = Fleet(desired=1, ready=1, pending=0, draining=0, paused="p" * 10_000)
    assert len(status_of(Moment(record=decision(1, 1), fleet=fleet, changed=None))) < 1000


def test_every_reason_is_in_camel_case() -> None:
    assert all(reason.value.isalpha() and reason.value[0].isupper() for reason in EventReason)
