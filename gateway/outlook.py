"""How long requests of a pool will wait: what is known of the queue, of the replicas, and of how fast they drain it."""

from collections.abc import Mapping, Sequence

from backlog.order import Order
from backlog.records import PoolView, QueueView, ReplicaRecord
from gateway import wait
from gateway.settings import TenantSettings
from gateway.stats import PoolStats

NOTHING_WAITS = QueueView()


class Outlook:
    """`queue` is the shared queue as last seen, and empty while Redis is away."""

    def __init__(self, *, order: Order, gpus: int, weights: Mapping[str, float]) -> None:
        self.queue = NOTHING_WAITS
        self.read_at_s: float | None = None
        """Redis time of `queue`: the clock of the replicas' `created_at_s`."""
        self.starting: Sequence[ReplicaRecord] = ()
        self._order = order
        self._gpus = gpus
        self._weights = weights
        self._rate = wait.DrainRate()

    def hear(self, view: PoolView, starting: Sequence[ReplicaRecord]) -> None:
        """Take over what waits; `starting` are the replicas on their way."""
        self.queue, self.read_at_s, self.starting = view.queue, view.read_at_s, starting

    def estimate(
        self,
        tenant: TenantSettings | None,
        priority: int,
        *,
        until_room_gpu_s: float | None,
        unseen_gpu_s: float,
        ready: int,
        cold_start_s: float,
    ) -> wait.WaitEstimate | None:
        """For a request that arrives now, or without a tenant for one behind everybody; `None` without a replica.

        `until_room_gpu_s` is what the first replica does before it has room for the request, and `None` when no replica
        can be used; `unseen_gpu_s` waits as well and is in no view yet.
        """
        if tenant is None:
            ahead_gpu_s = self.queue.gpu_s
        else:
            ahead_gpu_s = wait.ahead_gpu_s(
                self.queue,
                order=self._order,
                tenant=tenant.name,
                tenant_weight=tenant.weight,
                weights=self._weights,
                priority=priority,
            )
        pending_s: list[float] = []
        if self.read_at_s is not None:
            pending_s = wait.pending_ready_in_s(self.starting, cold_start_s, self.read_at_s)
        return wait.estimate(
            ahead_gpu_s + unseen_gpu_s,
            until_room_gpu_s=until_room_gpu_s,
            gpus=self._gpus,
            ready=ready,
            pending_ready_in_s=pending_s,
            rate=self._rate.rate,
        )

    def learn(self, stats: PoolStats, told: wait.WaitEstimate | None, waited_s: float, *, dispatched: bool) -> None:
        """A request has left after a wait."""
        wait.record_wait(stats, self._rate, told, waited_s, dispatched=dispatched)
