"""Decisions that KEDA's answers rest on."""

from backlog.records import DecisionRecord
from tests.autoscaler.builders import POOL, START_S


def decided(desired: int, *, at_s: float = START_S) -> DecisionRecord:
    return DecisionRecord(
        pool=POOL,
        at_s=at_s,
        mode="advisory",
        desired=desired,
        recommended=desired,
        ready=0,
        pending=0,
        draining=0,
        headline="",
        steps=(),
        offered_load=None,
        backlog_gpu_s=None,
        cold_start_s=None,
    )
