"""A mirror of the server's objects stays true through gaps, cuts, repetitions and refusals."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from autoscaler.kube.api import Limits, without_managed_fields
from autoscaler.kube.watch import Watch
from tests.kube.manifests import config_map, deployment, node
from tests.kube.server import FakeServer

MAPS = "/api/v1/namespaces/default/configmaps"
SOON = Limits(first_backoff_s=0.001, rate_per_s=10_000.0, burst=10_000.0, page_items=3)

Seen = tuple[str, bool, bool]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


class Log:
    """The changes that a watch has reported."""

    def __init__(self) -> None:
        self.changes: list[Seen] = []
        self.objects: dict[str, Any] = {}

    def __call__(self, key: str, old: Any, new: Any) -> None:
        assert self.objects.get(key) == old
        self.changes.append((key.removeprefix("default/"), old is not None, new is not None))
        if new is None:
            del self.objects[key]
        else:
            self.objects[key] = new


@asynccontextmanager
async def watching(server: FakeServer, path: str = MAPS, **options: Any) -> AsyncIterator[Watch]:
    watch = Watch(
        server.api(SOON),
        path,
        clock=time.monotonic,
        name="test",
        rng=random.Random(0),
        **{"first_backoff_s": 0.001, "longest_backoff_s": 0.01, **options},
    )
    stop = asyncio.Event()
    task = asyncio.create_task(watch.run(stop), name="watch under test")
    try:
        yield watch
    finally:
        stop.set()
        await task


def has(watch: Watch, *names: str) -> Callable[[], bool]:
    return lambda: watch.synced and sorted(watch.objects) == [f"default/{name}" for name in sorted(names)]


def put(server: FakeServer, *names: str) -> None:
    for name in names:
        server.store.put("configmaps", config_map(name))


async def test_what_is_there_is_listed_and_what_comes_is_heard(server: FakeServer) -> None:
    put(server, "a", "b", "c", "d")
    seen = Log()
    async with watching(server, on_change=seen) as watch:
        assert (watch.synced, watch.current_at_s) == (False, None)
        await until(has(watch, "a", "b", "c", "d"))
        put(server, "e")
        server.store.change("configmaps", "a", {"data": {"x": "1"}})
        server.store.remove("configmaps", "b")
        await until(has(watch, "a", "c", "d", "e"))
        assert watch.current_at_s is not None
        assert watch.objects["default/a"] == server.store.get("configmaps", "a")
    assert seen.changes[4:] == [("e", False, True), ("a", True, True), ("b", True, False)]
    assert len(server.made("list", "configmaps")) == 2


async def test_nothing_there_is_known_as_such_after_the_list_only(server: FakeServer) -> None:
    server.faults.next(1, verb="list", hang=True)
    async with watching(server) as watch:
        await until(lambda: server.calls)
        assert not watch.synced
        server.faults.clear()
        await until(has(watch))


async def test_selectors_choose_what_is_mirrored(server: FakeServer) -> None:
    server.store.put("configmaps", config_map("a", labels={"app": "chat"}))
    put(server, "other")
    seen = Log()
    async with watching(server, labels="app=chat", on_change=seen) as watch:
        await until(has(watch, "a"))
        server.store.change("configmaps", "a", {"metadata": {"labels": {"app": None}}})
        await until(has(watch))
        server.store.change("configmaps", "other", {"metadata": {"labels": {"app": "chat"}}})
        await until(has(watch, "other"))
    assert seen.changes == [("a", False, True), ("a", True, False), ("other", False, True)]


async def test_cluster_wide_objects_are_found_by_name(server: FakeServer) -> None:
    server.store.put("nodes", node("n1"))
    async with watching(server, "/api/v1/nodes") as watch:
        await until(lambda: "n1" in watch.objects)


async def test_objects_are_trimmed_from_lists_and_from_events(server: FakeServer) -> None:
    server.store.put("deployments", deployment("a"))
    async with watching(server, "/apis/apps/v1/deployments", trim=without_managed_fields) as watch:
        await until(has(watch, "a"))
        server.store.put("deployments", deployment("b"))
        await until(has(watch, "a", "b"))
        assert all("managedFields" not in item["metadata"] for item in watch.objects.values())


@pytest.mark.parametrize("mid_line", [False, True], ids=["broken", "within a line"])
async def test_a_cut_is_resumed_from_what_was_seen_and_nothing_is_missed(server: FakeServer, mid_line: bool) -> None:
    put(server, "a", "gone")
    seen = Log()
    async with watching(server, on_change=seen) as watch:
        await until(lambda: len(server.streams) == 1 and has(watch, "a", "gone")())
        server.faults.next(1, verb="watch", status=503)
        server.streams.cut(mid_line=mid_line)
        put(server, "b")
        server.store.remove("configmaps", "gone")
        await until(has(watch, "a", "b"))
    assert len(server.made("list", "configmaps")) == 1
    assert sorted(seen.changes[2:]) == [("b", False, True), ("gone", True, False)]


@pytest.mark.parametrize("gone_as", ["event", "status"])
async def test_a_gap_that_the_server_has_forgotten_is_closed_by_a_list(server: FakeServer, gone_as: Any) -> None:
    put(server, "a", "gone", "changed")
    server.streams.gone_as = gone_as
    seen = Log()
    async with watching(server, on_change=seen) as watch:
        await until(lambda: len(server.streams) == 1)
        server.faults.next(None, verb="watch", hang=True)
        server.streams.cut()
        server.store.remove("configmaps", "gone")
        server.store.change("configmaps", "changed", {"data": {"x": "1"}})
        put(server, "b")
        server.compact()
        server.faults.clear()
        await until(has(watch, "a", "b", "changed"))
        await until(lambda: len(server.streams) == 1)
    assert sorted(seen.changes[3:]) == [("b", False, True), ("changed", True, True), ("gone", True, False)]


async def test_events_that_come_twice_are_one_change(server: FakeServer) -> None:
    server.streams.repeat = 2
    seen = Log()
    async with watching(server, on_change=seen) as watch:
        await until(lambda: len(server.streams) == 1)
        put(server, "a", "b")
        server.store.remove("configmaps", "a")
        await until(lambda: len(seen.changes) >= 3 and has(watch, "b")())
    assert seen.changes == [("a", False, True), ("b", False, True), ("a", True, False)]


async def test_a_bookmark_moves_the_point_of_resumption(server: FakeServer) -> None:
    server.streams.bookmark_s = 0.01
    async with watching(server) as watch:
        await until(lambda: watch.synced and len(server.streams) == 1)
        server.store.put("nodes", node("n1"))
        version = str(server.store.version)
        current_at_s = watch.current_at_s or 0.0
        await until(lambda: (watch.current_at_s or 0.0) > current_at_s + 0.03)
        server.compact()
        server.streams.cut()
        await until(lambda: len(server.made("watch", "configmaps")) == 2)
    assert server.made("watch", "configmaps")[1].query["resourceVersion"] == version
    assert len(server.made("list", "configmaps")) == 1


async def test_a_watch_that_ends_in_good_order_goes_on_without_a_word(server: FakeServer) -> None:
    with capture_logs() as logs:
        async with watching(server, timeout_s=1.0) as watch:
            await until(lambda: len(server.made("watch", "configmaps")) == 2)
            put(server, "a")
            await until(has(watch, "a"))
    assert logs == []


async def test_a_stream_that_stalls_is_dropped(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoscaler.kube.api._WATCH_GRACE_S", 0.0)
    async with watching(server, timeout_s=0.05) as watch:
        await until(lambda: len(server.streams) == 1)
        server.streams.stalled = True
        put(server, "a")
        await until(lambda: len(server.made("watch", "configmaps")) > 1)
        server.streams.stalled = False
        server.streams.wake()
        await until(has(watch, "a"))


async def test_an_outage_is_one_line_and_its_end_another(server: FakeServer) -> None:
    put(server, "a")
    with capture_logs() as logs:
        async with watching(server) as watch:
            await until(lambda: len(server.streams) == 1)
            await server.go_down()
            await until(lambda: logs)
            current_at_s = watch.current_at_s
            assert has(watch, "a")()
            server.store.remove("configmaps", "a")
            await server.come_up()
            await until(has(watch))
            await until(lambda: watch.current_at_s != current_at_s)
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("watch interrupted", "warning"),
        ("watch is current again", "info"),
    ]


async def test_a_watch_that_is_not_allowed_waits_and_says_why(server: FakeServer) -> None:
    server.faults.next(None, verb="list", status=403)
    with capture_logs() as logs:
        async with watching(server) as watch:
            await until(lambda: len(server.calls) > 3)
            assert not watch.synced
            server.faults.clear()
            await until(lambda: watch.synced)
    assert logs[0]["status"] == 403


async def test_a_callback_that_fails_costs_no_change(server: FakeServer) -> None:
    failures = ["a"]

    def fail_once(key: str, old: Any, new: Any) -> None:
        if failures:
            raise RuntimeError(failures.pop())

    with capture_logs() as logs:
        async with watching(server, on_change=fail_once) as watch:
            await until(lambda: len(server.streams) == 1)
            put(server, "a")
            await until(lambda: len(server.made("list", "configmaps")) == 2)
            put(server, "b")
            await until(has(watch, "a", "b"))
    assert [entry["event"] for entry in logs] == ["watch failed"]


STEPS = st.sampled_from(
    [
        "put a",
        "put b",
        "put c",
        "remove a",
        "remove b",
        "cut",
        "cut mid-line",
        "compact",
        "fault",
        "turn",
        "twice",
        "once",
    ]
)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEPS, max_size=25))
def test_after_any_history_the_mirror_is_what_the_server_has(steps: list[str]) -> None:
    asyncio.run(_history(steps))


async def _history(steps: list[str]) -> None:
    seen = Log()
    async with FakeServer() as server, watching(server, on_change=seen) as watch:
        for number, step in enumerate(steps):
            match step.split():
                case ["put", name]:
                    server.store.put("configmaps", config_map(name, step=str(number)))
                case ["remove", name]:
                    server.store.remove("configmaps", name)
                case ["cut"]:
                    server.streams.cut()
                case ["cut", "mid-line"]:
                    server.streams.cut(mid_line=True)
                case ["compact"]:
                    server.compact()
                case ["fault"]:
                    server.faults.next(1, status=500)
                case ["turn"]:
                    await asyncio.sleep(0.003)
                case ["twice"]:
                    server.streams.repeat = 2
                case ["once"]:
                    server.streams.repeat = 1
        there = {f"default/{item['metadata']['name']}": item for item in server.store.all("configmaps")}
        await until(lambda: watch.synced and watch.objects == there)
        assert seen.objects == there
