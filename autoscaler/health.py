"""Whether an autoscaler's loops are alive, and whether it has seen what it decides on. Pure."""

from collections.abc import Mapping, Sequence

from autoscaler.stats import PoolStats

SILENCE_S = 60.0
"""A loop that has not ended a step for this long is stuck or fails each time: a step waits at most some 10 s for
each of a few answers."""


def unhealthy(pools: Sequence[PoolStats], *, started_at_s: float, now_s: float) -> list[str]:
    """Pools whose loop does not get to the end of a step. Both instants by the event loop's clock."""
    found = []
    for pool in pools:
        since_s = now_s - (started_at_s if pool.stepped_at_s is None else pool.stepped_at_s)
        if since_s > SILENCE_S:
            found.append(f"pool {pool.pool}: no step came to its end for {since_s:.0f} s")
    return found


def unready(pools: Sequence[PoolStats], synced: Mapping[str, bool]) -> list[str]:
    """What has not been read once. `synced`: watches by name."""
    return [
        *(f"pool {pool.pool}: the backlog has not been read" for pool in pools if not pool.backlog_read),
        *(f"{name} have not been listed" for name, done in synced.items() if not done),
    ]
