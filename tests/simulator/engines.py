"""Engines small enough to reason about, and a way to run them to the end."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from simulator.engine import Engine
from simulator.request import EngineRequest, EngineSettings, RequestId, StepClock, StepResult


@dataclass(slots=True)
class UnitSteps:
    """Every step takes one second; `calls` keeps what the engine asked for."""

    calls: list[dict[str, float]] = field(default_factory=list)

    def time_s(
        self, *, prefill_tokens: int, prefill_pairs: float, decode_sequences: int, decode_kv_tokens: int
    ) -> float:
        self.calls.append(
            {
                "prefill_tokens": prefill_tokens,
                "prefill_pairs": prefill_pairs,
                "decode_sequences": decode_sequences,
                "decode_kv_tokens": decode_kv_tokens,
            }
        )
        return 1.0


def engine(
    *,
    kv_tokens: int = 1600,
    max_batched_tokens: int = 64,
    max_sequences: int = 8,
    max_waiting: int = 100,
    prefix_cache: bool = True,
    steps: StepClock | None = None,
) -> Engine:
    settings = EngineSettings(
        kv_tokens=kv_tokens,
        max_batched_tokens=max_batched_tokens,
        max_sequences=max_sequences,
        max_waiting=max_waiting,
        max_context_tokens=kv_tokens // 16 * 16,
        prefix_cache=prefix_cache,
    )
    return Engine(settings, steps or UnitSteps())


def request(name: str, input_tokens: int, output_tokens: int, prefix: Iterable[int] = ()) -> EngineRequest:
    return EngineRequest(
        request_id=RequestId(name), input_tokens=input_tokens, output_tokens=output_tokens, prefix=tuple(prefix)
    )


def run_to_end(subject: Engine, now_s: float = 0.0) -> list[StepResult]:
    results: list[StepResult] = []
    while not subject.idle:
        results.append(subject.step(now_s))
        now_s = results[-1].ended_at_s
        assert len(results) < 100_000
    return results


def kinds(result: StepResult) -> list[tuple[str, str]]:
    return [(event.kind.value, event.request_id) for event in result.events]
