"""What an experiment returns, and the numbers that all of them need."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.order.setup import Hardware
from benchmarks.order.workloads import SHORT_TOKENS, Sources
from benchmarks.order.world import Served

Cell = str | float | int | None
TTFT_S = 2.0
TTFT_OWN_RATIO = 1.5
"""TTFT counts as met within 2 s; for prompts that are not short within 2 s and 1.5 times their own prefill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """The conditions of a run. `scale` shortens the virtual time: 1 is the full length."""

    hardware: Hardware
    sources: Sources
    replicas: int = 8
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A table: one dictionary a row, with the same keys in the same order."""

    name: str
    title: str
    rows: tuple[dict[str, Cell], ...]
    notes: tuple[str, ...] = ()


def quantile(values: Iterable[float | None], q: float) -> float | None:
    """Nearest rank over all of `values`; what never happened (None) is later than everything. None for that."""
    ordered = sorted(math.inf if value is None else value for value in values)
    if not ordered:
        return None
    value = ordered[max(0, math.ceil(q * len(ordered)) - 1)]
    return value if math.isfinite(value) else None


def p95(values: Iterable[float | None]) -> float | None:
    return quantile(values, 0.95)


def ttft_met_ratio(served: Iterable[Served]) -> float | None:
    """Share that met the TTFT; a request that was never served did not. None without requests."""
    met = [one.ttft_s is not None and one.ttft_s <= _limit_s(one) for one in served]
    return sum(met) / len(met) if met else None


def arrived(served: Iterable[Served], tenants: Iterable[str], from_s: float, to_s: float) -> list[Served]:
    """The requests of some tenants that arrived in a window."""
    wanted = frozenset(tenants)
    return [one for one in served if one.job.tenant in wanted and from_s <= one.job.at_s < to_s]


def ratio(value: float | None, reference: float | None) -> float | None:
    """`value` over `reference`; None when either is unknown or the reference is 0."""
    return None if value is None or not reference else value / reference


def _limit_s(one: Served) -> float:
    short = one.job.input_tokens <= SHORT_TOKENS
    return TTFT_S if short else TTFT_S + TTFT_OWN_RATIO * one.used_prefill_s
