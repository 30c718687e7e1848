"""What a comparison runs on: a pool, a workload, and what counts as good enough."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, inf

from autoscaler.settings import AutoscalerSettings
from estimator.choice import choose_step
from gateway.settings import PoolSettings
from simulator.request import EngineSettings
from weighbridge.backtest.pool import POOL, Arrival, PoolModel
from weighbridge.backtest.workload import Source, Workload, make_workload, mean_work_s

BLOCK_TOKENS = 16
START_WINDOW_S = 600.0
START_UTILIZATION = 0.65
STATIC_UTILIZATION = 0.9
DEFAULT_LOAD = 1 / 6
"""Mean offered load per replica of the upper bound where no speed is given: the day's peak is twice the mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One workload on one pool, for any rule."""

    model: PoolModel
    workload: Workload
    scaling: AutoscalerSettings
    start_replicas: int
    judged_tpot_s: float
    """For the share of requests within both limits; `inf` judges TTFT alone."""
    goal_ratio: float
    changed: bool = False
    """`scaling` is not what ships."""

    @property
    def judged_by_both(self) -> bool:
        """Whether the goal is for both limits: where the pool has an objective for TPOT."""
        return self.model.tpot_limit_s is not None

    @property
    def static_replicas(self) -> int:
        """For the busiest ten minutes, at `STATIC_UTILIZATION`."""
        busiest = max(_windows(self.workload.arrivals).values(), default=0.0)
        return _within(busiest / START_WINDOW_S / STATIC_UTILIZATION, self.scaling)


def make_scene(
    sources: Sequence[Source],
    pool: PoolSettings,
    *,
    speed: float | None,
    natural_rate_per_s: float,
    length_s: float,
    shape: tuple[float, ...],
    min_replicas: int,
    max_replicas: int,
    cold_start_s: float,
    start_replicas: int | None,
    judged_tpot_s: float | None,
    goal_ratio: float,
    seed: int,
) -> Scene:
    """The sources at `speed` times `natural_rate_per_s`, or at `DEFAULT_LOAD`, on replicas of `pool`.

    Raises ValueError (`SettingsError` for the bounds) for values that contradict each other.
    """
    scaling = AutoscalerSettings(
        pool=POOL,
        min_replicas=min_replicas,
        max_replicas=max_replicas,
        gpus_per_replica=pool.tensor_parallel,
        kv_capacity_tokens=pool.kv_capacity_tokens,
        cold_start_s=cold_start_s,
    )
    price = pool.price()
    capacity = pool.kv_capacity_tokens // BLOCK_TOKENS * BLOCK_TOKENS
    if speed is None:
        rate_per_s = DEFAULT_LOAD * max_replicas / mean_work_s(sources, price)
    else:
        rate_per_s = speed * natural_rate_per_s
    workload = make_workload(
        sources,
        price,
        rate_per_s=rate_per_s,
        length_s=length_s,
        shape=shape,
        ttft_slo_s=inf if pool.ttft_slo_s is None else pool.ttft_slo_s,
        max_context_tokens=capacity,
        rng=random.Random(seed),
    )
    model = PoolModel(
        pick=pool.pick_rule(price),
        engine=EngineSettings(
            kv_tokens=capacity, max_context_tokens=capacity, max_batched_tokens=price.prefill_chunk_tokens
        ),
        steps=choose_step(
            pool.architecture, pool.accelerator, tensor_parallel=pool.tensor_parallel, engine=pool.engine
        ).step,
        gpus=pool.tensor_parallel,
        order=pool.order,
        wait_bound_s=pool.wait_bound_s,
        tpot_limit_s=pool.tpot_slo_s,
        cold_start_s=cold_start_s,
    )
    if start_replicas is None:
        first_s = _windows(workload.arrivals).get(0, 0.0)
        start_replicas = _within(first_s / min(START_WINDOW_S, length_s) / START_UTILIZATION + 0.5, scaling)
    judged_s = pool.tpot_slo_s if judged_tpot_s is None else judged_tpot_s
    return Scene(
        model=model,
        workload=workload,
        scaling=scaling,
        start_replicas=start_replicas,
        judged_tpot_s=inf if judged_s is None else judged_s,
        goal_ratio=goal_ratio,
    )


def with_cold_start(scene: Scene, cold_start_s: float) -> Scene:
    """The same workload where replicas take so long to start."""
    change = partial(replace, cold_start_s=cold_start_s)
    return replace(scene, model=change(scene.model), scaling=change(scene.scaling))


def _windows(arrivals: Sequence[Arrival]) -> dict[int, float]:
    """Predicted GPU-seconds by the ten minutes in which they arrive."""
    sums: dict[int, float] = {}
    for arrival in arrivals:
        window = int(arrival.at_s // START_WINDOW_S)
        sums[window] = sums.get(window, 0.0) + arrival.weight.prefill_s + arrival.weight.decode_s
    return sums


def _within(replicas: float, scaling: AutoscalerSettings) -> int:
    return min(max(ceil(replicas), scaling.min_replicas, 1), scaling.max_replicas)
