"""Small pools and workloads for the tests of the backtest."""

from collections.abc import Sequence
from functools import cache

from autoscaler.settings import AutoscalerSettings
from estimator.accelerator import ACCELERATORS
from estimator.length import OutputLength
from estimator.models import MODELS
from estimator.price import Price, WeightSource, price_from_step
from estimator.step import StepModel, step_model
from gateway.pick import PickRule
from simulator.request import EngineSettings
from weighbridge.backtest.pool import POOL, Arrival, PoolModel

KV_TOKENS = 200_000


@cache
def steps() -> StepModel:
    return step_model(MODELS["llama-3.1-8b"], ACCELERATORS["L40S"])


@cache
def price() -> Price:
    return price_from_step(steps(), source=WeightSource.ANALYTIC, planning_batch=48, kv_tokens=KV_TOKENS)


def engine_settings(kv_tokens: int = KV_TOKENS, **changes: int) -> EngineSettings:
    return EngineSettings(kv_tokens=kv_tokens, max_context_tokens=kv_tokens, prefix_cache=False, **changes)


def model(*, cold_start_s: float = 60.0, tpot_limit_s: float | None = None) -> PoolModel:
    return PoolModel(
        pick=PickRule(
            kv_read_s_per_token=price().kv_read_s_per_token,
            kv_capacity_tokens=KV_TOKENS,
            prefill_chunk_tokens=2048,
            externality=0.01,
            dispatch_prefill_s=0.25,
        ),
        engine=engine_settings(),
        steps=steps(),
        tpot_limit_s=tpot_limit_s,
        cold_start_s=cold_start_s,
    )


def arrival(at_s: float, *, input_tokens: int = 1000, output_tokens: int = 200, ttft_limit_s: float = 2.0) -> Arrival:
    """A request whose output is predicted exactly."""
    tokens = float(output_tokens)
    weight = price().weigh(input_tokens=input_tokens, output=OutputLength(tokens, tokens, tokens))
    return Arrival(at_s, output_tokens, ttft_limit_s, weight)


def steady(*, per_s: float, begin_s: float, end_s: float, output_tokens: int = 200) -> Sequence[Arrival]:
    """Equal requests at equal gaps."""
    count = int((end_s - begin_s) * per_s)
    return [arrival(begin_s + index / per_s, output_tokens=output_tokens) for index in range(count)]


def scaling(*, min_replicas: int = 1, max_replicas: int = 8) -> AutoscalerSettings:
    return AutoscalerSettings(
        pool=POOL, min_replicas=min_replicas, max_replicas=max_replicas, kv_capacity_tokens=KV_TOKENS
    )
