"""Real child processes that look like model servers, and waiting for what happens to them."""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable

SERVER = """
import http.server, signal, sys, time
port, delay_s, status, term = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
if term == "ignores-sigterm":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(delay_s)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(status if self.path == "/health" else 404)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *args):
        print("asked for health", flush=True)
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
LIMIT_S = 20.0


def server(*, delay_s: float = 0.0, status: int = 200, term: str = "default") -> list[str]:
    """The command of a replica that becomes healthy after `delay_s`."""
    return [sys.executable, "-S", "-c", SERVER, "{port}", str(delay_s), str(status), term]


def exits(code: int = 3) -> list[str]:
    """The command of a replica that crashes at once."""
    return [sys.executable, "-S", "-c", f"print('no GPU'); raise SystemExit({code})", "{port}"]


async def until(
    condition: Callable[[], bool], *, also: Callable[[], Awaitable[object]] | None = None, limit_s: float = LIMIT_S
) -> None:
    """Wait for a condition, doing `also` between looks. Fails when it does not come true in time."""
    async with asyncio.timeout(limit_s):
        while not condition():
            if also is not None:
                await also()
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Clock:
    """The real time plus what a test adds to it."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s
