"""What holds on a real API server as on the fake one. `make test-cluster` runs it on the one of KUBECONFIG."""

import asyncio
import time
from contextlib import aclosing
from typing import Any

import pytest

from autoscaler.kube.api import without_managed_fields
from autoscaler.kube.errors import Conflict, KubeError, NotFound
from autoscaler.kube.watch import Watch
from tests.kube.cluster import Cluster
from tests.kube.manifests import config_map, deployment, stateful_set

Json = dict[str, Any]


def named(item: Json, cluster: Cluster) -> Json:
    return item | {"metadata": item["metadata"] | {"namespace": cluster.namespace}}


async def test_an_object_that_changed_in_between_is_not_replaced(cluster: Cluster) -> None:
    maps = cluster.path("v1", "configmaps")
    first = await cluster.api.create(maps, named(config_map("a", x="1"), cluster))
    await cluster.api.patch(f"{maps}/a", {"data": {"x": "2"}})
    with pytest.raises(Conflict) as raised:
        await cluster.api.replace(f"{maps}/a", first | {"data": {"x": "3"}})
    assert raised.value.status == 409
    with pytest.raises(Conflict):
        await cluster.api.patch(f"{maps}/a", {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}})
    assert (await cluster.api.get(f"{maps}/a"))["data"] == {"x": "2"}


async def test_a_name_is_given_once(cluster: Cluster) -> None:
    maps = cluster.path("v1", "configmaps")
    await cluster.api.create(maps, named(config_map("a"), cluster))
    with pytest.raises(Conflict, match="already exists"):
        await cluster.api.create(maps, named(config_map("a"), cluster))


async def test_what_is_not_there_is_not_found(cluster: Cluster) -> None:
    with pytest.raises(NotFound, match='configmaps "nothing" not found'):
        await cluster.api.get(cluster.path("v1", "configmaps", "nothing"))


async def test_an_object_that_makes_no_sense_is_refused(cluster: Cluster) -> None:
    with pytest.raises(KubeError) as raised:
        await cluster.api.create(cluster.path("v1", "configmaps"), {"metadata": {}})
    assert raised.value.status == 422


async def test_a_list_is_selected_by_labels_and_by_name(cluster: Cluster) -> None:
    maps = cluster.path("v1", "configmaps")
    for name, app in (("a", "chat"), ("b", "chat"), ("c", "other")):
        await cluster.api.create(maps, named(config_map(name, labels={"app": app}), cluster))

    async def found(**query: str) -> list[str]:
        return [item["metadata"]["name"] for item in (await cluster.api.list(maps, **query)).items]

    assert await found(labels="app=chat") == ["a", "b"]
    assert await found(labels="app notin (chat),app") == ["c"]
    assert await found(fields="metadata.name=b") == ["b"]


@pytest.mark.parametrize(("make", "resource"), [(deployment, "deployments"), (stateful_set, "statefulsets")])
async def test_scale_changes_replicas_and_their_owner(cluster: Cluster, make: Any, resource: str) -> None:
    path = cluster.path("apps/v1", resource)
    await cluster.api.create(path, named(make("chat", replicas=1), cluster))
    scale = await cluster.api.patch(f"{path}/chat/scale", {"spec": {"replicas": 0}})
    assert (scale["kind"], scale["spec"].get("replicas", 0)) == ("Scale", 0)
    scale = await cluster.api.get(f"{path}/chat/scale")
    assert scale["status"]["selector"] == "app=chat"
    item = await cluster.api.get(f"{path}/chat")
    assert item["spec"]["replicas"] == 0
    owners = [
        (entry["manager"], entry.get("subresource"), entry["operation"])
        for entry in item["metadata"]["managedFields"]
        if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
    ]
    assert ("weighbridge-autoscaler", "scale", "Update") in owners


async def test_a_scale_of_another_version_is_a_conflict(cluster: Cluster) -> None:
    path = cluster.path("apps/v1", "deployments")
    await cluster.api.create(path, named(deployment("chat", replicas=1), cluster))
    patch = {"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 2}}
    with pytest.raises(Conflict):
        await cluster.api.patch(f"{path}/chat/scale", patch)


async def test_a_lease_is_taken_over_by_one_of_two_that_read_it(cluster: Cluster) -> None:
    leases = cluster.path("coordination.k8s.io/v1", "leases")
    metadata = {"name": "leader", "namespace": cluster.namespace}
    spec = {"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
    read = await cluster.api.create(leases, body)

    async def take(identity: str) -> bool:
        try:
            await cluster.api.replace(f"{leases}/leader", read | {"spec": spec | {"holderIdentity": identity}})
        except Conflict:
            return False
        return True

    assert sorted(await asyncio.gather(take("b"), take("c"))) == [False, True]


async def test_a_watch_tells_of_changes_after_its_version_in_order(cluster: Cluster) -> None:
    maps = cluster.path("v1", "configmaps")
    listing = await cluster.api.list(maps, labels="app=chat")
    await cluster.api.create(maps, named(config_map("a", labels={"app": "chat"}), cluster))
    await cluster.api.patch(f"{maps}/a", {"data": {"x": "1"}})
    await cluster.api.patch(f"{maps}/a", {"metadata": {"labels": {"app": "other"}}})
    watch = cluster.api.watch(maps, resource_version=listing.resource_version, labels="app=chat")
    kinds = []
    async with asyncio.timeout(20), aclosing(watch) as events:
        async for event in events:
            kinds += [event.kind] if event.kind != "BOOKMARK" else []
            if len(kinds) == 3:
                break
    assert kinds == ["ADDED", "MODIFIED", "DELETED"]


async def test_a_mirror_has_what_a_list_has(cluster: Cluster) -> None:
    maps = cluster.path("v1", "configmaps")
    await cluster.api.create(maps, named(config_map("a", labels={"app": "chat"}), cluster))
    watch = Watch(cluster.api, maps, labels="app=chat", clock=time.monotonic, name="maps", trim=without_managed_fields)
    stop = asyncio.Event()
    task = asyncio.create_task(watch.run(stop), name="watch under test")
    try:
        async with asyncio.timeout(20):
            while not watch.synced:
                await asyncio.sleep(0.005)
            await cluster.api.create(maps, named(config_map("b", labels={"app": "chat"}), cluster))
            await cluster.api.patch(f"{maps}/a", {"data": {"x": "1"}})
            key = f"{cluster.namespace}/a"
            while len(watch.objects) < 2 or "data" not in watch.objects[key] or not watch.objects[key]["data"]:
                await asyncio.sleep(0.005)
        listing = await cluster.api.list(maps, labels="app=chat", trim=without_managed_fields)
        assert list(watch.objects.values()) == list(listing.items)
    finally:
        stop.set()
        await task


@pytest.mark.fake_only
async def test_what_is_marked_runs_on_the_fake_alone(cluster: Cluster) -> None:
    assert cluster.server is not None
    cluster.server.faults.next(1, verb="get", status=503)
    await cluster.api.create(cluster.path("v1", "configmaps"), named(config_map("a"), cluster))
    assert (await cluster.api.get(cluster.path("v1", "configmaps", "a")))["metadata"]["name"] == "a"
    assert [call.status for call in cluster.server.calls] == [201, 503, 200]
