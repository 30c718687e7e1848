"""`pools.*.replicas.kubernetes`: the objects of a cluster that hold a pool's replicas."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator
from pydantic_core.core_schema import ValidationInfo

from weighbridge.config_fields import Count, CountOrZero, Name, Port, Positive, Section, gpu_name

GROUP = re.compile(r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")


def at_least_min(low: int, high: int) -> int:
    """Raises ValueError for a `max` under its `min`."""
    if high < low:
        raise ValueError(f"must be at least min ({low})")
    return high


def _word(value: str) -> str:
    if not GROUP.match(value):
        raise ValueError("must be lower-case letters, digits, '.' or '-'")
    return value


Word = Annotated[str, AfterValidator(_word)]


class ResourceSection(Section):
    """A kind of object that has a `/scale` subresource and is none of those that `kind` names."""

    group: Word
    version: Word
    plural: Word
    kind: Name
    """As in the object's own `kind`."""


class KubernetesSection(Section):
    """One object that holds replicas: a pod each, or a group of pods with one that serves."""

    namespace: Name = "default"
    kind: Literal["Deployment", "StatefulSet", "LeaderWorkerSet"] = "Deployment"
    resource: ResourceSection | None = None
    """Instead of `kind`."""
    name: Name
    port: Port = 8000
    """On which the pods serve."""
    min: CountOrZero = 1
    max: Annotated[Count, Field(validate_default=True)] = 1
    gpu: Annotated[str, AfterValidator(gpu_name)] | None = None
    """Of its replicas. Default: the pool's."""
    cost_per_gpu_hour: Positive | None = None
    """Money that an hour of one GPU costs here. Of several objects the one with the cheapest work grows first."""
    owner: Literal["weighbridge", "keda"] = "weighbridge"
    """Who writes `replicas`. `keda`: the autoscaler tells KEDA how many, and drains."""

    @field_validator("max")
    @classmethod
    def _at_least_min(cls, value: int, info: ValidationInfo) -> int:
        return at_least_min(info.data.get("min", 0), value)

    @property
    def label(self) -> str:
        kind = self.kind if self.resource is None else self.resource.kind
        return f"{kind} {self.namespace}/{self.name}"


def _several(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def _consistent(value: tuple[KubernetesSection, ...]) -> tuple[KubernetesSection, ...]:
    labels = [target.label for target in value]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(f"{twice[0]} is listed twice")
    if len(value) > 1 and any(target.owner == "keda" for target in value):
        raise ValueError("owner keda takes one object: KEDA scales each object by itself")
    return value


KubernetesTargets = Annotated[
    tuple[KubernetesSection, ...], BeforeValidator(_several), Field(min_length=1), AfterValidator(_consistent)
]
"""One mapping is short for a list of one."""
