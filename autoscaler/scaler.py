"""What can change the number of replicas."""

from typing import Protocol

from autoscaler.observation import Fleet
from backlog.records import PoolView, ReplicaRecord


class ScalingFailed(Exception):
    """What a scaler asked for was refused or not answered. The next decision asks again.

    `reason` is one of few words, for a metric's label; `detail` is for a log line.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Scaler(Protocol):
    """Owns one pool's replicas. Its methods are called from one task, never concurrently.

    A view of `None` means that the backlog could not be read: replicas are kept, none is drained or stopped for load.
    In a follower only `fleet` and `cold_start_s` are asked for, so both must come from what the scaler watches by
    itself. `advance` and `apply` are for the leader, as they write.
    """

    @property
    def advisory(self) -> bool:
        """Whether `apply` changes nothing outside."""
        ...

    @property
    def withdraws(self) -> bool:
        """Whether the replicas end with this scaler. The loop publishes an empty list before it stops one that does."""
        ...

    @property
    def cold_start_s(self) -> float | None:
        """Measured time from starting a replica to its being ready. `None` until one was measured."""
        ...

    @property
    def known(self) -> bool:
        """Whether `fleet` says what there is. While it does not, nothing is decided: unknown is not zero."""
        ...

    def fleet(self) -> Fleet: ...

    def records(self) -> tuple[ReplicaRecord, ...] | None:
        """The list to publish for gateways; `None` where somebody else does."""
        ...

    async def advance(self, view: PoolView | None) -> None:
        """Move on what is under way (starts, crashes, drains). Called several times a second, so it never waits
        long. May raise `ScalingFailed`."""
        ...

    def plan(self, desired: int) -> str | None:
        """How `desired` replicas are placed where there is a choice; `None` where there is none."""
        ...

    async def apply(self, desired: int, view: PoolView | None) -> None:
        """Head for `desired` replicas. Called once per decision, also when nothing changed. May raise
        `ScalingFailed`."""
        ...

    async def stop(self) -> None:
        """Give back everything this scaler started. May be repeated."""
        ...
