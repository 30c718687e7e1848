"""A configuration as the values that processes take."""

import json
import sys
from dataclasses import fields

import pytest

from autoscaler.settings import AutoscalerSettings
from gateway.settings import GatewaySettings, Limits, StaticReplica, TenantLimits, TenantSettings
from weighbridge.config import parse
from weighbridge.config_autoscaler import AutoscalerSection
from weighbridge.config_fields import digest
from weighbridge.config_models import Config, LimitsSection
from weighbridge.wiring import (
    gateway_settings,
    in_kubernetes,
    needs_autoscaler,
    replica_command,
    scaled_pools,
)

LIMITS_OF_T = """
    priority: 2
    max_priority: 6
    limits:
      gpu_s_per_minute: 1
      concurrent_gpu_s: 2
      prefill_pace: 3
      gpu_s_per_day: 4
      gpu_s_per_month: 5
      money_per_day: 6
      money_per_month: 7
"""
TEXT = f"""
pools:
  fixed:
    models: [a, b]
    served_model: org/a
    architecture: llama-3.1-8b
    gpu: H100
    api_key: sk-pool
    replicas: {{static: ["http://r1:8000", {{url: "http://r2:8000/v1", name: two, api_key: sk-two}}]}}
    slo: {{ttft_s: 1.5, tpot_s: 0.05}}
    price_per_gpu_hour: 1.25
    max_in_flight: 12
    limits: {{dispatch_prefill_s: 0.1, max_waiting: 7, max_wait_s: 8, externality: 0.05}}
  grown:
    models: [c]
    architecture: llama-3.1-70b
    gpu: H100
    tensor_parallel: 4
    replicas: {{processes: {{min: 0, max: 3, health_path: /ready, simulated: {{start_delay_s: 9}}}}}}
    autoscaler: {{beta: 0.5, cold_start_s: 9}}
tenants:
  t:
    keys: [sk-1, sk-2]
    weight: 2{LIMITS_OF_T}autoscaler: {{beta: 0.1, window_s: 300}}
gateway: {{port: 5000, admin_port: 5001, workers: 2, limits: {{attempts: 5}}}}
"""


@pytest.fixture
def config() -> Config:
    return parse(TEXT, {}).config


def test_the_gateway_gets_its_ports_limits_and_tenants(config: Config) -> None:
    settings = gateway_settings(config, redis_url="unix:///r")
    assert (settings.port, settings.admin_port, settings.workers) == (5000, 5001, 2)
    assert (settings.redis_url, settings.redis_prefix) == ("unix:///r", "wb")
    assert settings.limits == Limits(attempts=5)
    hashes = tuple(digest(key).removeprefix("sha256:") for key in ("sk-1", "sk-2"))
    assert settings.tenants == (
        TenantSettings(
            name="t",
            key_sha256=hashes,
            weight=2.0,
            priority=2,
            max_priority=6,
            limits=TenantLimits(
                gpu_s_per_minute=1.0,
                concurrent_gpu_s=2.0,
                prefill_pace=3.0,
                gpu_s_per_day=4.0,
                gpu_s_per_month=5.0,
                money_per_day=6.0,
                money_per_month=7.0,
            ),
        ),
    )


def test_a_tenant_without_more_than_keys_has_no_limits_and_the_default_priority() -> None:
    text = TEXT.replace(LIMITS_OF_T, "\n")
    (tenant,) = gateway_settings(parse(text, {}).config, redis_url="unix:///r").tenants
    assert (tenant.priority, tenant.max_priority, tenant.limits) == (3, None, TenantLimits())


def test_a_static_pool_has_its_replicas_with_their_own_key_or_the_pools(config: Config) -> None:
    pool = gateway_settings(config, redis_url="unix:///r").pools[0]
    assert pool.static_replicas == (
        StaticReplica(name="r1:8000", url="http://r1:8000", api_key="sk-pool"),
        StaticReplica(name="two", url="http://r2:8000", api_key="sk-two"),
    )
    assert (pool.served_model, pool.models) == ("org/a", ("a", "b"))
    assert (pool.ttft_slo_s, pool.tpot_slo_s, pool.price_per_gpu_hour) == (1.5, 0.05, 1.25)
    assert (pool.dispatch_prefill_s, pool.max_waiting, pool.max_wait_s, pool.externality) == (0.1, 7, 8.0, 0.05)
    assert [one.max_in_flight for one in gateway_settings(config, redis_url="unix:///r").pools] == [12, None]


def test_a_scaled_pool_waits_for_replicas_to_be_published(config: Config) -> None:
    pool = gateway_settings(config, redis_url="unix:///r").pools[1]
    assert pool.static_replicas == ()
    assert (pool.tensor_parallel, pool.cold_start_s, pool.accelerator.name) == (4, 9.0, "H100")


def test_a_pools_scaling_values_win_over_the_global_ones_and_those_over_the_defaults(config: Config) -> None:
    grown = scaled_pools(config)[1].settings
    defaults = AutoscalerSettings(pool=grown.pool, kv_capacity_tokens=1)
    assert (grown.beta, grown.window_s, grown.utilization) == (0.5, 300.0, defaults.utilization)
    assert (grown.min_replicas, grown.max_replicas, grown.gpus_per_replica) == (0, 3, 4)


def test_a_static_pool_gets_advice_only(config: Config) -> None:
    fixed = scaled_pools(config)[0]
    assert fixed.command is None
    assert fixed.settings.advisory
    assert fixed.static_urls == ("http://r1:8000", "http://r2:8000")


def test_the_simulated_server_has_the_pools_model_and_gpu(config: Config) -> None:
    command = replica_command(config.pools["grown"])
    assert command[:5] == (sys.executable, "-P", "-m", "weighbridge.cli", "simulate")
    options = dict(zip(command[5::2], command[6::2], strict=True))
    assert options["--port"] == "{port}"
    assert (options["--model"], options["--architecture"]) == ("c", "llama-3.1-70b")
    assert (options["--gpu"], options["--tensor-parallel"]) == ("H100", "4")
    assert options["--start-delay-s"] == "9.0"


def test_an_inline_architecture_reaches_the_simulated_server_as_json() -> None:
    keys = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size", "vocab_size")
    shape = dict.fromkeys(keys, 8)
    pool = {"architecture": shape, "gpu": "L4", "replicas": {"processes": {}}}
    config = parse(json.dumps({"pools": {"p": pool}}), {}).config
    command = replica_command(config.pools["p"])
    assert json.loads(command[command.index("--architecture") + 1]) == shape


def test_a_command_of_ones_own_is_taken_as_it_is() -> None:
    text = TEXT.replace("simulated: {start_delay_s: 9}", 'command: "serve --json \'{\\"a\\": 1}\' --port={port}"')
    assert replica_command(parse(text, {}).config.pools["grown"]) == ("serve", "--json", '{"a": 1}', "--port={port}")


def test_pools_are_sorted_by_what_they_need(config: Config) -> None:
    text = "pools: {k: {models: [x], architecture: phi-4, gpu: H100, replicas: {kubernetes: {name: x}}}}"
    assert needs_autoscaler(config) == ("grown",)
    assert in_kubernetes(config) == ()
    assert in_kubernetes(parse(text, {}).config) == ("k",)


def test_every_limit_of_the_gateway_can_be_configured() -> None:
    assert set(LimitsSection.model_fields) == {field.name for field in fields(Limits)}


def test_every_number_of_the_scaling_law_can_be_configured() -> None:
    given_elsewhere = {"pool", "min_replicas", "max_replicas", "gpus_per_replica", "kv_capacity_tokens"}
    assert set(AutoscalerSection.model_fields) == {field.name for field in fields(AutoscalerSettings)} - given_elsewhere


def test_defaults_are_those_of_the_gateway() -> None:
    text = "pools: {p: {models: [x], architecture: phi-4, gpu: H100, replicas: {static: ['http://a:1']}}}"
    settings = gateway_settings(parse(text, {}).config, redis_url="unix:///r")
    plain = GatewaySettings(redis_url="unix:///r", pools=settings.pools)
    assert settings == plain
    pool = settings.pools[0]
    unset = type(pool)(
        name=pool.name,
        models=pool.models,
        served_model=pool.served_model,
        architecture=pool.architecture,
        accelerator=pool.accelerator,
        kv_capacity_tokens=pool.kv_capacity_tokens,
        static_replicas=pool.static_replicas,
    )
    assert pool == unset


def test_keys_are_not_in_the_representation_of_settings(config: Config) -> None:
    text = repr(gateway_settings(config, redis_url="unix:///r"))
    assert not [key for key in ("sk-pool", "sk-two", "sk-1") if key in text]
