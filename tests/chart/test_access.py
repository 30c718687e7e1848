"""The rendered roles, enforced as an API server does: calls that the autoscaler makes pass, their neighbors do not."""

from collections.abc import AsyncIterator

import pytest

from autoscaler.kube.api import KubeApi
from autoscaler.kube.errors import Denied, NotFound
from tests.chart.render import render_example
from tests.kube.manifests import config_map, deployment
from tests.kube.rbac import Access, rules_from_manifests
from tests.kube.server import FakeServer

APPS = "/apis/apps/v1/namespaces/serving/deployments"
CORE = "/api/v1/namespaces/serving"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/serving/leases"


@pytest.fixture
async def api() -> AsyncIterator[KubeApi]:
    """As the service account of the example `one-gpu-node`, in a cluster that has its workers and somebody else's."""
    rules = rules_from_manifests(render_example("one-gpu-node").objects, account="wb-autoscaler", namespace="serving")
    async with FakeServer() as server:
        setup = server.api()
        for name in ("wb-worker-chat", "other"):
            await setup.create(APPS, deployment(name, namespace="serving"))
        for name in ("weighbridge-status", "other"):
            await setup.create(f"{CORE}/configmaps", config_map(name, namespace="serving"))
        server.access = Access(rules)
        yield server.api()


def lease(name: str) -> dict[str, object]:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": "serving"},
        "spec": {"holderIdentity": "me"},
    }


async def test_its_own_target_can_be_found_and_scaled_by_name(api: KubeApi) -> None:
    listing = await api.list(APPS, fields="metadata.name=wb-worker-chat")
    assert [item["metadata"]["name"] for item in listing.items] == ["wb-worker-chat"]
    scale = await api.patch(f"{APPS}/wb-worker-chat/scale", {"spec": {"replicas": 3}})
    assert scale["spec"]["replicas"] == 3
    assert (await api.list(f"{CORE}/pods")).items == ()


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(f"{APPS}/other/scale", id="scale of another deployment"),
        pytest.param(f"{APPS}/wb-worker-chat", id="the deployment itself, beside its scale"),
        pytest.param(f"{CORE}/configmaps/other", id="another config map"),
        pytest.param("/apis/apps/v1/namespaces/default/deployments/wb-worker-chat/scale", id="another namespace"),
    ],
)
async def test_nothing_else_can_be_changed(api: KubeApi, path: str) -> None:
    with pytest.raises(Denied):
        await api.patch(path, {"spec": {"replicas": 0}})


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        pytest.param(APPS, "", id="all deployments"),
        pytest.param(APPS, "metadata.name=other", id="another deployment"),
        pytest.param(f"{CORE}/configmaps", "", id="config maps"),
        pytest.param(f"{CORE}/secrets", "", id="secrets"),
        pytest.param("/api/v1/nodes", "", id="nodes"),
        pytest.param("/api/v1/namespaces/default/pods", "", id="pods elsewhere"),
    ],
)
async def test_nothing_else_can_be_listed(api: KubeApi, path: str, fields: str) -> None:
    with pytest.raises(Denied):
        await api.list(path, fields=fields)


async def test_its_own_lease_can_be_made_and_renewed_and_no_other_read(api: KubeApi) -> None:
    with pytest.raises(NotFound):
        await api.get(f"{LEASES}/wb-autoscaler")
    made = await api.create(LEASES, lease("wb-autoscaler"))
    await api.replace(f"{LEASES}/wb-autoscaler", made)
    assert (await api.get(f"{LEASES}/wb-autoscaler"))["spec"]["holderIdentity"] == "me"
    with pytest.raises(Denied):
        await api.get(f"{LEASES}/somebody-else")


async def test_its_status_can_be_shown(api: KubeApi) -> None:
    shown = await api.patch(f"{CORE}/configmaps/weighbridge-status", {"data": {"chat": "{}"}})
    assert shown["data"]["chat"] == "{}"
