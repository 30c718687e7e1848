"""The subresource `scale` of objects that have spec.replicas."""

from typing import Any

from tests.kube.selector import selector_from_labels

Json = dict[str, Any]


def scale_from_object(item: Json) -> Json:
    """An autoscaling/v1 Scale. Zero replicas are left out, as the real server's encoder does."""
    metadata, spec, status = item["metadata"], item.get("spec", {}), item.get("status", {})
    replicas = spec.get("replicas", 1)
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    scale: Json = {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"replicas": replicas} if replicas else {},
        "status": {"replicas": status.get("replicas", 0)},
    }
    if selector := _selector(spec, status):
        scale["status"]["selector"] = selector
    return scale


def _selector(spec: Json, status: Json) -> str:
    """Where each kind keeps it: a label selector in spec, or a string in status for custom kinds."""
    for key in ("selector", "hpaPodSelector"):
        if isinstance(status.get(key), str):
            return str(status[key])
    selector = spec.get("selector")
    if isinstance(selector, str):
        return selector
    if isinstance(selector, dict):
        return selector_from_labels(selector.get("matchLabels", {}))
    return ""
