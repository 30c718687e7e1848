"""`python -m benchmarks.litellm`: what the plugin adds to a call of a LiteLLM proxy.

Two proxies with the same configuration, one of them with the plugin, share the second core; client, replica and Redis
have the first. Calls go one at a time and in turn: to the one, to the other.
"""

import asyncio
import os
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

import aiohttp

from backlog.embedded import EmbeddedRedis
from benchmarks.machine import cpu_model
from tests.litellm.proxy import (
    KEY,
    PROGRAM,
    Group,
    Proxy,
    authorization,
    chat_body,
    configuration,
    litellm_proxy,
    ready,
)
from tests.litellm.replicas import free_ports, running

CLIENT_CORE, PROXY_CORE = 0, 1
WARM_UP = 40
GOAL_MS = 2.0
PROMPT_WORDS = 200


def report(kind: str, without_ms: Sequence[float], with_ms: Sequence[float]) -> str:
    """A row: p50 and p99 of both, and the median of what each pair of calls differs by."""
    figures = [figure for times in (without_ms, with_ms) for figure in (median(times), quantiles(times, n=100)[98])]
    added_ms = median(plugin - plain for plain, plugin in zip(without_ms, with_ms, strict=True))
    return f"| {kind} | {' | '.join(f'{figure:.2f}' for figure in figures)} | {added_ms:+.2f} |"


async def measure(proxies: Sequence[Proxy], calls: int, *, stream: bool) -> list[list[float]]:
    """Milliseconds from sending a call to the end of its answer, per proxy."""
    body = chat_body("it", stream=stream)
    body["messages"][0]["content"] += " word" * PROMPT_WORDS
    times: list[list[float]] = [[] for _ in proxies]
    async with aiohttp.ClientSession(headers=authorization(KEY)) as session:
        for number in range(WARM_UP + calls):
            for proxy, spent in zip(proxies, times, strict=True):
                took_ms = await _timed_ms(lambda url=proxy.url: _call(session, url, body))
                if number >= WARM_UP:
                    spent.append(took_ms)
    return times


async def _call(session: aiohttp.ClientSession, url: str, body: dict[str, object]) -> None:
    async with session.post(f"{url}/v1/chat/completions", json=body) as response:
        answer = await response.read()
    if response.status != 200:
        raise RuntimeError(f"status {response.status}: {answer[:500]!r}")


async def _timed_ms(call: Callable[[], Awaitable[None]]) -> float:
    begun_s = perf_counter()
    await call()
    return (perf_counter() - begun_s) * 1e3


async def _run(proxies: Sequence[Proxy], port: int, calls: int) -> None:
    print("| answer | without: p50 ms | p99 | with: p50 ms | p99 | added, median of pairs |\n|---|---|---|---|---|---|")
    async with running([port]):
        for kind, stream in (("whole", False), ("stream", True)):
            without_ms, with_ms = await measure(proxies, calls, stream=stream)
            print(report(kind, without_ms, with_ms), flush=True)


def main(arguments: Sequence[str]) -> int:
    parser = ArgumentParser(prog="python -m benchmarks.litellm", description=__doc__)
    parser.add_argument("--calls", type=int, default=500, help="of each kind to each proxy (default 500)")
    calls = parser.parse_args(arguments).calls
    cores = os.sched_getaffinity(0)
    if not PROGRAM.exists() or not {CLIENT_CORE, PROXY_CORE} <= cores:
        print("needs `make .venv-litellm/.installed` and two cores", file=sys.stderr)
        return 1
    port, *ports = free_ports(3)
    print(f"{cpu_model(Path('/proc/cpuinfo').read_text())}, load {os.getloadavg()[0]:.2f}, {calls} calls each")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(EmbeddedRedis.start())
        proxies = []
        for name, own_port in zip(("without", "with"), ports, strict=True):
            (folder / name).mkdir()
            sections = {"url": redis.url} if name == "with" else None
            config = configuration({"m": Group([port], {"kv_tokens": 100_000})}, redis=sections)
            proxies.append(stack.enter_context(litellm_proxy(config, folder / name, own_port)))
        for proxy in proxies:
            ready(proxy)
            _pin(proxy.process.pid, PROXY_CORE)
        _pin(redis.pid, CLIENT_CORE)
        _pin(os.getpid(), CLIENT_CORE)
        asyncio.run(_run(proxies, port, calls))
    print(f"goal: at most {GOAL_MS:.0f} ms added")
    return 0


def _pin(pid: int, core: int) -> None:
    """All threads of a process."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), {core})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
