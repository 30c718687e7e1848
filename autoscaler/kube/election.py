"""Leader election over a `coordination.k8s.io/v1` Lease: does what a `Contender` asks for."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from autoscaler.kube.api import KubeApi
from autoscaler.kube.contender import Answer, Contender, Found, Put, Read, Refused, Silence, Sleep, Written
from autoscaler.kube.errors import Conflict, KubeError, NotFound
from autoscaler.kube.lease import LeaderLease, LeaseTerms, Write
from autoscaler.kube.names import Json

_log = structlog.get_logger("autoscaler")


class Election:
    """One process's part. `leads` is cheap and holds for the instant of its call: ask it right before each write.

    `clock` is one that never jumps and also counts while the machine sleeps; `wall` gives the times that are written
    for humans to read. `api` should be this election's own, so that a renewal waits behind no other request.
    """

    def __init__(
        self,
        api: KubeApi,
        terms: LeaseTerms,
        *,
        namespace: str,
        name: str,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.gains = 0
        """How often this process has begun to lead."""
        self.losses = 0
        """How often it has ended other than by its own stop."""
        self._api = api
        self._terms = terms
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._folder}/{name}"
        self._namespace = namespace
        self._name = name
        self._clock = clock
        self._wall = wall
        self._contender = Contender(terms, clock())
        self._object: Json = {}
        self._led = False
        self._silent = False

    @property
    def identity(self) -> str:
        return self._terms.identity

    @property
    def holder(self) -> str | None:
        """Who holds the lease, as last seen. `None`: nobody, or not read yet."""
        lease = self._contender.standing.lease
        return lease.holder or None if lease is not None else None

    @property
    def transitions(self) -> int | None:
        """How often the lease has changed hands, as last seen. `None`: not read yet."""
        lease = self._contender.standing.lease
        return None if lease is None else lease.transitions

    def leads(self) -> bool:
        """Whether this process may write now."""
        return self._contender.leads(self._clock())

    async def run(self, stop_event: asyncio.Event) -> None:
        """Contend until `stop_event`, then give the lease back. Set it after the last write of whatever asks `leads`.

        Cancelled, it stops leading and leaves the lease to run out.
        """
        try:
            while not stop_event.is_set():
                pause_s = await self._look()
                self._tell()
                try:
                    async with asyncio.timeout(pause_s):
                        await stop_event.wait()
                except TimeoutError:
                    # What the sleep was for; a leader that overslept knows by its clock.
                    continue
        except asyncio.CancelledError:
            self._contender.retire()
            raise
        led, self._led = self.leads(), False
        self._contender.retire()
        await self._look()
        if led:
            _log.info("lead given back", lease=self._name, identity=self.identity)

    async def _look(self) -> float:
        """Ask and hear until the contender wants to sleep; for how long."""
        while True:
            asked = self._contender.ask(self._clock())
            if isinstance(asked, Sleep):
                return asked.seconds
            answer = await self._do(asked)
            self._contender.hear(answer, self._clock())
            self._tell()

    async def _do(self, asked: Read | Put) -> Answer:
        try:
            async with asyncio.timeout(asked.limit_s):
                answer = await (self._read() if isinstance(asked, Read) else self._put(asked.write))
        except TimeoutError:
            return self._silence(f"no answer within {asked.limit_s:.1f} s")
        except KubeError as error:
            return self._silence(str(error))
        except ValueError as error:
            return self._silence(f"the lease cannot be understood: {error}")
        if self._silent:
            self._silent = False
            _log.info("leader lease available again", lease=self._name)
        return answer

    async def _read(self) -> Answer:
        try:
            found = await self._api.get(self._path)
        except NotFound:
            return Found(lease=None)
        lease = lease_from_object(found)
        self._object = found
        return Found(lease=lease)

    async def _put(self, write: Write) -> Answer:
        body = self._body(write)
        try:
            if write.version is None:
                done = await self._api.create(self._folder, body)
            else:
                done = await self._api.replace(self._path, body)
        except (Conflict, NotFound):
            return Refused()
        lease = lease_from_object(done)
        self._object = done
        return Written(lease=lease)

    def _body(self, write: Write) -> Json:
        metadata: Json = {"name": self._name, "namespace": self._namespace}
        old: Json = {}
        if write.version is not None:
            metadata = {**self._object["metadata"], "resourceVersion": write.version}
            old = self._object["spec"]
        now = datetime.fromtimestamp(self._wall(), UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec = {
            **old,
            "holderIdentity": write.holder,
            "leaseDurationSeconds": max(1, round(write.duration_s)),
            "renewTime": now,
            "leaseTransitions": write.transitions,
        }
        if write.taken:
            spec["acquireTime"] = now
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}

    def _silence(self, cause: str) -> Answer:
        if not self._silent:
            self._silent = True
            _log.warning("leader lease unavailable", lease=self._name, leads=self.leads(), cause=cause)
        return Silence()

    def _tell(self) -> None:
        """Report a lead that came or went since the last look."""
        leads = self.leads()
        if leads and not self._led:
            self.gains += 1
            _log.info("leading", lease=self._name, identity=self.identity)
        elif self._led and not leads:
            self.losses += 1
            _log.warning("lead lost", lease=self._name, identity=self.identity, holder=self.holder)
        self._led = leads


def lease_from_object(found: Json) -> LeaderLease:
    """A Lease of the API. Raises ValueError for what is none."""
    spec = found.get("spec") or {}
    try:
        return LeaderLease(
            holder=str(spec.get("holderIdentity") or ""),
            renewed=str(spec.get("renewTime") or ""),
            transitions=int(spec.get("leaseTransitions") or 0),
            duration_s=float(spec.get("leaseDurationSeconds") or 0.0),
            version=str(found["metadata"]["resourceVersion"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__} {error}") from None
