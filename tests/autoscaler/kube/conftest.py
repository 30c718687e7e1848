"""A fake API server for every test here that asks for one, and a cluster that may be a real one."""

from collections.abc import AsyncIterator

import pytest

from tests.kube.cluster import cluster
from tests.kube.server import FakeServer

__all__ = ["cluster", "server"]


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as fake:
        yield fake
