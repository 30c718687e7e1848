"""Put load on a target and read what it cost: `wrk` for requests, `drain` for event streams."""

import resource
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measurement import Prompt, Streaming, TargetName, Throughput
from benchmarks.processes import BenchmarkFailed, cpu_s, json_object, run_pinned

CONNECTIONS = 32
STREAMS = 400
EVENTS_PER_S = 50
STREAM_GROUPS = 8
"""Streams are written in this many groups, out of phase, as by that many replicas that step in turn."""
LATE_RATIO = 1.1
"""Streams that take this much longer than they should were held up by a core that was full."""
RESULT_MARK = "wrk-result "
WRK_SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True, slots=True, kw_only=True)
class WrkResult:
    requests: int
    wall_s: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where load comes from and where it goes."""

    load_core: int
    backend_pid: int
    drain: Path
    key: str
    bodies: dict[Prompt, Path]
    stream_body: Path


def wrk_result_from_output(output: str) -> WrkResult:
    """The line that `post.lua` prints. Any answer of 400 or above and any socket error fails the run."""
    line = next((line for line in output.splitlines() if line.startswith(RESULT_MARK)), None)
    if line is None:
        raise BenchmarkFailed(f"wrk printed no result: {output[-500:]!r}")
    fields = json_object(line.removeprefix(RESULT_MARK))
    if fields["not_ok"] or fields["socket_errors"]:
        raise BenchmarkFailed(
            f"of {fields['requests']} requests, {fields['not_ok']} were answered with an error status "
            f"and {fields['socket_errors']} failed on their socket"
        )
    if not fields["requests"]:
        raise BenchmarkFailed("no request was answered")
    return WrkResult(
        requests=fields["requests"],
        wall_s=fields["duration_us"] / 1e6,
        p50_ms=fields["p50_us"] / 1e3,
        p99_ms=fields["p99_us"] / 1e3,
    )


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_throughput(
    bench: Bench, target: TargetName, pid: int | None, port: int, prompt: Prompt, seconds: int
) -> Throughput:
    """Requests for `seconds`, each sent when the one before it on its connection is answered. `pid` None: direct."""
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    argv = [
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds}s",
        "--latency",
        "--timeout",
        "10s",
        "-s",
        str(WRK_SCRIPT),
        url,
    ]
    before_s = (cpu_s(pid) if pid else 0.0, cpu_s(bench.backend_pid) + _children_cpu_s())
    output = run_pinned(bench.load_core, [*argv, "--", str(bench.bodies[prompt]), bench.key], limit_s=seconds + 30)
    after_s = (cpu_s(pid) if pid else 0.0, cpu_s(bench.backend_pid) + _children_cpu_s())
    result = wrk_result_from_output(output)
    return Throughput(
        target=target,
        prompt=prompt,
        requests=result.requests,
        wall_s=result.wall_s,
        p50_ms=result.p50_ms,
        p99_ms=result.p99_ms,
        target_cpu_s=after_s[0] - before_s[0],
        load_cpu_s=after_s[1] - before_s[1],
    )


def measure_streaming(bench: Bench, target: TargetName, pid: int | None, port: int, seconds: int) -> Streaming:
    """`STREAMS` concurrent streams of `seconds` x `EVENTS_PER_S` events each. A lost event fails the run."""
    argv = [str(bench.drain), str(port), str(STREAMS), bench.key, str(bench.stream_body)]
    before_s = (cpu_s(pid) if pid else 0.0, cpu_s(bench.backend_pid))
    fields = json_object(run_pinned(bench.load_core, argv, limit_s=seconds * 5 + 30))
    after_s = (cpu_s(pid) if pid else 0.0, cpu_s(bench.backend_pid))
    expected = STREAMS * EVENTS_PER_S * seconds
    if fields["complete"] != STREAMS or fields["events"] != expected:
        raise BenchmarkFailed(f"{target}: expected {STREAMS} streams and {expected} events, got {fields}")
    return Streaming(
        target=target,
        events=fields["events"],
        expected_events=expected,
        ideal_s=float(seconds),
        wall_s=fields["wall_s"],
        target_cpu_s=after_s[0] - before_s[0],
        load_cpu_s=after_s[1] - before_s[1] + fields["cpu_s"],
    )
