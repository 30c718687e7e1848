"""Which pod goes first when there are too many, as a ReplicaSet chooses."""

from typing import Any

Json = dict[str, Any]

COST = "controller.kubernetes.io/pod-deletion-cost"


def condition(pod: Json, kind: str) -> Json:
    """The condition of this type; empty if the pod has none."""
    for found in pod.get("status", {}).get("conditions", []):
        if found["type"] == kind:
            return dict(found)
    return {}


def is_ready(pod: Json) -> bool:
    return condition(pod, "Ready").get("status") == "True"


def is_active(pod: Json) -> bool:
    """Neither at its end nor on the way there."""
    ended = pod.get("status", {}).get("phase") in ("Failed", "Succeeded")
    return not ended and "deletionTimestamp" not in pod["metadata"]


def in_order_of_deletion(pods: list[Json]) -> list[Json]:
    """Those that go first, first.

    Not assigned to a node before assigned, pending before running, not ready before ready, lower deletion cost before
    higher, ready for less long before longer, more restarts before fewer, younger before older.
    """
    by_age = sorted(pods, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]), reverse=True)
    by_age.sort(key=_restarts, reverse=True)
    by_age.sort(key=lambda pod: str(condition(pod, "Ready").get("lastTransitionTime", "")), reverse=True)
    by_age.sort(key=lambda pod: (_phase(pod), is_ready(pod), _cost(pod)))
    return by_age


def _phase(pod: Json) -> int:
    if not pod["spec"].get("nodeName"):
        return 0
    return 1 if pod.get("status", {}).get("phase") == "Pending" else 2


def _cost(pod: Json) -> int:
    return int((pod["metadata"].get("annotations") or {}).get(COST, "0"))


def _restarts(pod: Json) -> int:
    return sum(each.get("restartCount", 0) for each in pod.get("status", {}).get("containerStatuses", []))
