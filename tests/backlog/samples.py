"""Records for tests: small ones by hand, any ones by Hypothesis."""

from hypothesis import strategies as st

from backlog.records import (
    DecisionRecord,
    PoolName,
    ReplicaName,
    ReplicaRecord,
    ReplicaShare,
    ReplicaState,
    StepRecord,
    TicketId,
    WorkerId,
    WorkerReport,
)
from backlog.ticket import Ticket

POOL = PoolName("chat")
ROOT = "{chat}"


def worker_report(worker: str = "w1", *, arrived: int = 0) -> WorkerReport:
    share = ReplicaShare(in_flight=2, prefill_s=0.25, prefill_tokens=900, kv_tokens=2400, remaining_gpu_s=1.5)
    return WorkerReport(
        worker=WorkerId(worker), started_at_s=100.0, arrived=arrived, running={ReplicaName("r0"): share}
    )


def ticket(name: str, *, owner: str = "w1", tenant: str = "a", gpu_s: float = 1.0) -> Ticket:
    return Ticket(
        id=TicketId(name),
        owner=WorkerId(owner),
        tenant=tenant,
        gpu_s=gpu_s,
        prefill_s=gpu_s / 2,
        prefill_tokens=100,
        kv_tokens=100,
    )


def replica(name: str = "r0", state: ReplicaState = ReplicaState.READY) -> ReplicaRecord:
    return ReplicaRecord(name=ReplicaName(name), url=f"http://127.0.0.1:8000/{name}", state=state, created_at_s=5.0)


def decision(at_s: float = 1.0, *, headline: str = "backlog") -> DecisionRecord:
    return DecisionRecord(
        pool=POOL,
        at_s=at_s,
        mode="apply",
        desired=3,
        recommended=4,
        ready=2,
        pending=1,
        draining=0,
        headline=headline,
        steps=(StepRecord(name="bounds", before=4, after=3, reason="bounds [0, 3]"),),
        offered_load=1.5,
        backlog_gpu_s=None,
        cold_start_s=40.0,
    )


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_count = st.integers(0, 2**53)
_number = st.floats(0.0, 1e12)

shares = st.builds(
    ReplicaShare,
    in_flight=_count,
    prefill_s=_number,
    prefill_tokens=_count,
    kv_tokens=_count,
    remaining_gpu_s=_number,
)
reports = st.builds(
    WorkerReport,
    worker=_text,
    started_at_s=_number,
    waiting=_count,
    waiting_gpu_s=_number,
    waiting_prefill_s=_number,
    waiting_kv_tokens=_count,
    oldest_waiting_at_s=st.none() | _number,
    arrived=_count,
    arrived_gpu_s=_number,
    settled=_count,
    ttft_misses=_count,
    tpot_misses=_count,
    running=st.dictionaries(_text, shares, max_size=3),
)
replicas = st.builds(
    ReplicaRecord,
    name=_text,
    url=_text,
    state=st.sampled_from(ReplicaState),
    created_at_s=_number,
    ready_at_s=st.none() | _number,
    gpu=st.none() | _text,
    ratio=st.floats(0.01, 100.0),
    drained=st.booleans(),
)
steps = st.builds(StepRecord, name=_text, before=_count, after=_count, reason=_text)
decisions = st.builds(
    DecisionRecord,
    pool=_text,
    at_s=_number,
    mode=st.sampled_from(["apply", "advisory"]),
    desired=_count,
    recommended=_count,
    ready=_count,
    pending=_count,
    draining=_count,
    headline=_text,
    steps=st.lists(steps, max_size=3).map(tuple),
    offered_load=st.none() | _number,
    backlog_gpu_s=st.none() | _number,
    cold_start_s=st.none() | _number,
)
