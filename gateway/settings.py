"""What a gateway needs to know, as values. Whoever starts it builds these; nothing here reads files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backlog.order import Order
from backlog.records import PoolName
from backlog.ticket import DEFAULT_PRIORITY
from estimator.accelerator import Accelerator
from estimator.architecture import Architecture
from estimator.calibrate_parts import AS_PRICED, PartScalars, calibrated
from estimator.choice import choose_step
from estimator.engine import Engine
from estimator.price import Price, price_from_step
from gateway.pick import PickRule
from gateway.spill import SpillSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticReplica:
    """A replica whose address is in the configuration. `url` has no `/v1`: endpoint paths are appended to it."""

    name: str
    url: str
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """The replicas that serve one model, and how work for them is weighed and admitted."""

    name: PoolName
    models: tuple[str, ...]
    """Names that clients send in `"model"`; one with `*` stands for every name that it matches."""
    served_model: str
    """The name that replicas expect; written into the body when it differs from the client's."""
    served_as: Mapping[str, str] = field(default_factory=dict)
    """The same for single `models`, where it is another; each `*` stands for what it matched in the client's."""
    hidden: frozenset[str] = frozenset()
    """Those of `models` that are served and not listed."""
    architecture: Architecture
    accelerator: Accelerator
    tensor_parallel: int = 1
    engine: Engine = Engine.VLLM
    """The model server whose kernels are priced."""
    planning_batch: int | None = None
    """`None`: the largest that keeps `tpot_slo_s` and whose KV fits."""
    prefill_chunk_tokens: int = 2048
    kv_capacity_tokens: int
    """KV cache tokens of one replica."""
    max_in_flight: int | None = None
    """Requests that one replica runs at once, over all workers; others wait here. `None`: its KV cache decides."""
    calibration: PartScalars = AS_PRICED
    """What was measured on a replica: the parts of the price are multiplied by it."""
    tokenizer: Path | None = None
    """The model's `tokenizer.json`, to count input tokens with; `None`: they are estimated from kinds of bytes."""
    static_replicas: tuple[StaticReplica, ...] = ()
    """Empty when a scaler publishes the replicas in the backlog."""
    replica_api_key: str | None = field(default=None, repr=False)
    """Sent to replicas that a scaler publishes."""
    dispatch_prefill_s: float = 0.25
    """A replica with more outstanding prefill than this gets no further work (policy study: 0.1-0.25 s)."""
    contested_prefill_s: float = 0.1
    """The same while tenants compete: the model server's own queue is not ours to order."""
    externality: float = 0.01
    """`mu` of the pick score; 0.03-0.1 for pools of mixed GPUs."""
    max_waiting: int = 1000
    """Requests that may wait for the pool, over all workers. When it is full, the tenant with the most gives way."""
    order: Order = Order.FAIR
    wait_bound_s: float = 15.0
    """A request that has waited this long goes before its tenant's others, and waits for no lower priority's sake."""
    max_wait_s: float = 30.0
    """A request that has waited this long is evicted with 503; while no replica is ready, a cold start longer."""
    cold_start_s: float = 60.0
    """Used in wait estimates until the autoscaler has measured one."""
    ttft_slo_s: float | None = 2.0
    tpot_slo_s: float | None = None
    price_per_gpu_hour: float | None = None
    """Money, in whatever currency the operator thinks in; `None`: this pool's work costs nothing."""
    spill: SpillSettings | None = None
    """The hosted model for requests that would wait too long; `None`: all wait."""

    @property
    def leases_slots(self) -> bool:
        """Whether several workers share slots by leases, which Redis counts at once; not where nothing may wait."""
        return self.max_in_flight is not None and self.max_waiting > 0

    def money(self, gpu_s: float) -> float:
        """What GPU-seconds of this pool cost a tenant."""
        return 0.0 if self.price_per_gpu_hour is None else gpu_s / 3600.0 * self.price_per_gpu_hour

    def price(self) -> Price:
        """What this pool's GPU-seconds per token are, from learned kernels where there are weights.

        Reads the weights and compiles its tables: some 20 ms.
        """
        chosen = choose_step(
            self.architecture, self.accelerator, tensor_parallel=self.tensor_parallel, engine=self.engine
        )
        price = price_from_step(
            chosen.step,
            source=chosen.source,
            fit=chosen.fit,
            reason=chosen.reason,
            planning_batch=self.planning_batch,
            prefill_chunk_tokens=self.prefill_chunk_tokens,
            kv_tokens=self.kv_capacity_tokens,
            most_sequences=self.max_in_flight,
            tpot_s=self.tpot_slo_s,
        )
        return calibrated(price, self.calibration)

    def pick_rule(self, price: Price) -> PickRule:
        """When a replica of this pool has room, and what its score is made of."""
        return PickRule(
            kv_read_s_per_token=price.kv_read_s_per_token,
            kv_capacity_tokens=self.kv_capacity_tokens,
            prefill_chunk_tokens=self.prefill_chunk_tokens,
            externality=self.externality,
            dispatch_prefill_s=self.dispatch_prefill_s,
            max_in_flight=self.max_in_flight,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """What one tenant may use, over all workers and pools unless it says otherwise. `None`: no limit."""

    gpu_s_per_minute: float | None = None
    """GPU-seconds that refill in a minute, and the most that are saved up. A request may take them below zero."""
    concurrent_gpu_s: float | None = None
    """GPU-seconds of the tenant's requests in flight, per pool; what is over it waits."""
    prefill_pace: float | None = None
    """Prefill seconds started per second, per pool: what a flood may add to the time between others' tokens."""
    gpu_s_per_day: float | None = None
    """A day of UTC. Requests are refused once it is spent; the last one may go over it. So with the three below."""
    gpu_s_per_month: float | None = None
    money_per_day: float | None = None
    """In the currency of `price_per_gpu_hour`."""
    money_per_month: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantSettings:
    """Who pays. Keys are stored as SHA-256 hex digests, never as text."""

    name: str
    key_sha256: tuple[str, ...]
    weight: float = 1.0
    priority: int = DEFAULT_PRIORITY
    """Of requests that ask for none: 0 to 7, higher goes first."""
    max_priority: int | None = None
    """The highest that a request may ask for; `None`: `priority`."""
    spill: bool = False
    """Its requests may be answered by the hosted model of their pool."""
    limits: TenantLimits = TenantLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what one client or one replica can make a worker hold or wait for."""

    max_header_bytes: int = 32 * 1024
    max_body_bytes: int = 32 * 1024 * 1024
    max_pipelined: int = 16
    """Complete requests that one connection may send ahead of their responses."""
    request_read_s: float = 60.0
    """From a request's first byte to its last."""
    idle_s: float = 75.0
    """A client connection without a request is closed after this."""
    connect_s: float = 2.0
    first_byte_s: float = 600.0
    """From sending a request to a replica to the first byte of its response."""
    stalled_s: float = 120.0
    """Between two reads of a response that has begun; also between two reads of it by its client."""
    keepalive_s: float = 10.0
    """A stream that waits in silence for this long gets its status (200) and a comment, and another each time; 0 turns
    it off.
    """
    attempts: int = 3
    """Replicas that may be given one request, before its first response byte. A refused connection does not count."""
    drain_s: float = 30.0
    write_high_water_bytes: int = 256 * 1024
    """Unsent response bytes for one client at which its replica is no longer read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """One gateway: its ports, its workers, its pools, who may call it."""

    host: str = "127.0.0.1"
    port: int = 4000
    admin_host: str = "127.0.0.1"
    admin_port: int = 4001
    workers: int = 1
    redis_url: str = field(repr=False)
    """It may hold a password."""
    redis_prefix: str = "wb"
    publish_s: float = 0.05
    """How often a worker publishes its work when it has changed."""
    pools: tuple[PoolSettings, ...]
    tenants: tuple[TenantSettings, ...] = ()
    """No tenants: every request is served as tenant `anonymous`."""
    spill_socket: Path | None = None
    """Where the spill process answers; `None`: nothing spills from this process."""
    limits: Limits = Limits()
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Model names, also with `*`, that no pool serves, and why: said where one is asked for."""
