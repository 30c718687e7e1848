"""What the page knows of pools from their configuration; everything else is read from Redis."""

from dataclasses import dataclass

from backlog.records import PoolName


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFacts:
    """One pool as it is configured. Holds no addresses and no keys."""

    name: PoolName
    models: tuple[str, ...]
    gpu: str
    gpus_per_replica: int
    kv_capacity_tokens: int
    """KV cache tokens of one replica."""
    min_replicas: int | None
    max_replicas: int | None
    """`None`, as the other: the size is not the autoscaler's to change."""
    static_replicas: tuple[str, ...] = ()
    """Names of the replicas of a pool that nobody publishes a list of."""
    priced: bool
    """GPU-hours have a price: without one, money is unknown and not zero."""
