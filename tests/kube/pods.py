"""Pods as objects: made from a template, and their status as they come to life and end."""

import copy
from typing import Any

Json = dict[str, Any]


def pod_from_template(owner: Json, template: Json, name: str, labels: Json) -> Json:
    """A pod that nothing has looked at: Pending, without a node."""
    metadata = owner["metadata"]
    kind, owned_by, uid = owner["kind"], metadata["name"], metadata["uid"]
    if kind == "Deployment":
        # Between a Deployment and its pods stands a ReplicaSet, of which there is the name only.
        kind, owned_by, uid = "ReplicaSet", f"{owned_by}-1a2b3c", f"rs-{uid}"
    api_version = owner["apiVersion"]
    reference = {"apiVersion": api_version, "kind": kind, "name": owned_by, "uid": uid, "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {**template.get("metadata", {}).get("labels", {}), **labels},
            "annotations": dict(template.get("metadata", {}).get("annotations", {})),
            "ownerReferences": [reference],
        },
        "spec": copy.deepcopy(template["spec"]),
        "status": {"phase": "Pending", "conditions": []},
    }


def owner_uid(pod: Json) -> str:
    """The uid of the object that the test scales; empty for a pod of nobody."""
    for reference in pod["metadata"].get("ownerReferences", []):
        return str(reference["uid"]).removeprefix("rs-")
    return ""


def unschedulable(pod: Json, at: str) -> Json:
    message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    _set(pod, "PodScheduled", "False", at, reason="Unschedulable", message=message)
    return pod


def assigned(pod: Json, node: str, at: str) -> Json:
    pod["spec"]["nodeName"] = node
    _set(pod, "PodScheduled", "True", at)
    _container(pod, ready=False, state={"waiting": {"reason": "ContainerCreating"}})
    return pod


def addressed(pod: Json, address: str, at: str) -> Json:
    """Its containers start."""
    pod["status"] |= {"podIP": address, "podIPs": [{"ip": address}], "startTime": at}
    return pod


def running(pod: Json, ready: bool, at: str) -> Json:
    pod["status"]["phase"] = "Running"
    _set(pod, "Ready", "True" if ready else "False", at)
    _set(pod, "ContainersReady", "True" if ready else "False", at)
    _container(pod, ready=ready, state={"running": {"startedAt": at}})
    return pod


def crashed(pod: Json, at: str) -> Json:
    """Its container has ended and waits to be started again."""
    restarts = sum(each["restartCount"] for each in pod["status"].get("containerStatuses", []))
    running(pod, False, at)
    _container(pod, ready=False, state={"waiting": {"reason": "CrashLoopBackOff"}}, restarts=restarts + 1)
    return pod


def failed(pod: Json, at: str) -> Json:
    """It has ended for good, as after an eviction."""
    running(pod, False, at)
    pod["status"] |= {"phase": "Failed", "reason": "Evicted"}
    return pod


def _set(pod: Json, kind: str, status: str, at: str, **more: str) -> None:
    """The time of a condition is that of its last change of status."""
    conditions = pod["status"].setdefault("conditions", [])
    for found in conditions:
        if found["type"] == kind:
            if found["status"] != status:
                found["lastTransitionTime"] = at
            for key in ("reason", "message"):
                found.pop(key, None)
            found |= {"status": status, **more}
            return
    conditions.append({"type": kind, "status": status, "lastTransitionTime": at, **more})


def _container(pod: Json, *, ready: bool, state: Json, restarts: int | None = None) -> None:
    before = pod["status"].get("containerStatuses") or [{"restartCount": 0}]
    count = before[0]["restartCount"] if restarts is None else restarts
    container = pod["spec"]["containers"][0]
    pod["status"]["containerStatuses"] = [
        {"name": container["name"], "ready": ready, "restartCount": count, "state": state}
    ]
