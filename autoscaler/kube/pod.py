"""A pod's JSON as the few values that scaling rests on, and the replica that a gateway sees in it. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from autoscaler.kube.names import DELETION_COST, DRAINING_SINCE, Json
from backlog.records import ReplicaName, ReplicaRecord, ReplicaState

OVER = ("Succeeded", "Failed")
_ORDINAL = re.compile(r"-(\d+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod that still counts as a replica of its target, or is on its way out."""

    uid: str
    name: str
    namespace: str
    ip: str | None
    node: str | None
    running: bool
    ready: bool
    created_at_s: float
    ready_at_s: float | None
    """When it last became ready; `None` while it is not."""
    terminating: bool
    unschedulable: str | None
    """The scheduler's reason, while there is no node for it."""
    deletion_cost: int
    draining_since_s: float | None
    restarts: int
    revision: str | None = None
    """Of its template; pods of two revisions are a rollout."""

    @property
    def ordinal(self) -> int:
        """The number at the end of the name, which StatefulSets count down from. 0 without one."""
        found = _ORDINAL.search(self.name)
        return int(found.group(1)) if found else 0


def pod_from_json(item: Json) -> Pod | None:
    """`None` for a pod that has ended: its controller replaces it."""
    metadata, status = item["metadata"], item.get("status") or {}
    if status.get("phase") in OVER:
        return None
    annotations = metadata.get("annotations") or {}
    conditions = {one.get("type"): one for one in status.get("conditions") or ()}
    ready = conditions.get("Ready", {})
    scheduled = conditions.get("PodScheduled", {})
    lost = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    is_ready = ready.get("status") == "True"
    return Pod(
        uid=metadata["uid"],
        name=metadata["name"],
        namespace=metadata.get("namespace", "default"),
        ip=status.get("podIP") or None,
        node=(item.get("spec") or {}).get("nodeName") or None,
        running=status.get("phase") == "Running",
        ready=is_ready,
        created_at_s=instant_s(metadata.get("creationTimestamp")) or 0.0,
        ready_at_s=instant_s(ready.get("lastTransitionTime")) if is_ready else None,
        terminating="deletionTimestamp" in metadata,
        unschedulable=(scheduled.get("message") or "Unschedulable") if lost else None,
        deletion_cost=_whole(annotations.get(DELETION_COST)),
        draining_since_s=instant_s(annotations.get(DRAINING_SINCE)),
        revision=(metadata.get("labels") or {}).get("pod-template-hash"),
        restarts=sum(one.get("restartCount", 0) for one in status.get("containerStatuses") or ()),
    )


def record_of(
    pod: Pod, *, port: int, draining: bool, gpu: str | None, ratio: float, drained: bool = False
) -> ReplicaRecord:
    """The pod as gateways are told of it. One without an address yet gets a name that resolves to nothing.

    One that is being removed counts as drained: it is no part of `replicas`. Where the pod has no address, `url` is in
    `.invalid` (RFC 2606), and its state keeps requests from it.
    """
    host = f"{pod.name}.invalid" if pod.ip is None else f"[{pod.ip}]" if ":" in pod.ip else pod.ip
    if draining or pod.terminating:
        state = ReplicaState.DRAINING
    else:
        state = ReplicaState.READY if pod.ready and pod.ip is not None else ReplicaState.STARTING
    return ReplicaRecord(
        name=ReplicaName(pod.name),
        url=f"http://{host}:{port}",
        state=state,
        created_at_s=pod.created_at_s,
        ready_at_s=pod.ready_at_s,
        gpu=gpu,
        ratio=ratio,
        drained=drained or pod.terminating,
    )


def draining_patch(since_s: float | None, cost: int) -> Json:
    """The merge patch that marks a pod as draining, or, with `None`, takes the mark away."""
    marks = {
        DRAINING_SINCE: None if since_s is None else rfc3339(since_s),
        DELETION_COST: None if since_s is None else str(cost),
    }
    return {"metadata": {"annotations": marks}}


def instant_s(text: object) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; `None` for what is none."""
    if not isinstance(text, str):
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def rfc3339(at_s: float) -> str:
    """Whole seconds of UTC, as Kubernetes writes them."""
    return datetime.fromtimestamp(at_s, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether every label of the selector is there with its value."""
    return all(labels.get(name) == value for name, value in selector.items())


def _whole(text: object) -> int:
    try:
        return int(str(text)) if text is not None else 0
    except ValueError:
        return 0
