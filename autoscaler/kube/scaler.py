"""A pool whose replicas are pods: what is intended becomes annotations on pods and a number in `/scale`."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import structlog

from autoscaler.kube import mix
from autoscaler.kube.cluster import Cluster
from autoscaler.kube.errors import Conflict, Denied, KubeError, NotFound, Unavailable
from autoscaler.kube.held import Held
from autoscaler.kube.intent import head_for, marks, replicas_now
from autoscaler.kube.listing import Listing, RatioOf
from autoscaler.kube.pod import Pod, draining_patch
from autoscaler.kube.target import Target, Writes
from autoscaler.kube.victims import surplus_pods
from autoscaler.observation import Fleet, Override
from autoscaler.scaler import ScalingFailed
from autoscaler.work_left import work_left
from backlog.records import PoolName, PoolView, ReplicaRecord

KEPT_COLD_STARTS = 5
MOST_CONFLICTS = 3
WRITE_LIMIT_S = 5.0
FIRST_RETRY_S = 1.0
LAST_RETRY_S = 30.0
_log = structlog.get_logger("autoscaler")

Tell = Callable[[Target, str, str], None]
"""An Event on a target: its reason and its message."""


class KubernetesScaler:
    """Scales the targets of one pool, and lists their pods for gateways.

    Nothing here waits for a cluster: what was seen is held by watches, and a write that fails is tried again.
    """

    withdraws = False

    def __init__(
        self,
        targets: Sequence[Target],
        cluster: Cluster,
        *,
        pool: PoolName,
        writes: Writes,
        drain_deadline_s: float,
        tell: Tell,
        ratio_of: RatioOf = lambda _gpu: None,
    ) -> None:
        """To be built before `cluster.run`. `ratio_of` is used where nodes tell their GPUs."""
        self._pool = pool
        self._cluster = cluster
        self._writes = writes
        self._drain_deadline_s = drain_deadline_s
        self._tell = tell
        self._listing = Listing(cluster.nodes, ratio_of)
        self.held = tuple(cluster.hold(target) for target in targets)
        self._led = False
        self._advised: int | None = None
        self._failure: ScalingFailed | None = None
        self._failures = 0
        self._retry_at_s = 0.0
        self._cold_starts_s: deque[float] = deque(maxlen=KEPT_COLD_STARTS)
        self._timed: set[str] | None = None
        """Pods that were ready at the first look, or have been timed since."""
        self._told_of: set[tuple[str, str]] = set()

    @property
    def advisory(self) -> bool:
        return self._writes is not Writes.ALL

    @property
    def known(self) -> bool:
        """Whether every target and its pods have been read."""
        return all(held.known for held in self.held)

    @property
    def cold_start_s(self) -> float | None:
        return median(self._cold_starts_s) if self._cold_starts_s else None

    def fleet(self) -> Fleet:
        """In reference replicas. While something has not been read the fleet is paused, with the cause."""
        if not self.known:
            causes = [held.missing or f"{held.target.label} has not been read" for held in self.held if not held.known]
            return Fleet(desired=0, ready=0, pending=0, draining=0, paused=causes[0])
        if not self._cluster.leads() or any(held.outdated for held in self.held):
            self._look(None)
        told = [(held, held.intent) for held in self.held if held.intent is not None]
        shares = [held.share(intent.told) for held, intent in told]
        desired = mix.units(shares)
        ready = mix.units(held.share(len(_serving(held))) for held in self.held)
        if self._writes is Writes.NOTHING:
            desired = desired if self._advised is None else self._advised
        return Fleet(
            desired=desired,
            ready=ready,
            pending=max(0, desired - ready),
            draining=sum(intent.draining for _, intent in told),
            unschedulable=sum(pod.unschedulable is not None for held in self.held for pod in _staying(held)),
            room_elsewhere=any(share.replicas < share.maximum and not share.blocked for share in shares),
            paused=self._paused(),
            override=self._override(desired),
        )

    def records(self) -> tuple[ReplicaRecord, ...] | None:
        if not self.known:
            return None
        return self._listing.records(self.held)

    def plan(self, desired: int) -> str | None:
        if len(self.held) == 1 or not self.known:
            return None
        return mix.describe(mix.place(self._shares(), desired))

    async def advance(self, view: PoolView | None) -> None:
        if not self.known:
            return
        self._look(view)
        if self._writes is Writes.NOTHING:
            return
        self._report()
        if self._cluster.clock() >= self._retry_at_s:
            await self._write(_busy(view))

    async def apply(self, desired: int, view: PoolView | None) -> None:
        """Raises `ScalingFailed` while the cluster refuses, or does not answer."""
        if self._writes is Writes.NOTHING:
            self._advised = desired
            return
        if not self.known or self._paused() is not None:
            return
        now_s = self._cluster.clock()
        self._look(view)
        work = {} if view is None else work_left(view)
        for held, share in zip(self.held, mix.place(self._shares(), desired), strict=True):
            self._head(held, share.replicas, view, work, now_s)
        await self._write(_busy(view))
        if self._failure is not None:
            raise self._failure

    async def stop(self) -> None:
        """Pods stay as they are: they are the cluster's."""

    def _look(self, view: PoolView | None) -> None:
        leads = self._cluster.leads()
        changed_lead, self._led = leads is not self._led, leads
        now_s = self._cluster.clock()
        changed = False
        for held in self.held:
            if changed_lead:
                held.intent = None
            if not held.quiet:
                changed = True
                held.look(view, leads=leads, deadline_s=self._drain_deadline_s, now_s=now_s)
        if changed:
            self._time_cold_starts()

    def _head(
        self,
        held: Held,
        wanted: int,
        view: PoolView | None,
        work: Mapping[str, tuple[float, int]],
        now_s: float,
    ) -> None:
        before = held.intent
        if before is None:
            return
        if held.rolling and wanted <= before.told:
            # Up is possible. What is drained already waits for the rollout.
            return
        by_ordinal = held.target.kind.by_ordinal
        first = held.state.first_ordinal
        after = head_for(before, wanted, held.pods, view, work, by_ordinal=by_ordinal, now_s=now_s, first_ordinal=first)
        held.intent = after
        names = {uid: pod.name for uid, pod in held.pods.items()}
        for uid in after.exits.keys() - before.exits.keys():
            gpu_s, in_flight = work.get(names[uid], (0.0, 0))
            _log.info(
                "replica draining",
                pool=self._pool,
                replica=names[uid],
                remaining_gpu_s=round(gpu_s, 3),
                in_flight=in_flight,
            )
        for uid in before.exits.keys() - after.exits.keys():
            _log.info("replica revived", pool=self._pool, replica=names.get(uid, uid))

    async def _write(self, busy: frozenset[str] | None) -> None:
        """Bring annotations and numbers to what is intended. A failure is kept, for `apply` to raise.

        More replicas wait for no annotation: a pod that cannot be marked keeps none from starting.
        """
        try:
            async with asyncio.timeout(WRITE_LIMIT_S):
                if self._writes is Writes.ALL:
                    for held in self.held:
                        if self._paused() is None and held.intent is not None:
                            await self._scale(held, busy, up=True)
                for held in self.held:
                    if self._paused() is None:
                        await self._mark(held)
                        if self._writes is Writes.ALL:
                            await self._scale(held, busy, up=False)
        except (KubeError, TimeoutError) as error:
            self._failure = ScalingFailed(_reason(error), str(error) or "no answer in time")
            self._retry_at_s = self._cluster.clock() + min(LAST_RETRY_S, FIRST_RETRY_S * 2**self._failures)
            self._failures = min(self._failures + 1, 16)
        else:
            self._failure, self._failures, self._retry_at_s = None, 0, 0.0

    async def _mark(self, held: Held) -> None:
        if held.intent is None:
            return
        for mark in marks(held.intent, held.pods):
            if not self._cluster.leads():
                return
            pod = mark.pod
            path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
            try:
                await self._cluster.api.patch(path, draining_patch(mark.since_s, mark.cost))
            except NotFound:
                continue  # It has gone; the watch will say so.
            held.marked(mark, self._cluster.clock())

    async def _scale(self, held: Held, busy: frozenset[str] | None, *, up: bool) -> None:
        """Write `replicas` where it should be more (`up`) or less, on what was read right before."""
        by_ordinal = held.target.kind.by_ordinal
        for attempt in range(MOST_CONFLICTS):
            intent = held.intent
            if intent is None or not held.known:
                return
            state, pods = held.state, held.pods
            replicas = replicas_now(intent, state, pods, by_ordinal=by_ordinal, busy=busy)
            if replicas == state.replicas or up is not (replicas > state.replicas) or (not up and held.rolling):
                return
            scale = await self._cluster.api.get(held.target.scale_path)
            if (scale.get("spec") or {}).get("replicas", 0) != state.replicas:
                return  # Somebody else changed it; the watch will say so.
            version = scale["metadata"].get("resourceVersion")
            if not self._cluster.leads():
                return
            try:
                await self._cluster.api.patch(
                    held.target.scale_path, {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}
                )
            except Conflict:
                if attempt == MOST_CONFLICTS - 1:
                    raise
                continue
            surplus = surplus_pods(pods.values(), replicas, by_ordinal=by_ordinal, first=state.first_ordinal)
            taken = {pod.uid for pod in surplus}
            going = {uid: one for uid, one in intent.exits.items() if uid in taken}
            held.wrote(replicas, going, self._cluster.clock())
            _log.info(
                "replicas written",
                pool=self._pool,
                target=held.target.label,
                before=state.replicas,
                after=replicas,
                leaving={pods[uid].name: one.done for uid, one in going.items()},
            )
            return

    def _report(self) -> None:
        """Say what became of pods that were to go."""
        for held in self.held:
            for name in held.removed():
                _log.info("replica gone", pool=self._pool, replica=name)
            for name in held.overdue(self._cluster.clock()):
                _log.warning("another replica was removed", pool=self._pool, kept=name, target=held.target.label)
                self._tell(held.target, "WrongPodRemoved", f"{name} was drained, and another pod was removed")
            if held.intent is None:
                continue
            for uid, one in held.intent.exits.items():
                if one.done is not None and "deadline" in one.done and (uid, "deadline") not in self._told_of:
                    self._told_of.add((uid, "deadline"))
                    self._tell(held.target, "DrainDeadline", f"{held.pods[uid].name}: {one.done}")
        uids = {uid for held in self.held for uid in held.pods}
        self._told_of = {one for one in self._told_of if one[0] in uids}

    def _shares(self) -> tuple[mix.Share, ...]:
        return tuple(held.share(0 if held.intent is None else held.intent.told) for held in self.held)

    def _paused(self) -> str | None:
        for held in self.held:
            if held.seen is not None and held.seen.paused is not None:
                return held.seen.paused
            rival = self._cluster.rivals.get(held.target.label)
            if rival is not None and self._writes is Writes.ALL:
                return f"{rival} also writes replicas of {held.target.label}"
        return None

    def _override(self, desired: int) -> Override | None:
        if self._writes is not Writes.ALL:
            return None
        foreign = [held.state.foreign for held in self.held if held.state.foreign is not None]
        if not foreign:
            return None
        latest = max(foreign, key=lambda one: one.at_s)
        return Override(by=latest.by, replicas=desired, at_s=latest.at_s)

    def _time_cold_starts(self) -> None:
        """Note how long pods took that have become ready since the last call. One that restarted tells nothing."""
        ready = {uid: pod for held in self.held for uid, pod in held.pods.items() if pod.ready}
        for uid, pod in ready.items():
            if self._timed is not None and uid not in self._timed and pod.ready_at_s is not None and not pod.restarts:
                self._cold_starts_s.append(max(0.0, pod.ready_at_s - pod.created_at_s))
        known = {uid for held in self.held for uid in held.pods}
        self._timed = ready.keys() | ((self._timed or set()) & known)


def _busy(view: PoolView | None) -> frozenset[str] | None:
    """Names of the replicas with requests in flight. `None`: unknown."""
    return None if view is None else frozenset(name for name, (_, count) in work_left(view).items() if count > 0)


def _staying(held: Held) -> list[Pod]:
    exits = {} if held.intent is None else held.intent.exits
    return [pod for uid, pod in held.pods.items() if uid not in exits and not pod.terminating]


def _serving(held: Held) -> list[Pod]:
    return [pod for pod in _staying(held) if pod.ready]


def _reason(error: Exception) -> str:
    """A few words, for a metric's label."""
    match error:
        case Conflict():
            return "conflict"
        case Denied():
            return "denied"
        case NotFound():
            return "not-found"
        case Unavailable() | TimeoutError():
            return "unavailable"
        case _:
            return "refused"
