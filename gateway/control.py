"""How a supervisor talks to its workers: one word over a private unix socket, one JSON answer."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from gateway.snapshot import WorkerState

SNAPSHOT = b"snapshot"
DRAIN = b"drain"
ANSWER_S = 2.0
_MOST_BYTES = 64 * 1024 * 1024


async def serve(path: Path, *, snapshot: Callable[[], WorkerState], drain: Callable[[], None]) -> asyncio.Server:
    """Answer on `path` until the server is closed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            word = (await reader.readline()).strip()
            if word == DRAIN:
                drain()
            if word in (SNAPSHOT, DRAIN):
                writer.write(msgspec.json.encode(snapshot()))
            await writer.drain()
        finally:
            writer.close()

    return await asyncio.start_unix_server(answer, path)


async def ask(path: Path, word: bytes) -> WorkerState | None:
    """A worker's answer; `None` when it is not there or does not answer in time."""
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(path, limit=_MOST_BYTES)
            try:
                writer.write(word + b"\n")
                answer = await reader.read(-1)
            finally:
                writer.close()
        return msgspec.json.decode(answer, type=WorkerState)
    except (OSError, TimeoutError, msgspec.MsgspecError):
        return None
