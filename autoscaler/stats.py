"""What one pool's loop counts and last saw, for its metrics, health and status. Written by the loop, read by others."""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from autoscaler.decide import Decision
from autoscaler.observation import Observation
from backlog.records import DecisionRecord, PoolName

STEP_EDGES_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(slots=True, kw_only=True)
class PoolStats:
    """One pool in one autoscaler process, leader or follower."""

    pool: PoolName
    stepped_at_s: float | None = None
    """When a step last came to its end without an error, by the event loop's clock."""
    backlog_read: bool = False
    """The backlog was read at least once."""
    observation: Observation | None = None
    """What the last decision rests on."""
    record: DecisionRecord | None = None
    """The last decision."""
    changed: DecisionRecord | None = None
    """The last decision that this process carried out and that changed the number of replicas."""
    cold_start_s: float | None = None
    """Measured by the scaler. `None`: not yet."""
    decisions: Counter[str] = field(default_factory=Counter)
    """Decisions by their binding step, a follower's too."""
    failures: Counter[str] = field(default_factory=Counter)
    """Failures to carry a decision out, by reason."""
    step_counts: list[int] = field(default_factory=lambda: [0] * (len(STEP_EDGES_S) + 1))
    """Steps by duration: one count per edge of `STEP_EDGES_S`, and one for those above the last."""
    step_sum_s: float = 0.0

    def note_step(self, duration_s: float, at_s: float) -> None:
        self.step_counts[bisect_left(STEP_EDGES_S, duration_s)] += 1
        self.step_sum_s += duration_s
        self.stepped_at_s = at_s

    def note_decision(self, decision: Decision, record: DecisionRecord, observation: Observation) -> None:
        self.decisions[decision.binding.name] += 1
        self.record = record
        self.observation = observation
