"""Builders of pods, as values and as JSON."""

from typing import Any

from autoscaler.kube.names import DELETION_COST, DRAINING_SINCE
from autoscaler.kube.pod import Pod, rfc3339

NOON_S = 1_800_000_000.0


def a_pod(name: str = "chat-1", *, at_s: float = NOON_S, ready: bool = True, **changes: Any) -> Pod:
    """A pod that runs on a node, created a minute before it became ready at `at_s`."""
    values: dict[str, Any] = {
        "uid": f"uid-{name}",
        "name": name,
        "namespace": "default",
        "ip": "127.0.1.1",
        "node": "n1",
        "running": True,
        "ready": ready,
        "created_at_s": at_s - 60,
        "ready_at_s": at_s if ready else None,
        "terminating": False,
        "unschedulable": None,
        "deletion_cost": 0,
        "draining_since_s": None,
        "restarts": 0,
        "revision": "7d9",
    }
    return Pod(**{**values, **changes})


def pod_json(
    name: str = "chat-1",
    *,
    ready: bool = True,
    phase: str = "Running",
    draining_since_s: float | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    """A pod of the Deployment `chat` as the API server writes it."""
    annotations = {}
    if draining_since_s is not None:
        annotations = {DRAINING_SINCE: rfc3339(draining_since_s), DELETION_COST: "-1000"}
    since = rfc3339(NOON_S)
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "labels": {"app": "chat", "pod-template-hash": "7d9"},
            "annotations": annotations,
            "creationTimestamp": rfc3339(NOON_S - 60),
            **metadata,
        },
        "spec": {"nodeName": "n1"},
        "status": {
            "phase": phase,
            "podIP": "127.0.1.1",
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": since},
            ],
            "containerStatuses": [{"name": "server", "restartCount": 1}],
        },
    }
