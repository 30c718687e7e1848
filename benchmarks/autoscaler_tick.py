"""What one round of decisions costs the autoscaler, and what it costs to look in between.

`python -m benchmarks.autoscaler_tick [--pools 200] [--replicas 50] [--ticks 5]` makes as many pools as asked for in one
process, each with its replicas in Kubernetes as watches would have left them, and a Redis beside it in which one
gateway worker per pool reports work on every replica. Printed: CPU seconds of this process for one decision of every
pool (read, observe, decide, apply, publish), and for one look at every pool without a decision. Time on the wire and
in Redis is not in it.
"""

import argparse
import asyncio
import gc
import resource
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from autoscaler.calibrator import SloCalibrator
from autoscaler.kube.cluster import Cluster
from autoscaler.kube.pod import Pod
from autoscaler.kube.pod_index import Bucket
from autoscaler.kube.scaler import KubernetesScaler
from autoscaler.kube.target import DEPLOYMENT, Target, TargetState, Writes
from autoscaler.loop import Autoscaler
from autoscaler.settings import AutoscalerSettings
from autoscaler.stats import PoolStats
from backlog.embedded import EmbeddedRedis
from backlog.records import PoolName, ReplicaName, ReplicaShare, WorkerId, WorkerReport
from backlog.store import Backlog, connect
from benchmarks.processes import BenchmarkFailed
from weighbridge.logging import configure

GOAL_S = 0.25


class Unused:
    """Stands where the API would: nothing here changes the cluster, so nothing may be asked of it."""

    def __getattr__(self, name: str) -> object:
        raise BenchmarkFailed(f"a tick of an unchanged pool called {name} of the API")


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def a_pod(pool: str, number: int, at_s: float) -> Pod:
    return Pod(
        uid=f"{pool}-{number}",
        name=f"{pool}-{number}",
        namespace="default",
        ip=f"10.0.{number // 250}.{number % 250}",
        node=f"node-{number}",
        running=True,
        ready=True,
        created_at_s=at_s - 600,
        ready_at_s=at_s - 540,
        terminating=False,
        unschedulable=None,
        deletion_cost=0,
        draining_since_s=None,
        restarts=0,
    )


def a_report(pool: str, replicas: int, round_: int, at_s: float) -> WorkerReport:
    share = ReplicaShare(in_flight=4, prefill_s=0.1, prefill_tokens=900, kv_tokens=9000, remaining_gpu_s=3.0)
    return WorkerReport(
        worker=WorkerId(f"w-{pool}"),
        started_at_s=at_s - 900,
        arrived=1000 + round_,
        # Erlangs that want about the replicas that there are.
        arrived_gpu_s=round_ * 5.0 * replicas * 0.85,
        settled=900 + round_,
        running={ReplicaName(f"{pool}-{number}"): share for number in range(replicas)},
    )


def a_loop(name: str, replicas: int, backlog: Backlog, cluster: Cluster, at_s: float) -> Autoscaler:
    """A pool that watches have seen, and that nobody has to change."""
    target = Target(kind=DEPLOYMENT, namespace="default", name=name, port=8000, minimum=replicas, maximum=replicas)
    pool = PoolName(name)
    scaler = KubernetesScaler(
        (target,),
        cluster,
        pool=pool,
        writes=Writes.ALL,
        drain_deadline_s=120.0,
        tell=lambda *_: None,
    )
    pods = {pod.uid: pod for pod in (a_pod(name, number, at_s) for number in range(replicas))}
    (held,) = scaler.held
    held.seen = TargetState(uid=name, replicas=replicas)
    held.bucket = Bucket(selector={"app": name}, pods=pods)
    settings = AutoscalerSettings(
        pool=pool, min_replicas=replicas, max_replicas=replicas, kv_capacity_tokens=500_000, polling_s=5.0
    )
    return Autoscaler(
        settings,
        backlog,
        cluster.clock,
        scaler=scaler,
        calibrator=SloCalibrator(settings),
        leads=cluster.leads,
        stats=PoolStats(pool=pool),
    )


async def measure(pools: int, replicas: int, ticks: int, redis_url: str) -> tuple[list[float], list[float]]:
    """CPU seconds of each round of decisions, and of each round of looks."""
    now_s = [time.time()]
    cluster = Cluster(Unused(), clock=lambda: now_s[0], monotonic=time.monotonic, leads=lambda: True)  # type: ignore[arg-type]
    backlog = connect(redis_url, prefix="bench")
    names = [f"pool-{number}" for number in range(pools)]
    loops = [a_loop(name, replicas, backlog, cluster, now_s[0]) for name in names]
    decisions, looks = [], []
    try:
        for round_ in range(ticks + 1):
            for name in names:
                report = a_report(name, replicas, round_, now_s[0])
                await backlog.exchange(PoolName(name), report)
            gc.collect()
            before_s = cpu_s()
            for loop in loops:
                await loop.step()
            decided_s = cpu_s()
            for loop in loops:
                await loop.step()
            looked_s = cpu_s()
            # The first round also publishes for the first time.
            if round_:
                decisions.append(decided_s - before_s)
                looks.append(looked_s - decided_s)
            now_s[0] += 5.0
    finally:
        await backlog.close()
    return decisions, looks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pools", type=int, default=200)
    parser.add_argument("--replicas", type=int, default=50)
    parser.add_argument("--ticks", type=int, default=5)
    options = parser.parse_args()
    configure("benchmark")
    with TemporaryDirectory() as folder:
        redis = EmbeddedRedis.start(Path(folder))
        try:
            decisions, looks = asyncio.run(measure(options.pools, options.replicas, options.ticks, redis.url))
        finally:
            redis.stop()
    count = f"{options.pools} pools x {options.replicas} replicas"
    print(f"{count}: a round of decisions takes {median(decisions) * 1e3:.0f} ms CPU (goal {GOAL_S * 1e3:.0f})")
    print(f"{count}: a round of looks in between takes {median(looks) * 1e3:.0f} ms CPU")


if __name__ == "__main__":
    main()
