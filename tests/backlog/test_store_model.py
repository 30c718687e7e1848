"""Any order of exchange, leave, death and expiry: Redis agrees with a dictionary."""

import asyncio
from itertools import count
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from redis.asyncio import Redis

from backlog import keys
from backlog.records import DecisionRecord, PoolName, PoolView, ReplicaRecord, WorkerId, WorkerReport
from backlog.store import Backlog, connect
from tests.backlog import samples

HEARTBEAT_S = 30.0
"""Long enough that nothing expires by itself: the machine decides who does."""
POOLS = st.sampled_from([PoolName("a"), PoolName("b")])
WORKERS = st.sampled_from([WorkerId("w1"), WorkerId("w2"), WorkerId("w3")])


class BacklogMachine(RuleBasedStateMachine):
    """`live`, `replicas`, `decided` are the model. One prefix per run keeps runs apart."""

    def __init__(self, url: str, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix
        self.runner = asyncio.Runner()
        self.redis = Redis.from_url(url)
        self.backlog: Backlog = connect(url, prefix=prefix, heartbeat_s=HEARTBEAT_S, timeout_s=20.0)
        self.live: dict[PoolName, dict[WorkerId, WorkerReport]] = {PoolName("a"): {}, PoolName("b"): {}}
        self.replicas: dict[PoolName, tuple[ReplicaRecord, ...]] = {}
        self.decided: dict[PoolName, list[DecisionRecord]] = {PoolName("a"): [], PoolName("b"): []}

    def run(self, call: Any) -> Any:
        return self.runner.run(call)

    def agrees(self, view: PoolView) -> None:
        assert {seen.report.worker: seen.report for seen in view.reports} == self.live[view.pool]
        assert all(0.0 <= seen.age_s <= HEARTBEAT_S for seen in view.reports)
        assert view.replicas == self.replicas.get(view.pool)
        assert view.decision == next(iter(self.decided[view.pool]), None)

    @rule(pool=POOLS, worker=WORKERS, arrived=st.integers(0, 9))
    def exchange(self, pool: PoolName, worker: WorkerId, arrived: int) -> None:
        report = samples.worker_report(worker, arrived=arrived)
        self.live[pool][worker] = report
        self.agrees(self.run(self.backlog.exchange(pool, report)))

    @rule(pool=POOLS, worker=WORKERS)
    def leave(self, pool: PoolName, worker: WorkerId) -> None:
        self.live[pool].pop(worker, None)
        self.run(self.backlog.leave(pool, worker))

    @rule(pool=POOLS, worker=WORKERS)
    def report_expires(self, pool: PoolName, worker: WorkerId) -> None:
        """The report's TTL ran out; its entry among the workers is still there."""
        self.live[pool].pop(worker, None)
        self.run(self.redis.pexpire(keys.worker_key(self.prefix, pool, worker), 0))

    @rule(pool=POOLS, worker=WORKERS, late_s=st.sampled_from([-10, -2, 2, 10]))
    def clock_jumps_past_the_heartbeat(self, pool: PoolName, worker: WorkerId, late_s: int) -> None:
        """The report is still there; its entry is from before the limit, or from a future that was taken back."""
        self.live[pool].pop(worker, None)
        seconds, micros = self.run(self.redis.time())
        score = seconds * 1_000_000 + micros + late_s * HEARTBEAT_S * 1e6
        self.run(self.redis.zadd(keys.workers_key(self.prefix, pool), {worker: score}, xx=True))

    @rule(pool=POOLS)
    def all_workers_expire(self, pool: PoolName) -> None:
        self.live[pool].clear()
        self.run(self.redis.pexpire(keys.workers_key(self.prefix, pool), 0))

    @rule(pool=POOLS, names=st.lists(st.sampled_from(["r0", "r1", "r2"]), unique=True))
    def publish_replicas(self, pool: PoolName, names: list[str]) -> None:
        self.replicas[pool] = tuple(samples.replica(name) for name in names)
        self.run(self.backlog.publish_replicas(pool, self.replicas[pool]))

    @rule(pool=POOLS)
    def replicas_expire(self, pool: PoolName) -> None:
        self.replicas.pop(pool, None)
        self.run(self.redis.pexpire(keys.replicas_key(self.prefix, pool), 0))

    @rule(pool=POOLS, at_s=st.integers(1, 3), keep=st.integers(1, 3))
    def publish_decision(self, pool: PoolName, at_s: int, keep: int) -> None:
        decision = samples.decision(float(at_s))
        history = self.decided[pool]
        if not history or history[0] != decision:
            history.insert(0, decision)
        del history[keep:]
        self.run(self.backlog.publish_decision(pool, decision, keep=keep))

    @rule()
    def redis_forgets_scripts(self) -> None:
        self.run(self.redis.script_flush())

    @invariant()
    def every_reader_sees_the_model(self) -> None:
        for pool in self.live:
            self.agrees(self.run(self.backlog.view(pool)))
            assert self.run(self.backlog.decisions(pool)) == self.decided[pool]

    @invariant()
    def every_key_has_an_end(self) -> None:
        for key in self.run(self.redis.keys(f"{self.prefix}:*")):
            assert self.run(self.redis.pttl(key)) != -1, key

    def teardown(self) -> None:
        self.run(self.backlog.close())
        self.run(self.redis.aclose())
        self.runner.close()


def test_the_backlog_agrees_with_a_model_under_any_order_of_events(redis_url: str, redis_prefix: str) -> None:
    runs = count()
    run_state_machine_as_test(
        lambda: BacklogMachine(redis_url, f"{redis_prefix}-{next(runs)}"),
        settings=settings(
            max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
