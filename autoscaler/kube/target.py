"""What is scaled: an object with a `/scale` subresource, where it is, and what its JSON says. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from autoscaler.kube.names import FIELD_MANAGER, PAUSED, Json
from autoscaler.kube.pod import instant_s

AT_CREATION_S = 2.0
"""A number of replicas written no later than this after the object was created is no override."""


class Writes(StrEnum):
    """What may be changed in the cluster for a pool."""

    ALL = "all"
    MARKS = "marks"
    """Pods are marked and drained; `replicas` belongs to somebody else (KEDA)."""
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of object. `by_ordinal`: its controller removes the pods with the highest numbers first."""

    name: str
    group: str
    version: str
    plural: str
    by_ordinal: bool = False


DEPLOYMENT = Kind(name="Deployment", group="apps", version="v1", plural="deployments")
STATEFUL_SET = Kind(name="StatefulSet", group="apps", version="v1", plural="statefulsets", by_ordinal=True)
LEADER_WORKER_SET = Kind(
    name="LeaderWorkerSet",
    group="leaderworkerset.x-k8s.io",
    version="v1",
    plural="leaderworkersets",
    by_ordinal=True,
)
KINDS = {kind.name: kind for kind in (DEPLOYMENT, STATEFUL_SET, LEADER_WORKER_SET)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One object that holds replicas of a pool."""

    kind: Kind
    namespace: str
    name: str
    port: int
    minimum: int = 1
    maximum: int = 1
    gpu: str | None = None
    """The GPU that its replicas run on, where it is not read from their nodes."""
    ratio: float = 1.0
    """Seconds that a replica on `gpu` takes for one second of the pool's price."""
    cost_per_hour: float | None = None
    """Of one replica, money."""

    @property
    def label(self) -> str:
        return f"{self.kind.name} {self.namespace}/{self.name}"

    @property
    def collection(self) -> str:
        kind = self.kind
        return f"/apis/{kind.group}/{kind.version}/namespaces/{self.namespace}/{kind.plural}"

    @property
    def scale_path(self) -> str:
        return f"{self.collection}/{self.name}/scale"

    @property
    def reference(self) -> Json:
        """The object in an Event, and in what else refers to it."""
        kind = self.kind
        return {
            "apiVersion": f"{kind.group}/{kind.version}",
            "kind": kind.name,
            "namespace": self.namespace,
            "name": self.name,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """Somebody else wrote `replicas` last."""

    by: str
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetState:
    """What the target's JSON says now."""

    uid: str
    replicas: int
    paused: str | None = None
    foreign: Foreign | None = None
    """`None` as long as what stands there is ours, or what the object was created with."""
    first_ordinal: int = 0
    """The number of the first pod, where pods have numbers."""


def state_from_json(item: Json, scale_replicas: int | None = None, *, before: TargetState | None = None) -> TargetState:
    """`scale_replicas`: what `/scale` says, for kinds that keep the number elsewhere than in `spec.replicas`.

    `before`: what the object said last. While the number stays nobody has overridden it: whoever owns it from the
    creation on may write something else (`helm upgrade`), and the API server keeps one time for all that they own.
    """
    metadata = item["metadata"]
    if before is not None and before.uid != metadata.get("uid", ""):
        before = None
    replicas = (item.get("spec") or {}).get("replicas", 1) if scale_replicas is None else scale_replicas
    paused = (metadata.get("annotations") or {}).get(PAUSED)
    return TargetState(
        uid=metadata.get("uid", ""),
        replicas=int(replicas),
        paused=None if paused is None or paused == "false" else f"annotation {PAUSED}={paused}",
        foreign=_foreign(metadata) if before is None or before.replicas != int(replicas) else before.foreign,
        first_ordinal=int(((item.get("spec") or {}).get("ordinals") or {}).get("start", 0)),
    )


def selector_from_scale(scale: Json) -> dict[str, str]:
    """The labels that a replica's pod has, from `/scale`.

    Raises ValueError for a selector with other than equalities, or without any: such pods cannot be told apart.
    """
    text = (scale.get("status") or {}).get("selector") or ""
    labels = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.replace("==", "=").partition("=")
        if not equals or not name or name.endswith("!"):
            raise ValueError(f"selector {text!r} of /scale has more than equalities")
        labels[name] = value
    if not labels:
        raise ValueError("/scale names no selector of pods")
    return labels


def _foreign(metadata: Json) -> Foreign | None:
    writers = tuple(_writers(metadata))
    if not writers or any(manager == FIELD_MANAGER for manager, _ in writers):
        return None
    manager, at_s = max(writers, key=lambda writer: writer[1])
    created_at_s = instant_s(metadata.get("creationTimestamp")) or 0.0
    return Foreign(by=manager, at_s=at_s) if at_s > created_at_s + AT_CREATION_S else None


def _writers(metadata: Json) -> Iterator[tuple[str, float]]:
    """Who owns the number of replicas, and since when, as the API server notes it."""
    for entry in metadata.get("managedFields") or ():
        spec = (entry.get("fieldsV1") or {}).get("f:spec") or {}
        if "f:replicas" in spec or entry.get("subresource") == "scale":
            yield entry.get("manager", "unknown"), instant_s(entry.get("time")) or 0.0
