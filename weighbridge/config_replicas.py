"""`pools.*.replicas`: where a pool's replicas come from. Exactly one of `static`, `processes`, `kubernetes`."""

import shlex
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_core.core_schema import ValidationInfo

from weighbridge.config_fields import (
    Count,
    CountOrZero,
    ReplicaUrl,
    Seconds,
    SecondsOrZero,
    Secret,
    Section,
)
from weighbridge.config_kubernetes import KubernetesTargets, at_least_min


class StaticReplicaSection(Section):
    """A replica with a fixed address. A plain URL is short for `{url: …}`."""

    url: ReplicaUrl
    name: Annotated[str, Field(min_length=1)] | None = None
    """Default: `host:port`, with the path if there is one."""
    api_key: Secret | None = None

    @property
    def label(self) -> str:
        parts = urlsplit(self.url)
        return self.name or parts.netloc + parts.path


class SimulatedSection(Section):
    """Options of the simulated model server that is started when a pool has no `command`."""

    start_delay_s: SecondsOrZero = 2.0
    """A pretended cold start."""
    max_num_seqs: Count = 256
    max_queue: Count = 1024
    """Requests that may wait inside a replica; the next is answered 503."""
    speed: Seconds = 1.0
    """How many times faster than the GPU it pretends to be."""


def _words(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return shlex.split(value)
        except ValueError as error:
            raise ValueError(f"cannot be split into words: {str(error).lower()}") from None
    return value


class ProcessesSection(Section):
    """Replicas that the autoscaler starts and stops on its own machine."""

    command: Annotated[tuple[str, ...], BeforeValidator(_words), Field(min_length=1)] | None = None
    """With `{port}` where the replica's port goes, as a list or one line. Default: the simulated model server."""
    min: CountOrZero = 1
    max: Annotated[Count, Field(validate_default=True)] = 1
    health_path: Annotated[str, Field(pattern=r"^/\S*$")] = "/health"
    """Answers 200 when the replica is ready."""
    start_deadline_s: Seconds = 600.0
    """A replica that is not ready after this is stopped and started again."""
    simulated: SimulatedSection = SimulatedSection()

    @field_validator("command")
    @classmethod
    def _takes_a_port(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not any("{port}" in word for word in value):
            raise ValueError("must contain {port}")
        return value

    @field_validator("max")
    @classmethod
    def _at_least_min(cls, value: int, info: ValidationInfo) -> int:
        return at_least_min(info.data.get("min", 0), value)

    @field_validator("simulated")
    @classmethod
    def _without_command(cls, value: SimulatedSection, info: ValidationInfo) -> SimulatedSection:
        if info.data.get("command") is not None:
            raise ValueError("applies to the simulated model server; remove it or remove command")
        return value


def _entry(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


class ReplicasSection(Section):
    """Exactly one of the three."""

    static: (
        Annotated[
            tuple[Annotated[StaticReplicaSection, BeforeValidator(_entry)], ...],
            Field(min_length=1),
        ]
        | None
    ) = None
    processes: ProcessesSection | None = None
    kubernetes: KubernetesTargets | None = None

    @field_validator("static")
    @classmethod
    def _once_each(cls, value: tuple[StaticReplicaSection, ...] | None) -> tuple[StaticReplicaSection, ...] | None:
        for what, values in (("url", [r.url for r in value or ()]), ("name", [r.label for r in value or ()])):
            twice = sorted({item for item in values if values.count(item) > 1})
            if twice:
                raise ValueError(f"the {what} {twice[0]!r} is listed twice")
        return value

    @model_validator(mode="before")
    @classmethod
    def _exactly_one(cls, value: Any) -> Any:
        if isinstance(value, dict):
            present = [name for name in cls.model_fields if value.get(name) is not None]
            if len(present) != 1 and set(value) <= set(cls.model_fields):
                have = " and ".join(present) if present else "none"
                raise ValueError(f"must have exactly one of static, processes, kubernetes; it has {have}")
        return value
