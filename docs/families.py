"""The metric families of both ports, from one worker and one pool's loop that have seen one of everything."""

from dataclasses import dataclass
from pathlib import Path

from prometheus_client.registry import Collector

from autoscaler.lead import Alone
from autoscaler.metrics import AutoscalerMetrics
from autoscaler.observation import Fleet, Known, Observation, Override, Unknown, Work
from autoscaler.stats import PoolStats
from backlog.records import DecisionRecord, PoolName, PoolView, StepRecord, WorkerId
from estimator.accelerator import ACCELERATORS
from estimator.models import MODELS
from gateway.auth import Keys
from gateway.context import Context
from gateway.limits import Limiter
from gateway.metrics import Snapshots
from gateway.outcome import Outcome
from gateway.overflow import Overflow
from gateway.pool import Pool
from gateway.settings import Limits, PoolSettings, StaticReplica
from gateway.snapshot import WorkerState, worker_state
from gateway.spill import SpillSettings, Why, WhyNot

POOL = PoolName("pool")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One family. `name` has no `_total`; `edges` are a histogram's bucket edges as text, else empty."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    edges: str


def families() -> list[Family]:
    """Every family that a gateway exports, in the order of export."""
    return _families(Snapshots([_worker()], [_view()]))


def autoscaler_families() -> list[Family]:
    """Every family that an autoscaler exports, in the order of export."""
    lead = Alone("host_1")
    lead.transitions = 1
    return _families(
        AutoscalerMetrics(
            [_loop()], lead=lead, calls={("get", "200"): 1}, watch_ages_s=lambda: {"pods of ml": 0.0}, now=lambda: 0.0
        )
    )


def _families(collector: Collector) -> list[Family]:
    found = []
    for metric in collector.collect():
        labels = dict.fromkeys(label for sample in metric.samples for label in sample.labels if label != "le")
        edges = [sample.labels["le"] for sample in metric.samples if "le" in sample.labels]
        found.append(
            Family(
                name=metric.name,
                kind=metric.type,
                help=metric.documentation,
                labels=tuple(labels),
                edges=", ".join(edge for edge in edges if edge != "+Inf"),
            )
        )
    return found


def _worker() -> WorkerState:
    """What a worker shows that has refused, served and billed one request each."""
    settings = PoolSettings(
        name=POOL, models=("model",), served_model="model", architecture=next(iter(MODELS.values())),
        accelerator=next(iter(ACCELERATORS.values())), kv_capacity_tokens=1,
        static_replicas=(StaticReplica(name="replica", url="http://replica"),),
    )  # fmt: skip
    spill = SpillSettings(model="hosted", money_per_day=1.0)
    pool = Pool(settings, worker=WorkerId("worker"), urgent=lambda: None)
    pool.stats.count("model", Outcome.SERVED.value)
    pool.stats.dispatches["idle"] = 1
    pool.stats.bill("tenant", "prefill", 1.0)
    context = Context(pools=[pool], keys=Keys([]), limits=Limits(), clock=lambda: 0.0, started_at_s=0.0)
    context.refused(Outcome.UNAUTHORIZED)
    overflow = Overflow(spill, pool, socket=Path("socket"), limiter=Limiter([]), workers=1, connect_s=1.0)
    overflow.spilled, overflow.stayed = {Why.STARTING: 1}, {WhyNot.CAP: 1}
    context.overflows = {POOL: overflow}
    return worker_state(context, worker="worker", number=0, backlog_age_s=0.0, backlog_error=None)


def _view() -> PoolView:
    """A pool with a decision in which everything is known."""
    step = StepRecord(name="law", before=1, after=1, reason="")
    decision = DecisionRecord(
        pool=POOL, at_s=0.0, mode="apply", desired=1, recommended=1, ready=1, pending=0, draining=0, headline="",
        steps=(step,), offered_load=0.0, backlog_gpu_s=0.0, cold_start_s=None,
    )  # fmt: skip
    return PoolView(pool=POOL, read_at_s=0.0, reports=(), replicas=(), decision=decision)


def _loop() -> PoolStats:
    """What a loop shows that has decided once, with everything known, and was refused once."""
    work = Work(waiting=0, waiting_gpu_s=0.0, backlog_s=0.0, in_flight=0, kv_tokens=0, partial=False)
    override = Override(by="kubectl", replicas=1, at_s=0.0)
    stats = PoolStats(pool=POOL, cold_start_s=1.0, record=_view().decision)
    stats.observation = Observation(
        work=Known(value=work, age_s=0.0), offered_load=Known(value=0.0, age_s=0.0),
        misses=Unknown(cause="", age_s=0.0), last_arrival_at_s=None,
        fleet=Fleet(desired=1, ready=1, pending=0, draining=0, override=override),
    )  # fmt: skip
    stats.decisions["law"] += 1
    stats.failures["unavailable"] += 1
    stats.note_step(0.001, 0.0)
    return stats
