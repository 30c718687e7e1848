"""A checked configuration as the values that each process takes. Pure: reads nothing, starts nothing."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from autoscaler.kube.target import Target, Writes
from autoscaler.settings import AutoscalerSettings
from backlog.records import PoolName
from estimator.accelerator import Accelerator, find_accelerator
from estimator.calibrate_parts import AS_PRICED
from gateway.settings import GatewaySettings, Limits, PoolSettings, StaticReplica, TenantLimits, TenantSettings
from gateway.spill import SpillSettings, TokenPrice
from weighbridge.calibrate.file import check_calibration
from weighbridge.config_autoscaler import AutoscalerSection
from weighbridge.config_models import Config, PoolSection, architecture_of
from weighbridge.config_spill import SpillSection
from weighbridge.spill.sdk import Hosted
from weighbridge.targets import bounds_of, ratio_on, targets_of, writes_of

ADVISED_REPLICAS = 1000
"""Advice for a static pool is bounded by this only: its size is the operator's to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledPool:
    """What the autoscaler process needs for one pool."""

    settings: AutoscalerSettings
    command: tuple[str, ...] | None
    """Starts one replica, `{port}` stands for its port. `None`: a static pool, which gets advice only."""
    health_path: str
    start_deadline_s: float
    static_urls: tuple[str, ...]
    targets: tuple[Target, ...] = ()
    """Objects of a cluster that hold the replicas."""
    writes: Writes = Writes.NOTHING
    """What may be changed in the cluster."""
    ratio_of: Callable[[str], float | None] = field(default=lambda _gpu: None)
    """Seconds that a GPU takes for one second of the pool's price."""


def in_kubernetes(config: Config) -> tuple[str, ...]:
    """Pools whose replicas Kubernetes owns."""
    return tuple(name for name, pool in config.pools.items() if pool.replicas.kubernetes is not None)


def needs_autoscaler(config: Config) -> tuple[str, ...]:
    """Pools that have no replica until an autoscaler starts one."""
    return tuple(name for name, pool in config.pools.items() if pool.replicas.static is None)


def gateway_settings(config: Config, *, redis_url: str) -> GatewaySettings:
    """The gateway's settings. Every pool must be static or processes."""
    section = config.gateway
    return GatewaySettings(
        host=section.host,
        port=section.port,
        admin_host=section.admin_host,
        admin_port=section.admin_port,
        workers=section.workers,
        redis_url=redis_url,
        redis_prefix=redis_prefix(config),
        pools=tuple(pool_settings(name, pool, config.autoscaler) for name, pool in config.pools.items()),
        tenants=tuple(
            TenantSettings(
                name=name,
                key_sha256=tuple(key.removeprefix("sha256:") for key in tenant.keys),
                weight=tenant.weight,
                priority=tenant.priority,
                max_priority=tenant.max_priority,
                spill=tenant.spill,
                limits=TenantLimits(**tenant.limits.model_dump()),
            )
            for name, tenant in config.tenants.items()
        ),
        limits=Limits(**_given(section.limits.model_dump())),
        elsewhere=config.elsewhere,
        **_given({"publish_s": section.publish_s}),
    )


def redis_prefix(config: Config) -> str:
    """What every Redis key starts with."""
    return config.redis.prefix if config.redis is not None else "wb"


def pool_settings(name: str, pool: PoolSection, defaults: AutoscalerSection) -> PoolSettings:
    """One pool as the gateway sees it."""
    return PoolSettings(
        name=PoolName(name),
        models=pool.models,
        served_model=pool.served_model,
        served_as=pool.served_as,
        hidden=frozenset(pool.hidden),
        architecture=architecture_of(pool.architecture, pool.served_model),
        accelerator=accelerator_of(pool),
        tensor_parallel=pool.tensor_parallel,
        engine=pool.engine,
        planning_batch=pool.planning_batch,
        prefill_chunk_tokens=pool.prefill_chunk_tokens,
        kv_capacity_tokens=kv_tokens(pool),
        max_in_flight=pool.max_in_flight,
        calibration=AS_PRICED if pool.calibration is None else check_calibration(pool.calibration),
        tokenizer=None if pool.tokenizer is None else Path(pool.tokenizer),
        static_replicas=tuple(
            StaticReplica(
                name=replica.label,
                url=replica.url,
                api_key=_text(replica.api_key or pool.api_key),
            )
            for replica in pool.replicas.static or ()
        ),
        replica_api_key=_text(pool.api_key),
        dispatch_prefill_s=pool.limits.dispatch_prefill_s,
        contested_prefill_s=pool.limits.contested_prefill_s,
        order=pool.limits.order,
        wait_bound_s=pool.limits.wait_bound_s,
        externality=pool.limits.externality,
        max_waiting=pool.limits.max_waiting,
        max_wait_s=pool.limits.max_wait_s,
        ttft_slo_s=pool.slo.ttft_s,
        tpot_slo_s=pool.slo.tpot_s,
        price_per_gpu_hour=pool.price_per_gpu_hour,
        spill=None if pool.spill is None else spill_settings(pool.spill),
        **_given({"cold_start_s": merged(defaults, pool.autoscaler).get("cold_start_s")}),
    )


def spill_settings(section: SpillSection) -> SpillSettings:
    """When and to what a pool spills, as the gateway sees it: without secrets."""
    price = None
    if section.input_price_per_mtok is not None and section.output_price_per_mtok is not None:
        price = TokenPrice(input_per_mtok=section.input_price_per_mtok, output_per_mtok=section.output_price_per_mtok)
    return SpillSettings(
        model=section.model,
        price=price,
        after_wait_s=section.after_wait_s,
        while_starting=section.while_starting,
        money_per_day=section.money_per_day,
        max_in_flight=section.max_in_flight,
        premium=section.premium,
    )


def hosted_models(config: Config) -> dict[str, Hosted]:
    """The hosted model of each pool that has one, as the spill process sees it."""
    return {
        name: Hosted(
            model=pool.spill.model,
            params=pool.spill.params.get_secret_value(),
            input_per_mtok=pool.spill.input_price_per_mtok,
            output_per_mtok=pool.spill.output_price_per_mtok,
        )
        for name, pool in config.pools.items()
        if pool.spill is not None
    }


def scaled_pools(config: Config) -> tuple[ScaledPool, ...]:
    """The pools as the autoscaler sees them."""
    return tuple(_scaled_pool(name, pool, config.autoscaler) for name, pool in config.pools.items())


def _scaled_pool(name: str, pool: PoolSection, defaults: AutoscalerSection) -> ScaledPool:
    processes = pool.replicas.processes
    advised = merged(defaults, pool.autoscaler).get("advisory", False)
    ratio = ratio_on(pool_settings(name, pool, defaults))
    return ScaledPool(
        settings=autoscaler_settings(name, pool, defaults),
        command=None if processes is None else replica_command(pool),
        health_path="/health" if processes is None else processes.health_path,
        start_deadline_s=0.0 if processes is None else processes.start_deadline_s,
        static_urls=tuple(replica.url for replica in pool.replicas.static or ()),
        targets=targets_of(pool, ratio),
        writes=writes_of(pool, advisory=advised),
        ratio_of=ratio,
    )


def autoscaler_settings(name: str, pool: PoolSection, defaults: AutoscalerSection) -> AutoscalerSettings:
    """One pool's scaling settings: its own values, then the global ones, then the law's defaults.

    Replicas in Kubernetes are counted in those of the pool's own GPU. Raises `autoscaler.settings.SettingsError` for
    values that contradict each other.
    """
    static, processes = len(pool.replicas.static or ()), pool.replicas.processes
    values = merged(defaults, pool.autoscaler)
    schedules = pool.autoscaler.schedules if pool.autoscaler.schedules is not None else defaults.schedules
    if schedules is not None:
        values["schedules"] = tuple(section.schedule for section in schedules)
    low, high = (1, ADVISED_REPLICAS) if processes is None else (processes.min, processes.max)
    if pool.replicas.kubernetes is not None:
        low, high = bounds_of(targets_of(pool, ratio_on(pool_settings(name, pool, defaults))))
        if writes_of(pool, advisory=False) is not Writes.ALL:
            values = {**values, "advisory": True}
    elif processes is None:
        values = {"fallback_replicas": static, **values, "advisory": True}
    return AutoscalerSettings(
        pool=PoolName(name),
        min_replicas=low,
        max_replicas=high,
        gpus_per_replica=pool.tensor_parallel,
        kv_capacity_tokens=kv_tokens(pool),
        **values,
    )


def merged(defaults: AutoscalerSection, own: AutoscalerSection) -> dict[str, Any]:
    """The values that are set, the pool's over the global ones."""
    return {**_given(defaults.model_dump()), **_given(own.model_dump())}


def replica_command(pool: PoolSection) -> tuple[str, ...]:
    """The command that starts one replica of a processes pool, with `{port}` in it."""
    processes = pool.replicas.processes
    if processes is None:
        raise ValueError("only a processes pool has a command")
    return processes.command or simulated_command(pool)


def simulated_command(pool: PoolSection) -> tuple[str, ...]:
    """The simulated model server for this pool's model and GPU."""
    processes = pool.replicas.processes
    if processes is None:
        raise ValueError("only a processes pool has a command")
    architecture = pool.architecture if isinstance(pool.architecture, str) else json.dumps(pool.architecture)
    options: Mapping[str, object] = {
        "--port": "{port}",
        "--model": pool.served_model,
        "--architecture": architecture,
        "--gpu": pool.gpu,
        "--tensor-parallel": pool.tensor_parallel,
        "--kv-tokens": kv_tokens(pool),
        "--start-delay-s": processes.simulated.start_delay_s,
        "--max-num-seqs": processes.simulated.max_num_seqs,
        "--max-queue": processes.simulated.max_queue,
        "--speed": processes.simulated.speed,
    }
    words = [str(word) for option in options.items() for word in option]
    return command_line("simulate", *words)


def command_line(*words: str) -> tuple[str, ...]:
    """This program as a child process. `-P`: a folder `gateway` where the operator stands must not be imported."""
    return (sys.executable, "-P", "-m", "weighbridge.cli", *words)


def accelerator_of(pool: PoolSection) -> Accelerator:
    """The GPU of a checked pool."""
    accelerator = find_accelerator(pool.gpu)
    if accelerator is None:
        raise ValueError(f"{pool.gpu}: unknown GPU")
    return accelerator


def kv_tokens(pool: PoolSection) -> int:
    """KV cache tokens of one replica of a checked pool."""
    if pool.kv_tokens is None:
        raise ValueError("kv_tokens is filled in when a pool is checked")
    return pool.kv_tokens


def _text(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are not left to the process's default."""
    return {name: value for name, value in values.items() if value is not None}
