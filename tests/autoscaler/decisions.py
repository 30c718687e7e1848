"""Decisions as they are published, for tests of what is told of them."""

from backlog.records import DecisionRecord, StepRecord
from tests.autoscaler.builders import POOL


def decision(present: int, desired: int, *, at_s: float = 1000.0, step: str = "law") -> DecisionRecord:
    return DecisionRecord(
        pool=POOL, at_s=at_s, mode="apply", desired=desired, recommended=desired, ready=present, pending=0,
        draining=0, headline="offered load 2.00", offered_load=2.0, backlog_gpu_s=0.0, cold_start_s=None,
        steps=(StepRecord(name=step, before=present, after=desired, reason="offered load 2.00"),),
    )  # fmt: skip
