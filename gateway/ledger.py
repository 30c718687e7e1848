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
NOTHING_OWN = Load(name="")


@dataclass(slots=True, eq=False)
class Flight:
    """One request on one replica, from dispatch to settlement."""

    weight: Weight
    expected_first_token_at_s: float
    prefill_open: bool = True
    open: bool = True


class ReplicaLedger:
    """The flights of one replica. `load` is the sum over all workers, `own` this worker's part of it."""

    __slots__ = ("_gpus", "_remote", "_silent", "load")

    def __init__(self, name: str, *, gpus: int) -> None:
        self.load = Load(name=name)
        self._gpus = gpus
        self._remote = NOTHING
        self._silent: deque[Flight] = deque()

    @property
    def own(self) -> Load:
        """This worker's part: the sum less what the others have."""
        load, remote = self.load, self._remote
        own = Load(name=load.name, in_flight=load.in_flight - remote.in_flight)
        if own.in_flight > 0:
            own.prefill_s = max(load.prefill_s - remote.prefill_s, 0.0)
            own.prefill_tokens = load.prefill_tokens - remote.prefill_tokens
            own.kv_tokens = load.kv_tokens - remote.kv_tokens
            own.remaining_gpu_s = max(load.remaining_gpu_s - remote.remaining_gpu_s, 0.0)
        return own

    def start(self, weight: Weight, *, now_s: float, ahead_s: float, silent: bool) -> Flight:
        """A request is sent. `silent` ones show no first token: it is assumed after `ahead_s` and own prefill."""
        load = self.load
        prefill_s = weight.prefill_s
        if load.prefill_s <= 0.0:
            load.progressed_at_s = now_s
        load.in_flight += 1
        load.prefill_s += prefill_s
        load.prefill_tokens += weight.input_tokens - weight.cached_tokens
        load.kv_tokens += weight.kv_tokens
        load.remaining_gpu_s += weight.gpu_s
        flight = Flight(weight, now_s + ahead_s + prefill_s)
        if silent:
            self._silent.append(flight)
        return flight

    def first_token(self, flight: Flight, now_s: float) -> None:
        """Its prefill is done; a second call changes nothing."""
        if not flight.prefill_open:
            return
        flight.prefill_open = False
        weight, load = flight.weight, self.load
        load.prefill_s -= weight.prefill_s
        load.prefill_tokens -= weight.input_tokens - weight.cached_tokens
        load.remaining_gpu_s -= weight.prefill_s * self._gpus
        load.progressed_at_s = now_s

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
        weight, load = flight.weight, self.load
        load.in_flight -= 1
        load.kv_tokens -= weight.kv_tokens
        load.remaining_gpu_s -= weight.gpu_s - weight.prefill_s * self._gpus
        if load.in_flight == self._remote.in_flight:
            # Exactly the others' work: float sums would drift over millions of requests.
            self._silent.clear()
            self._take(self._remote, NOTHING_OWN)

    def hear(self, remote: ReplicaShare, now_s: float) -> None:
        """Replace what the other workers have in flight here."""
        if remote == self._remote:
            return
        own, load = self.own, self.load
        self._remote = remote
        if remote.prefill_s + own.prefill_s < load.prefill_s or load.prefill_s <= 0.0:
            load.progressed_at_s = now_s
        self._take(remote, own)

    def expect(self, more: ReplicaShare, now_s: float) -> None:
        """Another worker was given a lease: its work is on the way, and in no report yet."""
        self.hear(add_shares(self._remote, more), now_s)

    def _take(self, remote: ReplicaShare, own: Load) -> None:
        load = self.load
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
            prefill_s=own.prefill_s,
            prefill_tokens=own.prefill_tokens,
            kv_tokens=own.kv_tokens,
            remaining_gpu_s=own.remaining_gpu_s,
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
