"""Calls are counted as roles name them, those that were not answered too."""

import random
import time
from contextlib import suppress

from autoscaler.kube.api import KubeApi, Limits
from autoscaler.kube.calls import CountedConnection
from autoscaler.kube.connection import connect_url
from autoscaler.kube.errors import KubeError
from tests.kube.manifests import config_map
from tests.kube.server import FakeServer

FOLDER = "/api/v1/namespaces/ml/configmaps"


async def test_calls_are_counted_by_verb_and_status(server: FakeServer) -> None:
    counted = CountedConnection(connect_url(server.url, clock=time.monotonic))
    api = KubeApi(counted, clock=time.monotonic, rng=random.Random(0), limits=Limits(attempts=1))
    item = await api.create(FOLDER, config_map("a", namespace="ml"))
    await api.patch(f"{FOLDER}/a", {"data": {"x": "1"}})
    await api.get(f"{FOLDER}/a")
    await api.list(FOLDER)
    with suppress(KubeError):
        await api.replace(f"{FOLDER}/a", item)
    server.faults.next(1, resource="configmaps", reset=True)
    with suppress(KubeError):
        await api.get(f"{FOLDER}/a")
    async for _ in api.watch(FOLDER, resource_version="0", timeout_s=1.0):
        break
    await api.close()
    assert counted.counts == {
        ("create", "201"): 1,
        ("patch", "200"): 1,
        ("get", "200"): 1,
        ("list", "200"): 1,
        ("update", "409"): 1,
        ("get", "none"): 1,
        ("watch", "200"): 1,
    }
