"""One target of a pool as it is held in memory: what was seen last, what was just written, what is intended. Pure.

The watch shows a write a little later than its answer. Until it does, the written number stands in for the seen one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from autoscaler.kube.intent import Exit, Intent, Mark, adopt, follow, live, marked
from autoscaler.kube.mix import Share
from autoscaler.kube.pod import Pod
from autoscaler.kube.pod_index import Bucket
from autoscaler.kube.target import Target, TargetState
from backlog.records import PoolView

OVERLAY_S = 10.0
"""The watch is believed again after this long, whatever it shows."""
GOING_S = 60.0
"""A pod for which `replicas` was lowered should be on its way out after this long."""


@dataclass(slots=True, kw_only=True)
class Held:
    """The state of one target. `seen` and `bucket` are filled by watches."""

    target: Target
    seen: TargetState | None = None
    """`None` until the object was read, and when it does not exist."""
    bucket: Bucket | None = None
    """`None` until the selector of its pods is known."""
    missing: str | None = None
    """Why `seen` is `None`."""
    intent: Intent | None = None
    going: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Pods for which `replicas` was lowered: uid -> name and when."""
    _written: tuple[int, float] | None = None
    _looked_at: tuple[TargetState | None, int | None] = (None, None)
    _marks: dict[str, tuple[Mark, float]] = field(default_factory=dict)
    """Annotations just written: uid -> what, and when."""

    @property
    def known(self) -> bool:
        return self.seen is not None and self.bucket is not None

    @property
    def quiet(self) -> bool:
        """Whether nothing has changed since the last look, and nothing is under way: another look would find the
        same."""
        under_way = self.intent is None or self.intent.exits or self._written or self._marks or self.going
        return not under_way and self._looked_at == self._version

    @property
    def rolling(self) -> bool:
        """Whether a Deployment's pods are being replaced. Which of them go when `replicas` falls is its own business
        then; there may be more pods than `replicas`."""
        return not self.target.kind.by_ordinal and len({pod.revision for pod in live(self.pods).values()}) > 1

    @property
    def outdated(self) -> bool:
        """Whether `intent` was made for another number of replicas than there is."""
        return self.intent is None or self.intent.written != self.state.replicas

    @property
    def state(self) -> TargetState:
        """What the target says, with what was just written in it. Raises ValueError while nothing was read."""
        if self.seen is None:
            raise ValueError(f"{self.target.label} has not been read")
        return self.seen if self._written is None else replace(self.seen, replicas=self._written[0], foreign=None)

    @property
    def pods(self) -> dict[str, Pod]:
        """By uid, with the annotations that were just written."""
        if self.bucket is None:
            return {}
        if not self._marks:
            return self.bucket.pods
        return {
            uid: marked(pod, self._marks[uid][0]) if uid in self._marks else pod
            for uid, pod in self.bucket.pods.items()
        }

    def reset(self) -> None:
        """Another object has the name: nothing of what was known or written is true of it."""
        self.bucket, self.intent, self._written = None, None, None
        self._marks.clear()
        self.going.clear()

    def share(self, replicas: int) -> Share:
        """The target with that many replicas that serve. Blocked while the scheduler finds no node for its pods."""
        target = self.target
        return Share(
            name=target.label if target.gpu is None else f"{target.gpu} ({target.name})",
            replicas=replicas,
            minimum=target.minimum,
            maximum=target.maximum,
            speed=1 / target.ratio,
            cost_per_hour=target.cost_per_hour,
            blocked=any(pod.unschedulable is not None for pod in self.pods.values()),
        )

    def look(self, view: PoolView | None, *, leads: bool, deadline_s: float, now_s: float) -> Intent:
        """The intent after one more look. A follower's is always the one that a new leader would start with."""
        self._forget_writes(now_s)
        self._looked_at = self._version
        by_ordinal = self.target.kind.by_ordinal
        if self.intent is None or not leads:
            self.intent = adopt(self.state, self.pods, view, by_ordinal=by_ordinal, now_s=now_s)
        else:
            self.intent = follow(
                self.intent, self.state, self.pods, view, by_ordinal=by_ordinal, deadline_s=deadline_s, now_s=now_s
            )
        return self.intent

    def wrote(self, replicas: int, going: Mapping[str, Exit], now_s: float) -> None:
        """`replicas` was written, and of the drained pods these should go."""
        self._written = (replicas, now_s)
        pods = self.pods
        self.going |= {uid: (pods[uid].name, now_s) for uid in going if uid in pods}
        if self.intent is not None:
            self.intent = replace(self.intent, written=replicas)

    def marked(self, mark: Mark, now_s: float) -> None:
        """A pod's annotations were written."""
        self._marks[mark.pod.uid] = (mark, now_s)

    def removed(self) -> list[str]:
        """Names of the pods that have gone as intended since the last call."""
        alive = live(self.pods)
        gone = {uid: name for uid, (name, _) in self.going.items() if uid not in alive}
        for uid in gone:
            del self.going[uid]
        return list(gone.values())

    def overdue(self, now_s: float) -> list[str]:
        """Names of the pods that should have gone and have not: the controller took others."""
        for uid, (name, at_s) in self.going.items():
            # The clock was set back: count from there.
            self.going[uid] = (name, min(at_s, now_s))
        late = {uid: name for uid, (name, at_s) in self.going.items() if now_s - at_s >= GOING_S}
        for uid in late:
            del self.going[uid]
        return list(late.values())

    @property
    def _version(self) -> tuple[TargetState | None, int | None]:
        return self.seen, None if self.bucket is None else self.bucket.version

    def _forget_writes(self, now_s: float) -> None:
        if self._written is not None and self.seen is not None:
            replicas, at_s = self._written
            if self.seen.replicas == replicas or not 0 <= now_s - at_s < OVERLAY_S:
                self._written = None
        pods = {} if self.bucket is None else self.bucket.pods
        for uid, (mark, at_s) in tuple(self._marks.items()):
            pod = pods.get(uid)
            agrees = pod is None or pod == marked(pod, mark)
            if agrees or not 0 <= now_s - at_s < OVERLAY_S:
                del self._marks[uid]
