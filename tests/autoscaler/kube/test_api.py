"""Calls to an API server: what they return, what they raise, what they try again, how fast they go."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import aiohttp
import pytest

from autoscaler.kube.api import KubeApi, Limits, without_managed_fields
from autoscaler.kube.connection import connect_url
from autoscaler.kube.errors import Conflict, Gone, KubeError, NotFound, Unavailable
from tests.kube.manifests import config_map, deployment
from tests.kube.server import FakeServer

MAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
SOON = Limits(first_backoff_s=0.001)


async def test_objects_are_created_read_patched_and_replaced(server: FakeServer) -> None:
    api = server.api()
    made = await api.create(MAPS, config_map("a", x="1"))
    assert await api.get(f"{MAPS}/a") == made
    patched = await api.patch(f"{MAPS}/a", {"data": {"y": "2"}})
    assert patched["data"] == {"x": "1", "y": "2"}
    replaced = await api.replace(f"{MAPS}/a", patched | {"data": {"z": "3"}})
    assert server.store.get("configmaps", "a")["data"] == replaced["data"] == {"z": "3"}


async def test_writes_are_made_as_the_autoscaler(server: FakeServer) -> None:
    server.store.put("deployments", deployment("chat", replicas=1))
    await server.api().patch(f"{DEPLOYMENTS}/chat/scale", {"spec": {"replicas": 2}})
    (entry,) = server.store.get("deployments", "chat")["metadata"]["managedFields"]
    assert (entry["manager"], entry["subresource"]) == ("weighbridge-autoscaler", "scale")
    assert server.calls[-1].user_agent.startswith("weighbridge-autoscaler")


async def test_a_replacement_of_a_stale_version_is_a_conflict_with_the_servers_words(server: FakeServer) -> None:
    api = server.api()
    made = await api.create(MAPS, config_map("a"))
    server.store.change("configmaps", "a", {"data": {"x": "1"}})
    with pytest.raises(Conflict, match="the object has been modified"):
        await api.replace(f"{MAPS}/a", made)


async def test_what_is_not_there_is_not_found_at_once(server: FakeServer) -> None:
    with pytest.raises(NotFound, match='configmaps "a" not found'):
        await server.api().get(f"{MAPS}/a")
    assert len(server.calls) == 1


async def test_a_list_has_all_pages_of_one_moment(server: FakeServer) -> None:
    for index in range(7):
        server.store.put("configmaps", config_map(f"m{index}", labels={"odd": str(index % 2)}))
    listing = await server.api(Limits(page_items=2)).list(MAPS, labels="odd=0")
    assert [item["metadata"]["name"] for item in listing.items] == ["m0", "m2", "m4", "m6"]
    assert listing.resource_version == str(server.store.version)
    assert len(server.made("list", "configmaps")) == 2


async def test_a_list_starts_again_when_its_moment_is_forgotten(server: FakeServer) -> None:
    for index in range(4):
        server.store.put("configmaps", config_map(f"m{index}"))

    def forget(item: dict[str, Any]) -> None:
        if item["metadata"]["name"] == "m1" and len(server.calls) == 1:
            server.compact()

    listing = await server.api(Limits(page_items=2)).list(MAPS, trim=forget)
    assert [item["metadata"]["name"] for item in listing.items] == ["m0", "m1", "m2", "m3"]
    assert [call.status for call in server.calls] == [200, 410, 200, 200]


async def test_a_list_whose_moment_is_forgotten_again_and_again_is_gone(server: FakeServer) -> None:
    for index in range(4):
        server.store.put("configmaps", config_map(f"m{index}"))
    with pytest.raises(Gone):
        await server.api(Limits(page_items=2)).list(MAPS, trim=lambda item: server.compact())


async def test_a_trim_sees_every_object_of_a_list(server: FakeServer) -> None:
    server.store.put("deployments", deployment("a"))
    listing = await server.api().list(DEPLOYMENTS, trim=without_managed_fields)
    assert "managedFields" not in listing.items[0]["metadata"]
    assert "managedFields" in server.store.get("deployments", "a")["metadata"]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"status": 429, "retry_after_s": 0}, id="too many requests"),
        pytest.param({"status": 500}, id="an error of the server"),
        pytest.param({"status": 503}, id="unavailable"),
        pytest.param({"reset": True}, id="the connection breaks"),
    ],
)
async def test_a_read_is_tried_again(server: FakeServer, fault: dict[str, Any]) -> None:
    server.store.put("configmaps", config_map("a"))
    server.faults.next(2, verb="get", **fault)
    assert (await server.api(SOON).get(f"{MAPS}/a"))["metadata"]["name"] == "a"
    assert len(server.calls) == 3


async def test_a_read_is_not_tried_for_ever(server: FakeServer) -> None:
    server.faults.next(None, status=500)
    with pytest.raises(Unavailable) as raised:
        await server.api(SOON).get(f"{MAPS}/a")
    assert (raised.value.status, len(server.calls)) == (500, 3)


async def test_a_read_is_not_tried_again_if_the_wait_would_be_too_long(server: FakeServer) -> None:
    server.faults.next(None, status=429, retry_after_s=60)
    with pytest.raises(Unavailable) as raised:
        await server.api(SOON).get(f"{MAPS}/a")
    assert (raised.value.retry_after_s, len(server.calls)) == (60.0, 1)


WRITES: list[Any] = [
    pytest.param(lambda api: api.create(MAPS, config_map("b")), id="create"),
    pytest.param(lambda api: api.replace(f"{MAPS}/a", config_map("a")), id="replace"),
    pytest.param(lambda api: api.patch(f"{MAPS}/a", {"data": {}}), id="patch"),
]


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 429, "retry_after_s": 1}, {"reset": True}])
@pytest.mark.parametrize("write", WRITES)
async def test_a_write_is_never_tried_again(
    server: FakeServer, write: Callable[[KubeApi], Awaitable[Any]], fault: dict[str, Any]
) -> None:
    server.store.put("configmaps", config_map("a"))
    server.faults.next(None, **fault)
    with pytest.raises(Unavailable):
        await write(server.api(SOON))
    assert len(server.calls) == 1


async def test_a_write_whose_answer_is_lost_may_have_happened(server: FakeServer) -> None:
    server.faults.next(1, reset=True, late=True)
    with pytest.raises(Unavailable):
        await server.api().create(MAPS, config_map("a"))
    assert server.store.find("configmaps", "a") is not None


async def test_a_server_that_hangs_is_unavailable_after_the_timeout(server: FakeServer) -> None:
    server.faults.next(None, hang=True)
    with pytest.raises(Unavailable, match="no answer in time to PATCH"):
        await server.api(Limits(timeout_s=0.05)).patch(f"{MAPS}/a", {})


async def test_all_attempts_of_a_read_end_within_their_time(server: FakeServer) -> None:
    server.faults.next(None, hang=True)
    limits = Limits(timeout_s=5.0, retry_s=0.1, first_backoff_s=0.001)
    with pytest.raises(Unavailable, match="no answer in time"):
        async with asyncio.timeout(4.0):
            await server.api(limits).get(f"{MAPS}/a")


async def test_a_server_that_refuses_connections_is_unavailable_and_comes_back(server: FakeServer) -> None:
    api = server.api(Limits(attempts=1))
    server.store.put("configmaps", config_map("a"))
    await api.get(f"{MAPS}/a")
    await server.go_down()
    with pytest.raises(Unavailable, match="GET") as raised:
        await api.get(f"{MAPS}/a")
    assert raised.value.status is None
    await server.come_up()
    assert (await api.get(f"{MAPS}/a"))["metadata"]["name"] == "a"


class _Clock:
    """Time that passes by waiting alone."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def test_requests_go_at_the_rate_and_in_their_order(server: FakeServer) -> None:
    clock = _Clock()
    limits = Limits(rate_per_s=100.0, burst=2.0)
    api = KubeApi(connect_url(server.url, clock=clock), clock=clock, rng=random.Random(0), limits=limits)
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    await asyncio.gather(*(api.create(MAPS, config_map(f"m{index}")) for index in range(7)))
    await api.close()
    # Five of the seven wait for tokens of 10 ms each, however busy the machine is.
    assert loop.time() - start_s >= 0.05
    assert [call.body["metadata"]["name"] for call in server.calls[2:] if call.body] == [f"m{i}" for i in range(2, 7)]


async def test_a_watch_waits_for_no_token(server: FakeServer) -> None:
    version = str(server.store.version)
    server.store.put("configmaps", config_map("a"))
    api = server.api(Limits(rate_per_s=0.001, burst=1.0))
    await api.list(MAPS)
    async with asyncio.timeout(5), aclosing(api.watch(MAPS, resource_version=version)) as events:
        assert (await anext(events)).kind == "ADDED"


@pytest.mark.parametrize("gone_as", ["event", "status"])
async def test_a_watch_from_a_forgotten_version_is_gone(server: FakeServer, gone_as: Any) -> None:
    server.store.put("configmaps", config_map("a"))
    server.streams.gone_as = gone_as
    server.compact()
    with pytest.raises(Gone, match="too old resource version"):
        _ = [event async for event in server.api().watch(MAPS, resource_version="100")]


@pytest.mark.parametrize("mid_line", [False, True], ids=["broken", "within a line"])
async def test_a_watch_that_is_cut_is_unavailable(server: FakeServer, mid_line: bool) -> None:
    version = str(server.store.version)
    server.store.put("configmaps", config_map("a"))
    async with aclosing(server.api().watch(MAPS, resource_version=version)) as events:
        assert (await anext(events)).kind == "ADDED"
        server.streams.cut(mid_line=mid_line)
        with pytest.raises(Unavailable):
            await anext(events)


async def test_a_long_line_comes_whole(server: FakeServer) -> None:
    version = str(server.store.version)
    server.store.put("configmaps", config_map("a", x="y" * 3_000_000))
    async with aclosing(server.api().watch(MAPS, resource_version=version)) as events:
        assert len((await anext(events)).object["data"]["x"]) == 3_000_000


async def test_whatever_the_server_says_on_a_watch_is_heard(server: FakeServer) -> None:
    heard = []
    async with asyncio.timeout(5):
        events = server.api().watch(
            MAPS,
            resource_version=str(server.store.version),
            timeout_s=1,
            heard=lambda: heard.append(len(server.streams)),
        )
        assert [event.kind async for event in events] == ["BOOKMARK"]
    assert len(heard) == 2


class _Scripted:
    """A connection to a server of raw bytes."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def send(self, method: str, path: str, **_: Any) -> aiohttp.ClientResponse:
        return await self._session.request(method, self._url + path)

    def refused(self) -> None:
        pass

    async def close(self) -> None:
        await self._session.close()


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        pytest.param(b"<html>", "not JSON", id="a page"),
        pytest.param(b"[]", "not a JSON object", id="an array"),
    ],
)
async def test_an_answer_that_is_no_object_is_unavailable(answer: bytes, cause: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(answer), answer))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        connection = _Scripted(aiohttp.ClientSession(), url)
        api = KubeApi(connection, clock=_Clock(), rng=random.Random(0), limits=Limits(attempts=1))
        with pytest.raises(Unavailable, match=cause):
            await api.get("/x")
        await api.close()


async def test_a_refusal_without_a_status_body_says_what_it_got(server: FakeServer) -> None:
    with pytest.raises(KubeError, match="404"):
        await server.api().get("/nothing/here")
