"""What one target should look like, and which writes lead there. Pure: level-triggered, from what is seen now.

A replica's way out: marked as draining (gateways send nothing more), drained (`autoscaler.drain`), then `replicas` is
lowered, but only when the pods that the controller will take are ones that may go. Whatever happens to pods meanwhile
(one dies, the wrong one goes, somebody changes `replicas`), the next look starts from what is there.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace

from autoscaler import drain
from autoscaler.drain import Drain
from autoscaler.kube.names import DRAINED_COST, DRAINING_COST
from autoscaler.kube.pod import Pod
from autoscaler.kube.target import TargetState
from autoscaler.kube.victims import removable, removable_by_ordinal, surplus_pods, to_drain
from backlog.records import PoolView, ReplicaName

Pods = Mapping[str, Pod]
"""By uid: those of one target that have not ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """One pod's way out."""

    drain: Drain
    done: str | None = None
    """Why the pod may go; `None` while requests run there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """Replicas that should serve (`told`), and pods that leave beyond them."""

    told: int
    written: int
    """`replicas` as we left it: another number was written by somebody else."""
    exits: Mapping[str, Exit] = field(default_factory=dict)
    """By uid."""

    @property
    def draining(self) -> int:
        """Pods on which requests may still run."""
        return sum(one.done is None for one in self.exits.values())

    @property
    def replicas(self) -> int:
        """What `replicas` should be once the drained pods are gone."""
        return self.told + self.draining


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A pod's annotations should say that it drains since then, or that it does not (`None`)."""

    pod: Pod
    since_s: float | None
    cost: int
    """Of deleting it."""


def adopt(state: TargetState, pods: Pods, view: PoolView | None, *, by_ordinal: bool, now_s: float) -> Intent:
    """The intent of a new leader, of a follower, and after somebody else's change: what is there should stay.

    Pods that carry the mark are draining since it was written.
    """
    exits = {
        uid: Exit(drain=replace(_begin(view, now_s), since_s=min(now_s, pod.draining_since_s)))
        for uid, pod in live(pods).items()
        if pod.draining_since_s is not None
    }
    return _settle(state, pods, exits, by_ordinal=by_ordinal)


def follow(
    intent: Intent,
    state: TargetState,
    pods: Pods,
    view: PoolView | None,
    *,
    by_ordinal: bool,
    deadline_s: float,
    now_s: float,
) -> Intent:
    """The intent after one more look: drains move on, pods that are gone are forgotten.

    Where fewer pods are left to serve than were told to (the controller took another one), drained ones serve again.
    """
    alive = live(pods)
    exits = {
        uid: _advance(one, alive[uid], view, deadline_s, now_s) for uid, one in intent.exits.items() if uid in alive
    }
    if state.replicas != intent.written:
        return _settle(state, pods, exits, by_ordinal=by_ordinal)
    if by_ordinal:
        return replace(intent, exits=_beyond(exits, pods, state.first_ordinal + intent.told))
    serving = len(alive) - len(exits) + max(0, state.replicas - len(alive))
    back = _to_revive(exits, max(0, intent.told - serving)) if exits else ()
    return replace(intent, exits={uid: one for uid, one in exits.items() if uid not in back})


def head_for(
    intent: Intent,
    wanted: int,
    pods: Pods,
    view: PoolView | None,
    work: Mapping[str, tuple[float, int]],
    *,
    by_ordinal: bool,
    now_s: float,
    first_ordinal: int = 0,
) -> Intent:
    """Serve with `wanted` replicas: revive before starting, cancel what is not ready before draining what is.

    `work`: GPU-seconds and requests in flight by pod name. Without a view nothing that is ready is drained. By ordinal
    there is no choice: those numbered from `first_ordinal` + `wanted` on leave, and no other does.
    """
    if by_ordinal and wanted > intent.told:
        return replace(intent, told=wanted, exits=_beyond(intent.exits, pods, first_ordinal + wanted))
    if wanted > intent.told:
        back = _to_revive(intent.exits, wanted - intent.told)
        return replace(intent, told=wanted, exits={uid: one for uid, one in intent.exits.items() if uid not in back})
    # Also where `wanted` is no news: a pod that was to be cancelled may have become ready before it was.
    staying = [pod for uid, pod in live(pods).items() if uid not in intent.exits]
    leaving = to_drain(staying, wanted, work, by_ordinal=by_ordinal, first=first_ordinal)
    if leaving and view is None:
        return replace(intent, told=min(intent.told, wanted + len(leaving)))
    exits = {**intent.exits, **{pod.uid: Exit(drain=_begin(view, now_s)) for pod in leaving}}
    if by_ordinal:
        exits = _beyond(exits, pods, first_ordinal + wanted)
    return replace(intent, told=wanted, exits=exits)


def marks(intent: Intent, pods: Pods) -> tuple[Mark, ...]:
    """The pods whose annotations say something else than the intent."""
    wrong = []
    for uid, pod in live(pods).items():
        one = intent.exits.get(uid)
        if one is not None:
            cost = DRAINING_COST if one.done is None else DRAINED_COST
            if pod.draining_since_s is None or pod.deletion_cost != cost:
                wrong.append(Mark(pod=pod, since_s=one.drain.since_s, cost=cost))
        elif pod.draining_since_s is not None:
            wrong.append(Mark(pod=pod, since_s=None, cost=0))
    return tuple(wrong)


def marked(pod: Pod, mark: Mark) -> Pod:
    """The pod as it is with the mark on it. The API server keeps whole seconds."""
    since_s = None if mark.since_s is None else float(int(mark.since_s))
    return replace(pod, draining_since_s=since_s, deletion_cost=mark.cost)


def replicas_now(
    intent: Intent, state: TargetState, pods: Pods, *, by_ordinal: bool, busy: Container[str] | None = frozenset()
) -> int:
    """What to write into `replicas` now: never so little that a pod which serves would go.

    `busy`: names of the pods with requests in flight; `None`: unknown. A pod whose probe failed for a moment is not
    ready, and its streams go on.
    """
    if intent.replicas >= state.replicas:
        return intent.replicas
    alive = live(pods)
    allowed = {uid for uid, one in intent.exits.items() if one.done is not None}
    # One that is not ready goes before any that is: the controller takes it whatever we mark.
    allowed |= {
        uid
        for uid, pod in alive.items()
        if not pod.ready and uid not in intent.exits and not (pod.running if busy is None else pod.name in busy)
    }
    surplus = state.replicas - intent.replicas
    if by_ordinal:
        end = state.first_ordinal + state.replicas
        return state.replicas - removable_by_ordinal(alive.values(), allowed, surplus, end=end)
    missing = state.replicas - len(alive)
    return state.replicas - removable(alive.values(), allowed, surplus, missing=missing)


def live(pods: Pods) -> dict[str, Pod]:
    """The pods that nobody has deleted."""
    return {uid: pod for uid, pod in pods.items() if not pod.terminating}


def _settle(state: TargetState, pods: Pods, exits: Mapping[str, Exit], *, by_ordinal: bool) -> Intent:
    """Somebody else set `replicas`: their number counts, and of the draining pods those that will be left."""
    replicas, going = state.replicas, set[str]()
    if exits:
        surplus = surplus_pods(pods.values(), replicas, by_ordinal=by_ordinal, first=state.first_ordinal)
        going = {pod.uid for pod in surplus}
    kept = {uid: one for uid, one in exits.items() if uid not in going}
    return Intent(told=max(0, replicas - len(kept)), written=replicas, exits=kept)


def _beyond(exits: Mapping[str, Exit], pods: Pods, end: int) -> dict[str, Exit]:
    """The exits of pods that are numbered from `end` on: by ordinal no other pod can leave."""
    return {uid: one for uid, one in exits.items() if uid in pods and pods[uid].ordinal >= end}


def _to_revive(exits: Mapping[str, Exit], count: int) -> frozenset[str]:
    """The ones that left last come back first."""
    latest_first = sorted(exits, key=lambda uid: exits[uid].drain.since_s, reverse=True)
    return frozenset(latest_first[: max(0, count)])


def _advance(one: Exit, pod: Pod, view: PoolView | None, deadline_s: float, now_s: float) -> Exit:
    if one.done is not None:
        return one
    moved = drain.advance(one.drain, ReplicaName(pod.name), view, now_s)
    done = None if view is None else drain.finish_reason(moved, deadline_s=deadline_s, now_s=now_s)
    return Exit(drain=moved, done=done)


def _begin(view: PoolView | None, now_s: float) -> Drain:
    return Drain(since_s=now_s) if view is None else drain.begin(view, now_s)
