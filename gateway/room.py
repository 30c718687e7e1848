"""The waiting room of one worker and pool: first come, first served, bounded, with a deadline for each request."""

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from estimator.price import Weight

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Seat(Generic[T]):
    """One waiting request. `taken` turns false when it leaves for whatever reason."""

    guest: T
    weight: Weight
    arrived_at_s: float
    deadline_at_s: float
    taken: bool = True


class WaitingRoom(Generic[T]):
    """Sums over the waiting requests are exact at all times: a request that leaves is subtracted at once."""

    __slots__ = ("_seats", "count", "gpu_s", "kv_tokens", "max_count", "prefill_s")

    def __init__(self, max_count: int) -> None:
        self._seats: deque[Seat[T]] = deque()
        self.max_count = max_count
        self.count = 0
        self.gpu_s = 0.0
        self.prefill_s = 0.0
        self.kv_tokens = 0

    @property
    def full(self) -> bool:
        return self.count >= self.max_count

    def enter(
        self, guest: T, weight: Weight, *, arrived_at_s: float, deadline_at_s: float, first: bool = False
    ) -> Seat[T]:
        """Take a seat at the end, or at the head for a request that had left already and comes back."""
        seat = Seat(guest, weight, arrived_at_s, deadline_at_s)
        if first:
            self._seats.appendleft(seat)
        else:
            self._seats.append(seat)
        self.count += 1
        self.gpu_s += weight.gpu_s
        self.prefill_s += weight.prefill_s
        self.kv_tokens += weight.kv_tokens
        return seat

    def leave(self, seat: Seat[T]) -> None:
        """Give up a seat; a second call changes nothing."""
        if not seat.taken:
            return
        seat.taken = False
        self._seats.remove(seat)
        self.count -= 1
        self.kv_tokens -= seat.weight.kv_tokens
        # An empty room holds exactly no work: float sums would drift over millions of requests.
        self.gpu_s = self.gpu_s - seat.weight.gpu_s if self.count else 0.0
        self.prefill_s = self.prefill_s - seat.weight.prefill_s if self.count else 0.0

    def head(self) -> Seat[T] | None:
        """Who is next; `None` when nobody waits."""
        return self._seats[0] if self._seats else None

    def oldest_at_s(self) -> float | None:
        """The arrival of the request that has waited longest, on the worker's clock."""
        return min((seat.arrived_at_s for seat in self._seats), default=None)

    def expired(self, now_s: float) -> list[Seat[T]]:
        """The seats whose deadline has passed; they are still taken."""
        return [seat for seat in self._seats if seat.deadline_at_s <= now_s]


def wait_estimate_s(
    *, ahead_gpu_s: float, gpus: int, ready: int, cold_start_s: float, oldest_wait_s: float | None
) -> float:
    """Seconds until a request that arrives now would be dispatched: the work ahead over the replicas that serve.

    With no replica the wait is for one to start: a cold start less what the oldest request has already waited, then the
    work ahead on that one replica.
    """
    work_s = ahead_gpu_s / gpus
    if ready > 0:
        return work_s / ready
    return max(cold_start_s - (oldest_wait_s or 0.0), 1.0) + work_s
