"""Who else writes `replicas` of a target: a HorizontalPodAutoscaler, be it a person's or KEDA's. Pure."""

from collections.abc import Iterable

from autoscaler.kube.names import Json
from autoscaler.kube.target import Target


def rival_of(target: Target, autoscalers: Iterable[Json]) -> str | None:
    """The HorizontalPodAutoscaler that points at the target, in words; `None` where there is none."""
    for item in autoscalers:
        metadata, reference = item["metadata"], (item.get("spec") or {}).get("scaleTargetRef") or {}
        group = str(reference.get("apiVersion", "")).rpartition("/")[0]
        same = reference.get("name") == target.name and reference.get("kind") == target.kind.name
        if same and group in ("", target.kind.group):
            scaled_object = (metadata.get("labels") or {}).get("scaledobject.keda.sh/name")
            return f"ScaledObject {scaled_object}" if scaled_object else f"HorizontalPodAutoscaler {metadata['name']}"
    return None
