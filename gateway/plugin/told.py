"""What LiteLLM's clients and logs are told of a call: response headers, and fields of the spend log."""

from math import ceil
from typing import Any

from gateway.plugin.visit import Visit
from gateway.settle import used_gpu_s
from gateway.usage import Usage


def headers(visit: Visit) -> dict[str, str]:
    """The gateway's own response headers."""
    told = {"x-weighbridge-gpu-seconds": f"{visit.weight.gpu_s:.6f}"}
    if visit.replica is not None:
        told["x-weighbridge-replica"] = visit.replica.name
        told["x-weighbridge-queue-ms"] = f"{visit.queue_wait_s * 1e3:.1f}"
    if visit.estimate_s is not None:
        told["x-weighbridge-wait-estimate-ms"] = f"{visit.estimate_s * 1e3:.1f}"
    outcome = visit.outcome.value if visit.outcome is not None else "served"
    told["x-weighbridge-outcome"] = outcome
    if visit.verdict is not None and visit.verdict.retry_after_s is not None:
        told["retry-after"] = str(max(1, ceil(visit.verdict.retry_after_s)))
    return told


def price(visit: Visit, usage: Usage) -> tuple[float, float | None]:
    """GPU-seconds that those tokens are billed as, and their money; `None` where the pool has no price."""
    pool = visit.pool
    gpu_s = used_gpu_s(pool, usage.input_tokens, usage.output_tokens, usage.cached_tokens)
    return gpu_s, None if pool.settings.price_per_gpu_hour is None else pool.settings.money(gpu_s)


def spend(visit: Visit, gpu_s: float | None) -> dict[str, Any]:
    """Fields for LiteLLM's spend log. `gpu_s`: what was used; `None` for a call that was not served."""
    return {
        "pool": visit.pool.settings.name,
        "replica": visit.replica.name if visit.replica is not None else None,
        "tenant": visit.payer.name,
        "gpu_seconds": None if gpu_s is None else round(gpu_s, 6),
        "estimated_gpu_seconds": round(visit.weight.gpu_s, 6),
        "queue_ms": round(visit.queue_wait_s * 1e3, 1),
    }
