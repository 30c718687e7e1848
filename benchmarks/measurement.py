"""What the benchmark measures, as values."""

from dataclasses import dataclass
from enum import StrEnum


class TargetName(StrEnum):
    DIRECT = "direct"
    """The load generator on the backend itself: the most that this method can show."""
    NGINX = "nginx"
    WEIGHBRIDGE = "weighbridge"
    VLLM_ROUTER = "vllm-router"
    SGLANG_ROUTER = "sglang-router"


ROUTERS = (TargetName.VLLM_ROUTER, TargetName.SGLANG_ROUTER)


class Prompt(StrEnum):
    SMALL = "1.3 KB"
    LARGE = "34 KB"


PROMPT_BYTES = {Prompt.SMALL: 1300, Prompt.LARGE: 34_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """One run of the load generator. `target_cpu_s` is 0 for the direct target."""

    target: TargetName
    prompt: Prompt
    requests: int
    wall_s: float
    p50_ms: float
    p99_ms: float
    target_cpu_s: float
    load_cpu_s: float
    """CPU seconds of load generator and backend, which share a core."""

    @property
    def requests_per_s(self) -> float:
        return self.requests / self.wall_s

    @property
    def us_per_request(self) -> float:
        return self.target_cpu_s / self.requests * 1e6

    @property
    def target_busy_ratio(self) -> float:
        return self.target_cpu_s / self.wall_s

    @property
    def load_busy_ratio(self) -> float:
        return self.load_cpu_s / self.wall_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Streaming:
    """One run of many event streams, from the first request to the last event. CPU seconds as in `Throughput`."""

    target: TargetName
    events: int
    expected_events: int
    ideal_s: float
    """How long the streams last when nothing delays them."""
    wall_s: float
    target_cpu_s: float
    load_cpu_s: float

    @property
    def us_per_event(self) -> float:
        return self.target_cpu_s / self.events * 1e6
