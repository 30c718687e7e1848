"""Weighbridge's own sections of the configuration file: keys, units, bounds and the relations between them.

A default of `None` means: the default of the process that uses the value (`gateway.settings`, `autoscaler.settings`).
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, field_validator
from pydantic_core.core_schema import ValidationInfo

from backlog.order import Order
from backlog.records import BANDS
from backlog.ticket import DEFAULT_PRIORITY
from estimator.accelerator import find_accelerator
from estimator.architecture import Architecture
from estimator.engine import Engine
from estimator.huggingface import architecture_from_config
from estimator.models import MODELS, find_model, model_names
from estimator.work import kv_capacity_tokens
from weighbridge.calibrate.file import check_calibration, fingerprint, step_of
from weighbridge.config_autoscaler import AutoscalerSection
from weighbridge.config_controller import ControllerSection
from weighbridge.config_errors import did_you_mean
from weighbridge.config_fields import (
    LEAST_CHUNK_TOKENS,
    MOST_GPUS,
    MOST_PLANNING_BATCH,
    Count,
    CountOrZero,
    KeyDigest,
    ModelName,
    ModelPattern,
    Name,
    Number,
    Port,
    Positive,
    RedisUrl,
    Seconds,
    SecondsOrZero,
    Secret,
    Section,
    Whole,
    gpu_name,
)
from weighbridge.config_replicas import ReplicasSection
from weighbridge.config_spill import SpillSection


class PoolLimitsSection(Section):
    """How much a pool's replicas and its waiting room take."""

    dispatch_prefill_s: Seconds = 0.25
    """A replica with more outstanding prefill than this gets no further work."""
    contested_prefill_s: Seconds = 0.1
    """The same while tenants compete; above `dispatch_prefill_s` it has no effect."""
    order: Order = Order.FAIR
    """`fair`: tenants take turns by GPU-seconds, shorter work first inside each; `shortest`; `fcfs`."""
    max_waiting: CountOrZero = 1000
    """Requests that may wait for the pool. When it is full, the tenant with the most gives way with 429."""
    wait_bound_s: Seconds = 15.0
    """A request that has waited this long goes before its tenant's others, in whatever band anyone waits."""
    max_wait_s: Seconds = 30.0
    """A request that has waited this long is evicted with 503."""
    externality: Annotated[Number, Field(ge=0, le=1)] = 0.01
    """`mu` of the pick score; 0.03-0.1 for pools of mixed GPUs."""


class SloSection(Section):
    """What a request should see. `null`: no objective."""

    ttft_s: Seconds | None = 2.0
    tpot_s: Seconds | None = None


def _architecture(value: Any) -> Any:
    if isinstance(value, str):
        if find_model(value) is None:
            raise ValueError(f"no built-in model has this name; {did_you_mean(value, MODELS, model_names())}")
    elif isinstance(value, dict):
        architecture_from_config(value, "config")
    else:
        raise ValueError("must be a model name, the path of a HuggingFace config.json, or its content")
    return value


def _calibration(value: Any) -> Any:
    if value is not None:
        if not isinstance(value, dict):
            raise ValueError("must be the path of a calibration file")
        check_calibration(value)
    return value


def architecture_of(value: str | dict[str, Any], name: str) -> Architecture:
    """The architecture that a validated `architecture` value stands for."""
    found = find_model(value) if isinstance(value, str) else architecture_from_config(value, name)
    if found is None:
        raise ValueError(f"{value}: no built-in model has this name")
    return found


class PoolSection(Section):
    """The replicas that serve one model."""

    models: Annotated[tuple[ModelPattern, ...], Field(min_length=1)]
    """Names that clients send in `"model"`; a `*` stands for anything."""
    served_model: ModelName
    """The name that the replicas know. Default: the first of `models`."""
    served_as: dict[ModelPattern, ModelPattern] = Field(default_factory=dict)
    """For single `models`, the name that the replicas know them by; each `*` becomes what it matched in the first."""
    hidden: tuple[ModelPattern, ...] = ()
    """Those of `models` that `/v1/models` does not list."""
    architecture: Annotated[str | dict[str, Any], BeforeValidator(_architecture)]
    """A built-in name, the path of a HuggingFace `config.json`, or its content. Default: from `served_model`."""
    gpu: Annotated[str, AfterValidator(gpu_name)]
    tensor_parallel: Annotated[Count, Field(le=MOST_GPUS)] = 1
    """GPUs per replica. Divides the model's attention heads."""
    engine: Engine = Engine.VLLM
    """The model server whose measured kernels price the pool: `vllm`, `sglang`, `trtllm`."""
    planning_batch: Annotated[Count, Field(le=MOST_PLANNING_BATCH)] | None = None
    """The batch size at which the pool is meant to run; prices hold there. Default: what `slo.tpot_s` and KV allow."""
    prefill_chunk_tokens: Annotated[Count, Field(ge=LEAST_CHUNK_TOKENS)] = 2048
    """Prefill tokens that a replica computes in one step."""
    kv_tokens: Annotated[Count | None, Field(validate_default=True)] = None
    """KV cache tokens of one replica. Default: GPU memory less weights and activations."""
    max_in_flight: Count | None = None
    """Requests that one replica runs at once; others wait in order here instead of in the replica or for its 429."""
    api_key: Secret | None = None
    """Sent to replicas that have no key of their own."""
    tokenizer: Annotated[str | None, Field(min_length=1)] = None
    """The path of the model's `tokenizer.json`, or of its folder: input tokens are counted. Default: estimated."""
    calibration: Annotated[dict[str, Any] | None, BeforeValidator(_calibration)] = None
    """The path of a file that `weighbridge calibrate` wrote for this model, GPU and `tensor_parallel`."""
    price_per_gpu_hour: Positive | None = None
    """Money, in any one currency; what tenants pay for a GPU-second times 3600."""
    replicas: ReplicasSection
    limits: PoolLimitsSection = PoolLimitsSection()
    slo: SloSection = SloSection()
    autoscaler: AutoscalerSection = AutoscalerSection()
    spill: SpillSection | None = None
    """The hosted model for requests that would wait too long. Default: all wait."""

    @field_validator("spill")
    @classmethod
    def _comparable(cls, value: SpillSection | None, info: ValidationInfo) -> SpillSection | None:
        if value is not None and value.premium is not None and info.data.get("price_per_gpu_hour") is None:
            raise ValueError("premium compares with GPU-seconds, and the pool has no price_per_gpu_hour")
        return value

    @field_validator("models")
    @classmethod
    def _once_each(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted({model for model in value if value.count(model) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} is listed twice")
        return value

    @field_validator("served_as")
    @classmethod
    def _stars_match(cls, value: dict[str, str]) -> dict[str, str]:
        for model, served in value.items():
            if served.count("*") not in (0, model.count("*")):
                raise ValueError(f"{model!r} has another number of wildcards than {served!r}")
        return value

    @field_validator("tensor_parallel")
    @classmethod
    def _divides_the_heads(cls, value: int, info: ValidationInfo) -> int:
        if "architecture" in info.data:
            heads = architecture_of(info.data["architecture"], "config").heads
            if heads % value:
                raise ValueError(f"does not divide the {heads} attention heads of the model")
        return value

    @field_validator("calibration")
    @classmethod
    def _of_this_pool(cls, value: dict[str, Any] | None, info: ValidationInfo) -> dict[str, Any] | None:
        if value is None:
            return None
        known = info.data
        for name in ("gpu", "tensor_parallel"):
            if name in known and value[name] != known[name]:
                raise ValueError(f"was measured with {name} {value[name]}, and this pool has {known[name]}")
        if {"models", "served_model", "architecture"} <= set(known):
            names = {known["served_model"], *known["models"]}
            names |= {known["architecture"]} if isinstance(known["architecture"], str) else set()
            if value["model"] not in names:
                raise ValueError(
                    f"was measured of model {value['model']}, and this pool serves {known['served_model']}"
                )
        accelerator = find_accelerator(known.get("gpu", ""))
        if accelerator is not None and {"architecture", "tensor_parallel"} <= set(known):
            shape = architecture_of(known["architecture"], "config")
            gpus, engine = known["tensor_parallel"], known.get("engine", Engine.VLLM)
            if value["step"] != fingerprint(step_of(shape, accelerator, tensor_parallel=gpus, engine=engine)):
                raise ValueError("was fitted against another price of this model, by another release; measure again")
        return value

    @field_validator("kv_tokens")
    @classmethod
    def _fits(cls, value: int | None, info: ValidationInfo) -> int | None:
        known = info.data
        if value is not None or not {"architecture", "gpu", "tensor_parallel"} <= set(known):
            return value
        accelerator = find_accelerator(known["gpu"])
        if accelerator is None:
            return value
        architecture = architecture_of(known["architecture"], "config")
        capacity = kv_capacity_tokens(architecture, accelerator, known["tensor_parallel"])
        if capacity < 1:
            gigabytes = architecture.weight_bytes / 1e9
            raise ValueError(
                f"the weights ({gigabytes:.0f} GB) leave no room for KV cache on {known['tensor_parallel']} x "
                f"{known['gpu']}; raise tensor_parallel, or set kv_tokens"
            )
        return capacity

    @field_validator("replicas")
    @classmethod
    def _fits_everywhere(cls, value: ReplicasSection, info: ValidationInfo) -> ReplicasSection:
        if {"architecture", "tensor_parallel"} <= set(info.data):
            architecture = architecture_of(info.data["architecture"], "config")
            for target in value.kubernetes or ():
                gpu = find_accelerator(target.gpu or "")
                if gpu is not None and kv_capacity_tokens(architecture, gpu, info.data["tensor_parallel"]) < 1:
                    raise ValueError(f"{target.label}: the weights leave no room for KV cache on {gpu.name}")
        return value


Priority = Annotated[Whole, Field(ge=0, lt=BANDS)]


class TenantLimitsSection(Section):
    """What one tenant may use; `gateway.settings.TenantLimits` has the meaning of each value."""

    gpu_s_per_minute: Positive | None = None
    concurrent_gpu_s: Positive | None = None
    prefill_pace: Positive | None = None
    gpu_s_per_day: Positive | None = None
    gpu_s_per_month: Positive | None = None
    money_per_day: Positive | None = None
    money_per_month: Positive | None = None

    @field_validator("gpu_s_per_month", "money_per_month")
    @classmethod
    def _not_under_a_day(cls, value: float | None, info: ValidationInfo) -> float | None:
        day = str(info.field_name).replace("_month", "_day")
        in_a_day = info.data.get(day)
        if value is not None and in_a_day is not None and value < in_a_day:
            raise ValueError(f"must be at least {day} ({in_a_day:g})")
        return value


class TenantSection(Section):
    """Who pays, and by which keys it is known."""

    keys: Annotated[tuple[KeyDigest, ...], Field(min_length=1)]
    """Each one `sha256:` and the hexadecimal digest, or a plain key (hashed when it is read), or `os.environ/NAME`."""
    weight: Annotated[Number, Field(gt=0)] = 1.0
    """Share of a busy pool relative to other tenants."""
    priority: Priority = DEFAULT_PRIORITY
    """Of requests that ask for none; higher goes first."""
    max_priority: Priority | None = None
    """The highest that a request may ask for. Default: `priority`."""
    spill: bool = False
    """Whether requests may be answered by the hosted model of their pool."""
    limits: TenantLimitsSection = TenantLimitsSection()

    @field_validator("max_priority")
    @classmethod
    def _not_under_the_priority(cls, value: int | None, info: ValidationInfo) -> int | None:
        priority = info.data.get("priority")
        if value is not None and priority is not None and value < priority:
            raise ValueError(f"must be at least priority ({priority})")
        return value


class LimitsSection(Section):
    """Bounds on what one client or one replica can make a gateway worker hold or wait for."""

    max_header_bytes: Count | None = None
    max_body_bytes: Count | None = None
    max_pipelined: Count | None = None
    request_read_s: Seconds | None = None
    idle_s: Seconds | None = None
    connect_s: Seconds | None = None
    first_byte_s: Seconds | None = None
    stalled_s: Seconds | None = None
    keepalive_s: SecondsOrZero | None = None
    attempts: Count | None = None
    drain_s: Seconds | None = None
    write_high_water_bytes: Count | None = None


class GatewaySection(Section):
    """Ports and workers."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Port = 4000
    admin_host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    admin_port: Annotated[Port, Field(validate_default=True)] = 4001
    workers: Annotated[Count, Field(le=256)] = 1
    """Processes that share the port."""
    publish_s: Seconds | None = None
    """How often a worker publishes its work when it has changed."""
    limits: LimitsSection = LimitsSection()

    @field_validator("admin_port")
    @classmethod
    def _not_the_port(cls, value: int, info: ValidationInfo) -> int:
        if value == info.data.get("port"):
            raise ValueError("must not be gateway.port")
        return value


class RedisSection(Section):
    """Where the backlog lives. Without this section `up` starts a private Redis."""

    url: RedisUrl
    prefix: Name = "wb"


class Config(Section):
    """A whole configuration: LiteLLM's sections have become pools and tenants."""

    pools: Annotated[dict[Name, PoolSection], Field(min_length=1)]
    tenants: dict[Name, TenantSection] = Field(default_factory=dict)
    """None: every request is served, as tenant `anonymous`."""
    autoscaler: AutoscalerSection = AutoscalerSection()
    gateway: GatewaySection = GatewaySection()
    redis: RedisSection | None = None
    elsewhere: dict[ModelPattern, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    """Model names that no pool serves and that are known, with what a client is told who asks for one."""
    controller: ControllerSection = ControllerSection()
