"""Asks one replica what it is. Sends no work, unless told to probe: then one token."""

import asyncio
import json
import os
from collections.abc import Mapping
from typing import Any

import aiohttp

from weighbridge.doctor.replica import FAMILIES, SGLANG, Asked, ReplicaFacts

MOST_BYTES = 4 << 20

Answer = tuple[int, str]


async def ask_replica(session: aiohttp.ClientSession, asked: Asked, *, probe: bool) -> ReplicaFacts:
    """All questions side by side; the session's timeout bounds each."""
    try:
        models, health, metrics = await asyncio.gather(
            _get(session, asked, "/v1/models"),
            _quiet(session, asked, "/health"),
            _quiet(session, asked, "/metrics"),
        )
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return ReplicaFacts(away=_cause(error))
    names, length = _models(models)
    page = metrics[1] if metrics is not None and metrics[0] == 200 else None
    info = None
    if page is not None and FAMILIES[SGLANG] in page:
        info = _json(await _quiet(session, asked, "/get_server_info"))
    return ReplicaFacts(
        health=None if health is None else health[0],
        models_status=models[0],
        models=names,
        max_model_tokens=length,
        metrics=page,
        server_info=info,
        probed=await _probe(session, asked) if probe else None,
    )


async def _get(session: aiohttp.ClientSession, asked: Asked, path: str) -> Answer:
    async with session.get(f"{asked.url}{path}", headers=_headers(asked), allow_redirects=False) as response:
        return response.status, await _body(response)


async def _body(response: aiohttp.ClientResponse) -> str:
    """At most `MOST_BYTES` of it."""
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size >= MOST_BYTES:
            break
    return b"".join(parts).decode(errors="replace")


async def _quiet(session: aiohttp.ClientSession, asked: Asked, path: str) -> Answer | None:
    """`None` where nothing was answered."""
    try:
        return await _get(session, asked, path)
    except (aiohttp.ClientError, OSError, ValueError):
        return None


async def _probe(session: aiohttp.ClientSession, asked: Asked) -> Answer | None:
    if not asked.served:
        return None
    body = {"model": asked.served[0], "prompt": "1", "max_tokens": 1, "priority": 1}
    url = f"{asked.url}/v1/completions"
    try:
        async with session.post(url, json=body, headers=_headers(asked), allow_redirects=False) as response:
            return response.status, await _body(response)
    except (aiohttp.ClientError, OSError, ValueError):
        return None


def _headers(asked: Asked) -> dict[str, str]:
    return {"authorization": f"Bearer {asked.api_key}"} if asked.api_key else {}


def _models(answer: Answer) -> tuple[tuple[str, ...] | None, int | None]:
    document = _json(answer)
    rows = (document or {}).get("data")
    if not isinstance(rows, list):
        return None, None
    known = [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]
    length = known[0].get("max_model_len") if known else None
    return tuple(row["id"] for row in known), length if type(length) is int else None


def _json(answer: Answer | None) -> Mapping[str, Any] | None:
    """The object in a good answer."""
    if answer is None or answer[0] != 200:
        return None
    try:
        value = json.loads(answer[1])
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _cause(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        return (os.strerror(number) if number and number > 0 else str(error.os_error)).lower()
    return type(error).__name__
