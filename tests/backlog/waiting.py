"""Wait for a condition, never for a time."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

LIMIT_S = 20.0


def until(condition: Callable[[], object]) -> None:
    """Poll until `condition` holds; fail after `LIMIT_S`."""
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not come true"
        time.sleep(0.005)


async def until_async(condition: Callable[[], object]) -> None:
    """`until` on a running loop."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.005)


def ended(pid: int) -> bool:
    """No such process, or one that only waits to be reaped."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(")")[2].split()[0] in {"Z", "X"}
