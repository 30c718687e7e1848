"""A replica that does exactly what a test says, at the level of bytes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


@dataclass(eq=False)
class Call:
    """One request as the replica received it."""

    head: bytes
    body: bytes
    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def reset(self) -> None:
        """Close with a TCP reset, as a killed process does."""
        self.writer.transport.abort()

    async def closed(self) -> None:
        """Returns when the other side has closed."""
        with suppress(ConnectionError):
            await self.reader.read()


Script = Callable[[Call], Awaitable[None]]


@dataclass(eq=False)
class ScriptedReplica:
    port: int
    calls: list[Call] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def replica(script: Script, *, port: int = 0, path: Path | None = None) -> AsyncIterator[ScriptedReplica]:
    """Serve `script` for each request on keep-alive connections while the context is open, or at a unix socket."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lengths = (line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
                length = next((int(line.split(b":")[1]) for line in lengths), 0)
                call = Call(head, await reader.readexactly(length), writer, reader)
                scripted.calls.append(call)
                await script(call)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    if path is not None:
        server: asyncio.Server = await asyncio.start_unix_server(serve, path)
        scripted = ScriptedReplica(0)
    else:
        server = await asyncio.start_server(serve, "127.0.0.1", port)
        scripted = ScriptedReplica(server.sockets[0].getsockname()[1])
    try:
        yield scripted
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(text: str) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text.encode()


USAGE_EVENT = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}\n\n'
DONE = b"data: [DONE]\n\n"
BODY = b'{"id":"x","choices":[{"message":{"content":"hello"}}],"usage":{"prompt_tokens":7,"completion_tokens":2}}'


def json_response(body: bytes = BODY, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        status.encode(),
        len(body),
        body,
    )


async def answer(call: Call) -> None:
    """A whole response that does not stream."""
    call.send(json_response())


async def stream(call: Call) -> None:
    """Two events, usage if it was asked for, [DONE]."""
    usage = USAGE_EVENT if b'"include_usage":true' in call.body else b""
    call.send(SSE_HEAD + chunk(event("a")) + chunk(event("b")) + chunk(usage + DONE) + END)


async def full(call: Call) -> None:
    """A model server whose queue is full."""
    call.send(json_response(b'{"error":{"message":"queue full"}}', "503 Service Unavailable"))


async def hang(call: Call) -> None:
    """Never answers."""
    await call.closed()


async def reset(call: Call) -> None:
    """Dies before the first byte."""
    call.reset()
