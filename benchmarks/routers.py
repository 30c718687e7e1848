"""`python -m benchmarks.routers`: this gateway side by side with nginx and the Rust routers, one core each.

Needs Linux, two cores, nginx, wrk and gcc. Prints one table and writes `.bench/results.json`. See docs/benchmarks.md.
"""

import argparse
import dataclasses
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from backlog.embedded import MAX_SOCKET_PATH_BYTES, EmbeddedRedis, EmbeddedRedisFailed, EmbeddedRedisMissing
from benchmarks import load, machine, prerequisites, table
from benchmarks.measurement import PROMPT_BYTES, Prompt, Streaming, TargetName, Throughput
from benchmarks.processes import BenchmarkFailed, Processes, free_port
from benchmarks.prompts import chat_body
from benchmarks.targets import KEY, Site, launchers

ROOT = Path(__file__).resolve().parents[1]
SCRATCH = ROOT / ".bench"
BODIES = 16
"""Different prompts that are sent in turn."""
TABLE_WIDTH = 132
START_LIMIT_S = 60.0
NO_REDIS_URL = "redis://127.0.0.1:1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    targets: tuple[TargetName, ...]
    rounds: int
    warm_up_s: int
    throughput_s: int
    """Of each run of the load generator."""
    streaming_s: int
    redis: bool
    """Whether weighbridge has a Redis; without one each worker orders its own requests."""


def plan_from_args(argv: Sequence[str] | None) -> Plan:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.routers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="short runs: shows that everything works, not how fast it is"
    )
    parser.add_argument("--only", metavar="NAMES", help=f"comma-separated, of {', '.join(TargetName)}")
    parser.add_argument("--rounds", type=int, help="how often each target gets its turn (default 3, quick 2)")
    parser.add_argument("--seconds", type=int, help="of each run (default 6 for requests and 10 for streams)")
    parser.add_argument(
        "--without-redis", action="store_true", help="weighbridge with a Redis that is away: no shared queue"
    )
    args = parser.parse_args(argv)
    names = [name.strip() for name in args.only.split(",")] if args.only else list(TargetName)
    unknown = sorted(set(names) - set(TargetName))
    if unknown:
        parser.error(f"--only: no target {unknown[0]!r}; known: {', '.join(TargetName)}")
    rounds = args.rounds if args.rounds is not None else (2 if args.quick else 3)
    if rounds < 1 or (args.seconds is not None and args.seconds < 1):
        parser.error("--rounds and --seconds must be positive")
    return Plan(
        targets=tuple(target for target in TargetName if target in names),
        rounds=rounds,
        warm_up_s=0 if args.quick else 2,
        throughput_s=args.seconds or (1 if args.quick else 6),
        streaming_s=args.seconds or (1 if args.quick else 10),
        redis=not args.without_redis,
    )


class Run:
    """One benchmark: the backend and Redis stay up, each target is started for its turn and stopped again."""

    def __init__(self, plan: Plan, console: Console, scratch: Path) -> None:
        self._plan = plan
        self._console = console
        self._directory = scratch / "run"
        self._load_core, self._target_core = prerequisites.cores()
        tools = ["taskset", "wrk", "gcc"] + (["nginx"] if TargetName.NGINX in plan.targets else [])
        prerequisites.require_tools(tools)
        self._backend = prerequisites.compile_c("fixed_backend", scratch / "bin")
        self._drain = prerequisites.compile_c("drain", scratch / "bin")
        self._bin = {TargetName.WEIGHBRIDGE: Path(sys.executable).parent} | {
            target: prerequisites.install_router(target, scratch / f"venv-{target}")
            for target in prerequisites.ROUTER_VERSIONS
            if target in plan.targets
        }
        self._launchers = launchers(as_root=os.geteuid() == 0)

    def measure(self) -> table.Results:
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True)
        # This process and all that it starts without a core of its own stay off the measured core.
        os.sched_setaffinity(0, {self._load_core})
        throughput: list[Throughput] = []
        streaming: list[Streaming] = []
        with ExitStack() as stack:
            processes = stack.enter_context(Processes(self._directory))
            backend_port = free_port()
            events = load.EVENTS_PER_S * self._plan.streaming_s
            interval_ms = 1000 // load.EVENTS_PER_S
            argv = [str(self._backend), str(backend_port), str(events), str(interval_ms), str(load.STREAM_GROUPS)]
            backend = processes.start("backend", self._load_core, argv)
            bench = self._bench(backend.pid)
            probe = bench.bodies[Prompt.SMALL].read_bytes().splitlines()[0]
            processes.wait_until_answering("backend", backend, backend_port, probe, KEY, limit_s=5.0)
            redis_url = NO_REDIS_URL
            if self._plan.redis and TargetName.WEIGHBRIDGE in self._plan.targets:
                redis_url = stack.enter_context(self._start_redis()).url
            for turn in range(self._plan.rounds):
                for target in self._plan.targets:
                    self._console.print(f"round {turn + 1} of {self._plan.rounds}: {target}", highlight=False)
                    requests, stream = self._turn(bench, target, backend_port, redis_url, probe)
                    throughput += requests
                    streaming.append(stream)
        return table.Results(throughput=throughput, streaming=streaming)

    def _start_redis(self) -> EmbeddedRedis:
        """Off the measured core: what the gateway spends on talking to Redis counts, what Redis spends does not."""
        fits = len(os.fsencode(self._directory / "redis" / "redis.sock")) <= MAX_SOCKET_PATH_BYTES
        try:
            return EmbeddedRedis.start(self._directory if fits else None)
        except (EmbeddedRedisMissing, EmbeddedRedisFailed) as error:
            raise BenchmarkFailed(str(error)) from error

    def _bench(self, backend_pid: int) -> load.Bench:
        """Write the prompts. They are the same in every run."""
        rng = random.Random(20240801)
        bodies = {prompt: self._directory / f"{prompt.name.lower()}.jsonl" for prompt in Prompt}
        for prompt, path in bodies.items():
            path.write_text("".join(f"{chat_body(PROMPT_BYTES[prompt], rng)}\n" for _ in range(BODIES)))
        stream_body = self._directory / "stream.json"
        stream_body.write_text(chat_body(PROMPT_BYTES[Prompt.SMALL], rng, stream=True))
        return load.Bench(
            load_core=self._load_core,
            backend_pid=backend_pid,
            drain=self._drain,
            key=KEY,
            bodies=bodies,
            stream_body=stream_body,
        )

    def _turn(
        self, bench: load.Bench, target: TargetName, backend_port: int, redis_url: str, probe: bytes
    ) -> tuple[list[Throughput], Streaming]:
        with Processes(self._directory) as processes:
            port, pid = backend_port, None
            if target is not TargetName.DIRECT:
                directory = self._directory / target
                directory.mkdir(exist_ok=True)
                port = free_port()
                site = Site(
                    directory=directory,
                    port=port,
                    side_port=free_port(),
                    backend_port=backend_port,
                    redis_url=redis_url,
                    bin=self._bin,
                )
                process = processes.start(target, self._target_core, self._launchers[target](site))
                processes.wait_until_answering(target, process, port, probe, KEY, limit_s=START_LIMIT_S)
                pid = process.pid
            if self._plan.warm_up_s:
                load.measure_throughput(bench, target, pid, port, Prompt.SMALL, self._plan.warm_up_s)
            requests = [
                load.measure_throughput(bench, target, pid, port, prompt, self._plan.throughput_s) for prompt in Prompt
            ]
            return requests, load.measure_streaming(bench, target, pid, port, self._plan.streaming_s)


def report(results: table.Results, facts: dict[str, str], console: Console) -> None:
    console.print(table.render(results))
    console.print(
        f"{load.CONNECTIONS} connections, no answer of 400 or above; SSE: {load.STREAMS} streams x {load.EVENTS_PER_S} "
        "events/s, every event delivered; medians (ranges)",
        highlight=False,
    )
    console.print("; ".join(f"{name} {value}" for name, value in facts.items()), highlight=False)
    for line in (*table.notes(results), *table.verdicts(results)):
        console.print(f"* {line}", highlight=False)


def json_results(results: table.Results, facts: dict[str, str], plan: Plan) -> dict[str, Any]:
    return {
        "machine": facts,
        "plan": dataclasses.asdict(plan),
        "throughput": [
            dataclasses.asdict(run)
            | {
                "requests_per_s": run.requests_per_s,
                "us_per_request": run.us_per_request,
                "target_busy_ratio": run.target_busy_ratio,
                "load_busy_ratio": run.load_busy_ratio,
            }
            for run in results.throughput
        ],
        "streaming": [dataclasses.asdict(run) | {"us_per_event": run.us_per_event} for run in results.streaming],
        "verdicts": table.verdicts(results),
        "notes": table.notes(results),
    }


def main(argv: Sequence[str] | None = None) -> int:
    plan = plan_from_args(argv)
    console = Console()
    console = Console(width=max(console.width, TABLE_WIDTH))
    # SIGTERM unwinds like Ctrl-C, so that everything started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began_s = time.monotonic()
    try:
        run = Run(plan, console, SCRATCH)
        facts = machine.describe(plan.targets)
        results = run.measure()
    except BenchmarkFailed as error:
        console.print(f"benchmark failed: {error}", markup=False, highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    report(results, facts, console)
    path = SCRATCH / "results.json"
    path.write_text(json.dumps(json_results(results, facts, plan), indent=2) + "\n")
    console.print(f"{time.monotonic() - began_s:.0f} s; {path.relative_to(ROOT)}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
