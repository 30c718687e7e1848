"""What tenants use and may use: plain values, no Redis. Money is in the currency of the pools' prices."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import msgspec


class UsageKey(NamedTuple):
    """Whose usage, and of what. `model` is the name that the client sent."""

    tenant: str
    pool: str
    model: str


# Two of these are made for each request: a dataclass takes three times as long.
class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What was used. The sum of usages is a usage."""

    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    """Of the input tokens, those that a replica had in its cache already."""
    output_tokens: int = 0
    prefill_gpu_s: float = 0.0
    decode_gpu_s: float = 0.0
    money: float = 0.0
    """What the GPU-seconds cost."""
    spilled_requests: int = 0
    """Answered by a hosted model; not in `requests`, and their tokens not in the counts above."""
    spilled_input_tokens: int = 0
    spilled_output_tokens: int = 0
    spilled_money: float = 0.0
    """What their tokens cost; not in `money`."""

    @property
    def gpu_s(self) -> float:
        return self.prefill_gpu_s + self.decode_gpu_s

    @property
    def charge(self) -> "Charge":
        """What budgets are charged: GPU-seconds, and all money."""
        return Charge(self.gpu_s, self.money + self.spilled_money)

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            requests=self.requests + other.requests,
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            prefill_gpu_s=self.prefill_gpu_s + other.prefill_gpu_s,
            decode_gpu_s=self.decode_gpu_s + other.decode_gpu_s,
            money=self.money + other.money,
            spilled_requests=self.spilled_requests + other.spilled_requests,
            spilled_input_tokens=self.spilled_input_tokens + other.spilled_input_tokens,
            spilled_output_tokens=self.spilled_output_tokens + other.spilled_output_tokens,
            spilled_money=self.spilled_money + other.spilled_money,
        )


NO_USAGE = Usage()


class Charge(msgspec.Struct, frozen=True):
    """What is taken from a tenant's bucket and budgets; negative where more was charged than was used."""

    gpu_s: float
    money: float = 0.0

    def __add__(self, other: "Charge") -> "Charge":
        return Charge(self.gpu_s + other.gpu_s, self.money + other.money)

    def __sub__(self, other: "Charge") -> "Charge":
        return Charge(self.gpu_s - other.gpu_s, self.money - other.money)


NO_CHARGE = Charge(0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountBatch:
    """What one worker has to book since its last batch. Numbers grow; a number is applied once, however often it comes.

    A request's charges, from admission to settlement, add up to its usage.
    """

    number: int
    """From 1."""
    usage: Mapping[UsageKey, Usage]
    charges: Mapping[str, Charge]
    """By tenant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What all workers have charged to a tenant in the present day or month of UTC, by the Redis clock."""

    gpu_s: float
    money: float
    left_s: float
    """Until the next day or month begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What Redis knows of one tenant now."""

    bucket_gpu_s: float | None
    """Below zero: debt. `None`: asked without a rate."""
    day: Spent
    month: Spent


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """One tenant's usage of one model on one day of UTC, the day on which it was booked."""

    day: date
    key: UsageKey
    usage: Usage
