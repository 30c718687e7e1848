"""The work in flight per replica: what this worker sent, and what the other workers say they sent.

The gateway counts for itself because a model server's gauges lag by seconds. Prefill is released at the first token;
the rest when the request settles.
"""

from collections import deque
from dataclasses import dataclass

from backlog.records import ReplicaShare
from estimator.price import Weight
from gateway.pick import Load

NOTHING = ReplicaShare(in_flight=0, prefill_s=0.0, prefill_tokens=0, kv_tokens=0, remaining_gpu_s=0.0)


@dataclass(slots=True, eq=False)
class Flight:
    """One request on one replica, from dispatch to settlement."""

    weight: Weight
    expected_first_token_at_s: float
    prefill_open: bool = True
    open: bool = True


class ReplicaLedger:
    """The flights of one replica. `load` is the sum over all workers, `own` is this worker's part."""

    __slots__ = ("_gpus", "_remote", "_silent", "load", "own")

    def __init__(self, name: str, *, gpus: int) -> None:
        self.load = Load(name=name)
        self.own = Load(name=name)
        self._gpus = gpus
        self._remote = NOTHING
        self._silent: deque[Flight] = deque()

    def start(self, weight: Weight, *, now_s: float, ahead_s: float, silent: bool) -> Flight:
        """A request is sent. `silent` ones show no first token: it is assumed after `ahead_s` and own prefill."""
        if self.load.prefill_s <= 0.0:
            self.load.progressed_at_s = now_s
        uncached = weight.input_tokens - weight.cached_tokens
        for load in (self.load, self.own):
            load.in_flight += 1
            load.prefill_s += weight.prefill_s
            load.prefill_tokens += uncached
            load.kv_tokens += weight.kv_tokens
            load.remaining_gpu_s += weight.gpu_s
        flight = Flight(weight, now_s + ahead_s + weight.prefill_s)
        if silent:
            self._silent.append(flight)
        return flight

    def first_token(self, flight: Flight, now_s: float) -> None:
        """Its prefill is done; a second call changes nothing."""
        if not flight.prefill_open:
            return
        flight.prefill_open = False
        weight = flight.weight
        uncached = weight.input_tokens - weight.cached_tokens
        prefill_gpu_s = weight.prefill_s * self._gpus
        for load in (self.load, self.own):
            load.prefill_s -= weight.prefill_s
            load.prefill_tokens -= uncached
            load.remaining_gpu_s -= prefill_gpu_s
        self.load.progressed_at_s = now_s

    def release_silent(self, now_s: float) -> bool:
        """Release the prefill of silent flights that are due, in order of sending; whether any was."""
        released = False
        while self._silent and (not self._silent[0].prefill_open or self._silent[0].expected_first_token_at_s <= now_s):
            flight = self._silent.popleft()
            if flight.prefill_open:
                self.first_token(flight, now_s)
                released = True
        return released

    def settle(self, flight: Flight, now_s: float) -> None:
        """The request has left the replica; a second call changes nothing."""
        if not flight.open:
            return
        self.first_token(flight, now_s)
        flight.open = False
        weight = flight.weight
        for load in (self.load, self.own):
            load.in_flight -= 1
            load.kv_tokens -= weight.kv_tokens
            load.remaining_gpu_s -= weight.gpu_s - weight.prefill_s * self._gpus
            if load.in_flight == 0:
                # Exactly nothing: float sums would drift over millions of requests.
                load.prefill_s = load.remaining_gpu_s = 0.0
                load.prefill_tokens = load.kv_tokens = 0
        if self.load.in_flight == 0:
            self._silent.clear()

    def hear(self, remote: ReplicaShare, now_s: float) -> None:
        """Replace what the other workers have in flight here."""
        if remote == self._remote:
            return
        self._remote = remote
        own, load = self.own, self.load
        if remote.prefill_s + own.prefill_s < load.prefill_s or load.prefill_s <= 0.0:
            load.progressed_at_s = now_s
        load.in_flight = own.in_flight + remote.in_flight
        load.prefill_s = own.prefill_s + remote.prefill_s
        load.prefill_tokens = own.prefill_tokens + remote.prefill_tokens
        load.kv_tokens = own.kv_tokens + remote.kv_tokens
        load.remaining_gpu_s = own.remaining_gpu_s + remote.remaining_gpu_s

    def share(self) -> ReplicaShare:
        """This worker's part, to be published."""
        own = self.own
        return ReplicaShare(
            in_flight=own.in_flight,
            prefill_s=max(own.prefill_s, 0.0),
            prefill_tokens=own.prefill_tokens,
            kv_tokens=own.kv_tokens,
            remaining_gpu_s=max(own.remaining_gpu_s, 0.0),
        )


def add_shares(left: ReplicaShare, right: ReplicaShare) -> ReplicaShare:
    """The sum of two workers' parts."""
    return ReplicaShare(
        in_flight=left.in_flight + right.in_flight,
        prefill_s=left.prefill_s + right.prefill_s,
        prefill_tokens=left.prefill_tokens + right.prefill_tokens,
        kv_tokens=left.kv_tokens + right.kv_tokens,
        remaining_gpu_s=left.remaining_gpu_s + right.remaining_gpu_s,
    )
