"""Pools as the page knows them."""

from typing import Any

from backlog.records import PoolName
from dashboard.settings import PoolFacts

POOL = PoolName("chat")


def facts(**changes: Any) -> PoolFacts:
    values: dict[str, Any] = {
        "name": POOL,
        "models": ("llama",),
        "gpu": "L40S",
        "gpus_per_replica": 2,
        "kv_capacity_tokens": 10_000,
        "min_replicas": 0,
        "max_replicas": 4,
        "priced": True,
    }
    return PoolFacts(**(values | changes))
