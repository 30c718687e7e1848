"""A pool's Kubernetes objects as the targets that the autoscaler scales. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from autoscaler.kube import mix
from autoscaler.kube.target import KINDS, Kind, Target, Writes
from estimator.accelerator import find_accelerator
from estimator.price import ratio_of
from estimator.work import kv_capacity_tokens
from gateway.settings import PoolSettings
from weighbridge.config_kubernetes import KubernetesSection
from weighbridge.config_models import PoolSection


def targets_of(pool: PoolSection, ratio: Callable[[str], float | None]) -> tuple[Target, ...]:
    """The pool's objects; `ratio` is `ratio_on` of the pool. Raises ValueError for a GPU that cannot hold its model."""
    return tuple(_target(section, pool, ratio) for section in pool.replicas.kubernetes or ())


def bounds_of(targets: Sequence[Target]) -> tuple[int, int]:
    """The least and the most replicas of the pool's own GPU that the targets are worth."""
    return mix.bounds(
        mix.Share(name=one.name, replicas=0, minimum=one.minimum, maximum=one.maximum, speed=1 / one.ratio)
        for one in targets
    )


def writes_of(pool: PoolSection, *, advisory: bool) -> Writes:
    """What the autoscaler may change for the pool."""
    if advisory:
        return Writes.NOTHING
    keda = any(section.owner == "keda" for section in pool.replicas.kubernetes or ())
    return Writes.MARKS if keda else Writes.ALL


def ratio_on(settings: PoolSettings) -> Callable[[str], float | None]:
    """How long a GPU takes, by its name, for what takes the pool's own GPU a second; `None`: the model does not fit.

    A first call for a GPU compiles two prices, some 40 ms.
    """
    known: dict[str, float | None] = {settings.accelerator.name: 1.0}

    def ratio(gpu: str) -> float | None:
        if gpu not in known:
            known[gpu] = _ratio(settings, gpu)
        return known[gpu]

    return ratio


def _ratio(settings: PoolSettings, gpu: str) -> float | None:
    accelerator = find_accelerator(gpu)
    if accelerator is None:
        return None
    kv_tokens = kv_capacity_tokens(settings.architecture, accelerator, settings.tensor_parallel)
    if kv_tokens < 1:
        return None
    return ratio_of(settings.price(), replace(settings, accelerator=accelerator, kv_capacity_tokens=kv_tokens).price())


def _target(section: KubernetesSection, pool: PoolSection, ratio: Callable[[str], float | None]) -> Target:
    gpu = section.gpu or pool.gpu
    seconds = ratio(gpu)
    if seconds is None:
        raise ValueError(f"{section.label}: the weights of {pool.served_model} leave no room for KV cache on {gpu}")
    resource = section.resource
    return Target(
        kind=KINDS[section.kind]
        if resource is None
        else Kind(name=resource.kind, group=resource.group, version=resource.version, plural=resource.plural),
        namespace=section.namespace,
        name=section.name,
        port=section.port,
        minimum=section.min,
        maximum=section.max,
        gpu=gpu,
        ratio=seconds,
        cost_per_hour=None if section.cost_per_gpu_hour is None else section.cost_per_gpu_hour * pool.tensor_parallel,
    )
