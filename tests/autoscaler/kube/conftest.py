"""A fake API server for every test here that asks for one."""

from collections.abc import AsyncIterator

import pytest

from tests.kube.server import FakeServer


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as fake:
        yield fake
