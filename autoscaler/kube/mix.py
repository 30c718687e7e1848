"""Replicas of one pool on several targets, GPUs of several kinds: how many of each. Pure.

A decision is in reference replicas: those of the pool's own GPU. A replica on another GPU is worth `speed` of them. A
fleet counts as the whole reference replicas in it, and as one where it has less.

Worked example: 2 replicas of the reference GPU and 3 of half its speed are 2 + 1.5 = 3.5, so 3.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one target has, and what it may have."""

    name: str
    replicas: int
    minimum: int
    maximum: int
    speed: float = 1.0
    """Reference replicas that one of these is worth."""
    cost_per_hour: float | None = None
    """Of one replica, money. Unknown is taken as dearer than everything known."""
    blocked: bool = False
    """The cluster has no room for another one now."""

    @property
    def cost_per_unit(self) -> float:
        return math.inf if self.cost_per_hour is None else self.cost_per_hour / self.speed


def units(shares: Iterable[Share]) -> int:
    """Whole reference replicas in the shares."""
    shares = tuple(shares)
    total = sum(share.replicas * share.speed for share in shares)
    return max(math.floor(total + ROUNDING), 1 if any(share.replicas for share in shares) else 0)


def bounds(shares: Iterable[Share]) -> tuple[int, int]:
    """The least and the most reference replicas that the shares' own bounds leave."""
    shares = tuple(shares)
    least = units(replace(share, replicas=share.minimum) for share in shares)
    most = units(replace(share, replicas=share.maximum) for share in shares)
    return least, most


def place(shares: Sequence[Share], desired: int) -> tuple[Share, ...]:
    """The shares that are worth `desired`, from what there is: up, the cheapest work first; down, the dearest.

    Blocked shares do not grow. Every share ends within its own bounds, so the result may be worth less or more.
    """
    placed = [replace(share, replicas=_clamp(share.replicas, share)) for share in shares]
    if units(placed) < desired:
        _grow(placed, desired)
    elif units(placed) > desired:
        _shrink(placed, desired)
    return tuple(placed)


def describe(shares: Sequence[Share]) -> str:
    """The shares in words, cheapest first."""
    parts = []
    for share in sorted(shares, key=_cheapest):
        cost = "" if share.cost_per_hour is None else f" at {share.cost_per_unit:.2f} an hour"
        full = ", no room" if share.blocked else ", full" if share.replicas >= share.maximum else ""
        parts.append(f"{share.replicas} of {share.name} (each {share.speed:.2f}{cost}{full})")
    return "cheapest GPU-second first: " + ", ".join(parts)


def _grow(placed: list[Share], desired: int) -> None:
    for index in sorted(range(len(placed)), key=lambda index: _cheapest(placed[index])):
        while units(placed) < desired and placed[index].replicas < placed[index].maximum and not placed[index].blocked:
            placed[index] = replace(placed[index], replicas=placed[index].replicas + 1)


def _shrink(placed: list[Share], desired: int) -> None:
    for index in sorted(range(len(placed)), key=lambda index: _cheapest(placed[index]), reverse=True):
        while placed[index].replicas > placed[index].minimum:
            less = [*placed]
            less[index] = replace(placed[index], replicas=placed[index].replicas - 1)
            if units(less) < desired:
                break
            placed[index] = less[index]


def _cheapest(share: Share) -> tuple[float, str]:
    return share.cost_per_unit, share.name


def _clamp(replicas: int, share: Share) -> int:
    return min(max(replicas, share.minimum), share.maximum)
