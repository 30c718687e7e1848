"""The fake API server answers as a real one does: what the other tests here rely on."""

import asyncio
from contextlib import aclosing
from typing import Any

import aiohttp
import pytest

from tests.kube.manifests import config_map, deployment, node
from tests.kube.rbac import Access, Rule, rules_from_manifests
from tests.kube.server import FakeServer
from tests.kube.status import Refusal
from tests.kube.target import Target
from tests.kube.validate import validate

MAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
MERGE = "application/merge-patch+json"


class Client:
    """Plain HTTP: nothing of the code under test lies between the test and the server."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def __call__(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json", **query: str
    ) -> tuple[int, Any]:
        headers = {"Content-Type": content_type, "User-Agent": "kubectl/v1.37 (linux)"}
        async with self._session.request(method, self._url + path, json=body, params=query, headers=headers) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def call(server: FakeServer):  # type: ignore[no-untyped-def]
    async with aiohttp.ClientSession() as session:
        yield Client(session, server.url)


async def test_an_object_that_was_created_is_read_back_with_an_identity(call: Client) -> None:
    status, made = await call("POST", MAPS, config_map("a", x="1"))
    assert status == 201
    assert (await call("GET", f"{MAPS}/a")) == (200, made)
    assert made["metadata"].keys() >= {"uid", "resourceVersion", "creationTimestamp"}


async def test_a_name_that_is_taken_is_a_conflict(call: Client) -> None:
    await call("POST", MAPS, config_map("a"))
    status, body = await call("POST", MAPS, config_map("a"))
    assert (status, body["reason"], body["message"]) == (409, "AlreadyExists", 'configmaps "a" already exists')


async def test_a_generated_name_is_new_each_time(call: Client) -> None:
    item = config_map("")
    item["metadata"]["generateName"] = "run-"
    names = {(await call("POST", MAPS, item))[1]["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("run-") for name in names)


async def test_a_replacement_by_a_stale_reader_is_a_conflict(call: Client) -> None:
    _, first = await call("POST", MAPS, config_map("a", x="1"))
    assert (await call("PUT", f"{MAPS}/a", first | {"data": {"x": "2"}}))[0] == 200
    status, body = await call("PUT", f"{MAPS}/a", first | {"data": {"x": "3"}})
    assert (status, body["reason"]) == (409, "Conflict")


async def test_a_patch_merges_and_a_null_removes(call: Client) -> None:
    await call("POST", MAPS, config_map("a", x="1", y="2"))
    _, after = await call("PATCH", f"{MAPS}/a", {"data": {"x": None, "z": "3"}}, content_type=MERGE)
    assert after["data"] == {"y": "2", "z": "3"}


async def test_a_patch_of_another_version_is_a_conflict(call: Client) -> None:
    await call("POST", MAPS, config_map("a"))
    patch = {"metadata": {"resourceVersion": "1"}, "data": {"x": "1"}}
    assert (await call("PATCH", f"{MAPS}/a", patch, content_type=MERGE))[0] == 409


async def test_a_patch_that_changes_nothing_makes_no_version(call: Client) -> None:
    _, before = await call("POST", MAPS, config_map("a", x="1"))
    _, after = await call("PATCH", f"{MAPS}/a", {"data": {"x": "1"}}, content_type=MERGE)
    assert after == before


async def test_a_deletion_checks_the_uid_it_is_given(call: Client) -> None:
    _, made = await call("POST", MAPS, config_map("a"))
    assert (await call("DELETE", f"{MAPS}/a", {"preconditions": {"uid": "other"}}))[0] == 409
    assert (await call("DELETE", f"{MAPS}/a", {"preconditions": {"uid": made["metadata"]["uid"]}}))[0] == 200
    assert (await call("GET", f"{MAPS}/a"))[1]["message"] == 'configmaps "a" not found'


@pytest.mark.parametrize(
    ("query", "names"),
    [
        pytest.param({"labelSelector": "app=chat"}, "ab", id="equal"),
        pytest.param({"labelSelector": "app==chat,tier!=back"}, "a", id="equal and not equal"),
        pytest.param({"labelSelector": "tier in (back, front)"}, "ab", id="in a set"),
        pytest.param({"labelSelector": "tier notin (back)"}, "ac", id="not in a set, or without the label"),
        pytest.param({"labelSelector": "tier"}, "ab", id="has the label"),
        pytest.param({"labelSelector": "!tier"}, "c", id="has not the label"),
        pytest.param({"fieldSelector": "metadata.name=b"}, "b", id="by name"),
    ],
)
async def test_selectors_choose_objects(server: FakeServer, call: Client, query: dict[str, str], names: str) -> None:
    for name, labels in {"a": {"app": "chat", "tier": "front"}, "b": {"app": "chat", "tier": "back"}, "c": {}}.items():
        server.store.put("configmaps", config_map(name, labels=labels))
    _, listing = await call("GET", MAPS, **query)
    assert [item["metadata"]["name"] for item in listing["items"]] == list(names)


async def test_a_field_that_cannot_be_selected_by_is_a_bad_request(call: Client) -> None:
    assert (await call("GET", MAPS, fieldSelector="data.x=1"))[0] == 400


async def test_pages_are_of_one_moment_and_a_token_expires(server: FakeServer, call: Client) -> None:
    for index in range(5):
        server.store.put("configmaps", config_map(f"m{index}"))
    _, first = await call("GET", MAPS, limit="2")
    server.store.put("configmaps", config_map("m2b"))
    _, second = await call("GET", MAPS, limit="2", **{"continue": first["metadata"]["continue"]})
    assert [item["metadata"]["name"] for item in second["items"]] == ["m2", "m3"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    server.compact()
    status, body = await call("GET", MAPS, limit="2", **{"continue": second["metadata"]["continue"]})
    assert (status, body["reason"]) == (410, "Expired")


async def test_scale_reads_and_writes_replicas(server: FakeServer, call: Client) -> None:
    server.store.put("deployments", deployment("chat", replicas=2) | {"status": {"replicas": 2}})
    _, scale = await call("GET", f"{DEPLOYMENTS}/chat/scale")
    assert (scale["kind"], scale["spec"], scale["status"]) == (
        "Scale",
        {"replicas": 2},
        {"replicas": 2, "selector": "app=chat"},
    )
    _, scale = await call("PATCH", f"{DEPLOYMENTS}/chat/scale", {"spec": {"replicas": 0}}, content_type=MERGE)
    assert scale["spec"] == {}
    assert server.store.get("deployments", "chat")["spec"]["replicas"] == 0


async def test_who_changes_replicas_owns_them(server: FakeServer, call: Client) -> None:
    await call("POST", DEPLOYMENTS, deployment("chat", replicas=2), fieldManager="helm")

    async def scale(replicas: int, **query: str) -> list[tuple[str, str]]:
        patch = {"spec": {"replicas": replicas}}
        await call("PATCH", f"{DEPLOYMENTS}/chat/scale", patch, content_type=MERGE, **query)
        entries = server.store.get("deployments", "chat")["metadata"]["managedFields"]
        return [(entry["manager"], entry.get("subresource", "")) for entry in entries]

    assert await scale(2, fieldManager="scaler") == [("helm", "")]
    assert await scale(3, fieldManager="scaler") == [("scaler", "scale")]
    assert await scale(4) == [("kubectl", "scale")]


async def test_a_status_changes_through_its_subresource_only(server: FakeServer, call: Client) -> None:
    await call("POST", DEPLOYMENTS, deployment("chat") | {"status": {"replicas": 9}})
    patch = {"status": {"replicas": 3}}
    _, after = await call("PATCH", f"{DEPLOYMENTS}/chat", patch, content_type=MERGE)
    assert "status" not in after or not after["status"]
    _, after = await call("PATCH", f"{DEPLOYMENTS}/chat/status", patch, content_type=MERGE)
    assert after["status"] == {"replicas": 3}


LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
EVENTS = "/api/v1/namespaces/default/events"
PODS = "/api/v1/namespaces/default/pods"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        pytest.param(MAPS, {"metadata": {"name": "Upper"}}, 422, id="a name in capitals"),
        pytest.param(MAPS, {"metadata": {"name": "a"}, "data": {"x": 1}}, 400, id="data that is no text"),
        pytest.param(MAPS, {"metadata": {"name": "a", "annotations": {"x": True}}}, 400, id="an annotation of no text"),
        pytest.param(MAPS, {"metadata": {"name": "a", "annotations": {"a b": "x"}}}, 422, id="an annotation's name"),
        pytest.param(MAPS, {"metadata": {"name": "a", "labels": {"x": "a b"}}}, 422, id="a label with a space"),
        pytest.param(
            MAPS, {"metadata": {"name": "a", "annotations": {"x": "y" * 2**19}}}, 422, id="an annotation too long"
        ),
        pytest.param(
            LEASES,
            {"metadata": {"name": "a"}, "spec": {"renewTime": "2026-01-01T00:00:00Z"}},
            400,
            id="a lease's time without microseconds",
        ),
        pytest.param(LEASES, {"metadata": {"name": "a"}, "spec": {"leaseDurationSeconds": 0}}, 422, id="no duration"),
        pytest.param(LEASES, {"metadata": {"name": "a"}, "spec": {"leaseTransitions": -1}}, 422, id="transitions"),
        pytest.param(
            EVENTS,
            {"metadata": {"name": "a"}, "involvedObject": {"namespace": "other"}},
            422,
            id="an event of another namespace",
        ),
        pytest.param(
            EVENTS,
            {"metadata": {"name": "a"}, "involvedObject": {"namespace": "default"}, "lastTimestamp": "now"},
            400,
            id="an event at no time",
        ),
        pytest.param(
            PODS,
            {"metadata": {"name": "a", "annotations": {"controller.kubernetes.io/pod-deletion-cost": "1.5"}}},
            422,
            id="a deletion cost that is no integer",
        ),
        pytest.param(DEPLOYMENTS, {"metadata": {"name": "a"}, "spec": {"replicas": "2"}}, 400, id="replicas as text"),
        pytest.param(DEPLOYMENTS, {"metadata": {"name": "a"}, "spec": {"replicas": -1}}, 422, id="negative replicas"),
    ],
)
async def test_what_a_real_server_does_not_store_is_refused(call: Client, path: str, body: Any, status: int) -> None:
    assert (await call("POST", path, body))[0] == status


def test_a_config_map_holds_a_megabyte() -> None:
    target = Target(group="", version="v1", resource="configmaps", namespace="default", name="a")
    validate(target, config_map("a", x="y" * (2**20 - 1)), None)
    with pytest.raises(Refusal, match="Too long"):
        validate(target, config_map("a", x="y" * 2**20), None)


async def test_a_lease_is_not_replaced_without_its_version(call: Client) -> None:
    _, lease = await call("POST", LEASES, {"metadata": {"name": "a"}, "spec": {"holderIdentity": "me"}})
    assert (await call("PUT", f"{LEASES}/a", lease))[0] == 200
    del lease["metadata"]["resourceVersion"]
    assert (await call("PUT", f"{LEASES}/a", lease))[0] == 422


async def test_the_spec_of_a_pod_stays(server: FakeServer, call: Client) -> None:
    server.store.put("pods", {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "default"}})
    patch = {"metadata": {"annotations": {"x": "y"}}}
    assert (await call("PATCH", f"{PODS}/a", patch, content_type=MERGE))[0] == 200
    assert (await call("PATCH", f"{PODS}/a", {"spec": {"nodeName": "n"}}, content_type=MERGE))[0] == 422


async def test_a_deleted_object_with_a_finalizer_goes_with_its_last(server: FakeServer, call: Client) -> None:
    item = config_map("a")
    item["metadata"]["finalizers"] = ["x"]
    await call("POST", MAPS, item)
    await call("DELETE", f"{MAPS}/a")
    assert "deletionTimestamp" in server.store.get("configmaps", "a")["metadata"]
    await call("PATCH", f"{MAPS}/a", {"metadata": {"finalizers": None}}, content_type=MERGE)
    assert server.store.find("configmaps", "a") is None


async def test_a_watch_replays_what_came_after_its_version_and_goes_on(server: FakeServer) -> None:
    first = server.store.put("configmaps", config_map("a", x="1"))
    server.store.put("configmaps", config_map("b"))
    api = server.api()
    seen = []
    async with aclosing(api.watch(MAPS, resource_version=first["metadata"]["resourceVersion"])) as events:
        async for event in events:
            seen.append((event.kind, event.object["metadata"]["name"]))
            if len(seen) == 1:
                server.store.change("configmaps", "a", {"data": {"x": "2"}})
                server.store.remove("configmaps", "b")
            if len(seen) == 3:
                break
    assert seen == [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]


async def test_an_object_that_leaves_the_selection_is_deleted_for_its_watch(server: FakeServer) -> None:
    server.store.put("configmaps", config_map("a", labels={"app": "chat"}))
    version = str(server.store.version)
    server.store.change("configmaps", "a", {"metadata": {"labels": {"app": "other"}}})
    server.store.change("configmaps", "a", {"metadata": {"labels": {"app": "chat"}}})
    api = server.api()
    async with aclosing(api.watch(MAPS, resource_version=version, labels="app=chat")) as events:
        assert [(await anext(events)).kind for _ in range(2)] == ["DELETED", "ADDED"]


async def test_a_watch_ends_with_a_bookmark(server: FakeServer) -> None:
    api = server.api()
    version = str(server.store.version)
    server.store.put("nodes", node())
    async with asyncio.timeout(5):
        events = [event async for event in api.watch(MAPS, resource_version=version, timeout_s=1)]
    assert [event.kind for event in events] == ["BOOKMARK"]
    assert events[0].object["metadata"]["resourceVersion"] == str(server.store.version)


async def test_what_no_rule_allows_is_forbidden_and_what_is_used_is_known() -> None:
    rule = Rule(
        api_groups=("",),
        resources=("configmaps",),
        verbs=("get", "patch", "list"),
        resource_names=("a",),
        namespace="default",
    )
    async with FakeServer(access=Access([rule])) as server, aiohttp.ClientSession() as session:
        call = Client(session, server.url)
        server.store.put("configmaps", config_map("a"))
        assert (await call("GET", f"{MAPS}/a"))[0] == 200
        assert (await call("GET", MAPS, fieldSelector="metadata.name=a"))[0] == 200
        status, body = await call("GET", MAPS)
        assert status == 403
        assert 'cannot list resource "configmaps" in API group "" in the namespace "default"' in body["message"]
        assert (await call("POST", MAPS, config_map("b")))[0] == 403
        assert (await call("GET", "/api/v1/namespaces/other/configmaps/a"))[0] == 403
        assert server.access is not None
        assert [verb for _, _, verb in server.access.unused()] == ["patch"]


def test_rules_come_from_roles_that_are_bound_to_the_account() -> None:
    rules = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}]
    subject = {"kind": "ServiceAccount", "name": "scaler", "namespace": "here"}
    manifests = [
        {"kind": "Role", "metadata": {"name": "r"}, "rules": rules},
        {"kind": "ClusterRole", "metadata": {"name": "c"}, "rules": rules},
        {
            "kind": "RoleBinding",
            "metadata": {"name": "b"},
            "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [subject],
        },
        {
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "b"},
            "roleRef": {"kind": "ClusterRole", "name": "c"},
            "subjects": [subject | {"name": "someone-else"}],
        },
        {"kind": "Service", "metadata": {"name": "s"}},
    ]
    found = rules_from_manifests(manifests, account="scaler", namespace="here")
    assert [(rule.source, rule.namespace) for rule in found] == [("Role/r", "here")]
