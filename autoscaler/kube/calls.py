"""Calls to the API server, counted by verb and status."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import aiohttp

from autoscaler.kube.api import Connection

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class CountedConnection:
    """A connection whose requests are counted. `status` is `none` where there was no answer."""

    def __init__(self, connection: Connection) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        """By verb (as roles call it) and status."""
        self._connection = connection

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        body: dict[str, Any] | None,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        status = "none"
        try:
            response = await self._connection.send(
                method, path, query=query, body=body, content_type=content_type, timeout=timeout
            )
            status = str(response.status)
            return response
        finally:
            self.counts[_verb(method, query), status] += 1

    def refused(self) -> None:
        self._connection.refused()

    async def close(self) -> None:
        await self._connection.close()


def _verb(method: str, query: Mapping[str, str]) -> str:
    if method == "GET":
        return "watch" if "watch" in query else "list" if "limit" in query else "get"
    return _VERBS.get(method, method.lower())
