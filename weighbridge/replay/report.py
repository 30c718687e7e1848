"""What one replay produced and the report of it, as values.

`None` means unknown everywhere: an attainment without an SLO, GPU-seconds that nobody reported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from weighbridge.replay.record import RequestRecord
from weighbridge.replay.sender import SenderCounts
from weighbridge.replay.status import SeenDecision, StatusSample


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Of `count` values; nearest rank, so every number is a value that occurred."""

    count: int
    mean: float
    p10: float
    p50: float
    p90: float
    p95: float
    p99: float
    maximum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """Limits in seconds; `None` sets no limit."""

    ttft_s: float | None = None
    tpot_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attainment:
    """Share of all requests, in [0, 1], that met the SLO. A lost request met nothing."""

    ttft_ratio: float | None
    tpot_ratio: float | None
    both_ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Sums over the requests whose usage was reported: what the trace asked for and what the model server counted."""

    requests: int
    input_asked: int
    input_used: int
    input_cached: int | None
    output_asked: int
    output_used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """GPU-seconds. `used_gpu_s` is the gateway's price of the reported usage; both sums cover the same `requests`."""

    requests: int
    predicted_gpu_s: float | None
    used_gpu_s: float | None
    error_ratio: Percentiles | None
    """Predicted over used, per request: 1 is exact."""
    gateway_used_gpu_s: float | None
    """What the gateway itself settled over the replay, from `/status`."""
    reserved_gpu_s: float | None
    """Replicas that existed (starting and draining ones too) over the samples, times their GPUs: what is paid for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """The sender about itself."""

    lateness_s: Percentiles | None
    waited_for_connection: int
    peak_open: int
    bottleneck: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPoint:
    """Replicas and waiting requests at `at_s` seconds since the start."""

    at_s: float
    ready: int | None
    starting: int | None
    draining: int | None
    waiting: int | None
    waiting_gpu_s: float | None
    offered_load: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One replay, in seconds. `started_at_s` and decisions count from the epoch, everything else from the start."""

    trace: str
    model: str
    speed: float
    seed: int
    started_at_s: float
    wall_s: float
    requests: int
    complete: int
    lost: int
    endings: Mapping[str, int]
    outcomes: Mapping[str, int]
    """By `x-weighbridge-outcome`; `none` where no header came."""
    first_error: str | None
    slo: Slo
    attainment: Attainment
    ttft_s: Percentiles | None
    tpot_s: Percentiles | None
    e2e_s: Percentiles | None
    queue_s: Percentiles | None
    opened_early: int
    """Streams that the gateway opened while they waited: long waits, which are not in `queue_s`."""
    tokens: Tokens
    work: Work
    by_replica: Mapping[str, int]
    client: Client
    fleet: tuple[FleetPoint, ...]
    decisions: tuple[SeenDecision, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """Everything that one replay produced, before it is summed up."""

    trace: str
    model: str
    speed: float
    seed: int
    started_at_s: float
    wall_s: float
    records: Sequence[RequestRecord]
    counts: SenderCounts
    samples: Sequence[StatusSample]
