"""A scaler that changes nothing: for pools whose replicas somebody else runs, and for trying the law out."""

from autoscaler.observation import Fleet
from backlog.records import PoolView, ReplicaRecord


class AdvisoryScaler:
    """Remembers what was advised, so that successive decisions build on each other as if they had been followed.

    `replicas` is how many really run, and all of them count as ready.
    """

    advisory = True
    withdraws = False
    known = True
    cold_start_s: float | None = None

    def __init__(self, *, replicas: int) -> None:
        self._replicas = replicas
        self._advised = replicas

    def fleet(self) -> Fleet:
        return Fleet(desired=self._advised, ready=self._replicas, pending=0, draining=0)

    def records(self) -> tuple[ReplicaRecord, ...] | None:
        return None

    async def advance(self, view: PoolView | None) -> None:
        """Nothing is ever under way."""

    def plan(self, desired: int) -> str | None:
        return None

    async def apply(self, desired: int, view: PoolView | None) -> None:
        self._advised = desired

    async def stop(self) -> None:
        """Nothing was started."""
