"""One API server for tests that hold on any: the fake one, or the real one that KUBECONFIG names.

The fixture `cluster` gives the real one where both KUBECONFIG and WEIGHBRIDGE_TEST_CLUSTER are set (`make
test-cluster`), in a namespace of its own that ends with the test. Tests marked `fake_only` need what no real server
does at a test's word.
"""

import asyncio
import os
import random
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from autoscaler.kube.api import KubeApi
from autoscaler.kube.connection import ClientConnection, connect_kubeconfig
from tests.kube.server import FakeServer

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A client and a namespace. `server` is None where the API server is a real one."""

    api: KubeApi
    namespace: str
    server: FakeServer | None

    def path(self, api_version: str, resource: str, *more: str) -> str:
        """Of a collection in the namespace, or of what `more` names in it: `path("apps/v1", "deployments", "a")`."""
        root = "/api" if "/" not in api_version else "/apis"
        return "/".join((root, api_version, "namespaces", self.namespace, resource, *more))


def real_kubeconfig(environ: Mapping[str, str]) -> Path | None:
    """KUBECONFIG, if tests are told to use it: it is often set where nobody wants tests to run."""
    if not environ.get("WEIGHBRIDGE_TEST_CLUSTER"):
        return None
    path = environ.get("KUBECONFIG")
    if not path:
        pytest.fail("WEIGHBRIDGE_TEST_CLUSTER is set and KUBECONFIG is not")
    return Path(path)


@pytest.fixture
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """A server with an empty namespace."""
    kubeconfig = real_kubeconfig(os.environ)
    if kubeconfig is None:
        async with FakeServer() as server:
            yield Cluster(api=server.api(), namespace="default", server=server)
        return
    if request.node.get_closest_marker("fake_only"):
        pytest.skip("needs the faults of the fake server")
    connection = await connect_kubeconfig(kubeconfig, clock=time.monotonic)
    api = KubeApi(connection, clock=time.monotonic, rng=random.Random(0))
    namespace = f"weighbridge-test-{secrets.token_hex(4)}"
    try:
        await api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
        try:
            yield Cluster(api=api, namespace=namespace, server=None)
        finally:
            await _delete(connection, f"/api/v1/namespaces/{namespace}")
    finally:
        await api.close()


async def _delete(connection: ClientConnection, path: str) -> None:
    """The client itself deletes nothing."""
    answer = await connection.send(
        "DELETE",
        path,
        query={},
        body=None,
        content_type="application/json",
        timeout=aiohttp.ClientTimeout(total=30),
    )
    async with asyncio.timeout(30):
        await answer.read()
