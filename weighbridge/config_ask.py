"""What a model server lists at `/v1/models`: asked once, when a configuration with a wildcard is read."""

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from weighbridge.config_wildcard import ServerModel, ServerSilent

TIMEOUT_S = 2.0
MOST_BYTES = 1 << 20


def ask_server(url: str, api_key: str | None) -> tuple[ServerModel, ...]:
    """The models of the server at `url` (without `/v1`). Raises `ServerSilent`."""
    try:
        status, body = _get(url, api_key)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ServerSilent(str(error) or type(error).__name__) from None
    if status != http.client.OK:
        raise ServerSilent(f"answered {status}")
    try:
        rows = json.loads(body)["data"]
        return tuple(_model(row) for row in rows)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ServerSilent("did not answer with a list of models") from None


def _get(url: str, api_key: str | None) -> tuple[int, bytes]:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        connection.request("GET", f"{parts.path}/v1/models", headers=headers)
        response = connection.getresponse()
        return response.status, response.read(MOST_BYTES)
    finally:
        connection.close()


def _model(row: Mapping[str, Any]) -> ServerModel:
    name = row["id"]
    if not isinstance(name, str) or not name:
        raise ValueError("a model has no id")
    return ServerModel(name=name, root=_text(row.get("root")), parent=_text(row.get("parent")))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
