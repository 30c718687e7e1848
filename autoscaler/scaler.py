"""What can change the number of replicas."""

from typing import Protocol

from autoscaler.observation import Fleet
from backlog.records import PoolView, ReplicaRecord


class Scaler(Protocol):
    """Owns one pool's replicas. Its methods are called from one task, never concurrently.

    A view of `None` means that the backlog could not be read: replicas are kept, none is drained or stopped for load.
    """

    @property
    def advisory(self) -> bool:
        """Whether `apply` changes nothing outside."""
        ...

    @property
    def cold_start_s(self) -> float | None:
        """Measured time from starting a replica to its being ready. `None` until one was measured."""
        ...

    def fleet(self) -> Fleet: ...

    def records(self) -> tuple[ReplicaRecord, ...] | None:
        """The list to publish for gateways; `None` where somebody else does."""
        ...

    async def advance(self, view: PoolView | None) -> None:
        """Move on what is under way (starts, crashes, drains). Called several times a second, so it never waits
        long."""
        ...

    async def apply(self, desired: int, view: PoolView | None) -> None:
        """Head for `desired` replicas. Called once per decision, also when nothing changed."""
        ...

    async def stop(self) -> None:
        """Give back everything this scaler started. May be repeated."""
        ...
