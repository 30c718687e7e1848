"""What an evaluation prints: figures beside what they shall reach, with the errors behind each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from types import MappingProxyType

import numpy as np

from estimator.dataset.columns import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Of one estimator on one set of held-out measurements."""

    mape: float
    """Mean of |estimate / measured - 1|."""
    wape: float
    """Sum of |estimate - measured| over the sum of what was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One set of held-out measurements."""

    subject: str
    """`H100 vllm bfloat16`, or the name of a model."""
    rows: int
    ours: Errors
    baselines: Mapping[str, Errors] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number, and the bounds that it shall lie in."""

    quantity: str
    split: str
    measure: str
    """What the number is: `median MAPE`, `P90 coverage`."""
    value: float
    low: float | None = None
    high: float | None = None
    baselines: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """The same number of other estimators."""
    lines: Sequence[Line] = ()
    note: str = ""
    """What a reader must know to read the number right."""

    @property
    def met(self) -> bool:
        return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high)


def errors(estimated: Floats, measured: Floats) -> Errors:
    """Raises `ValueError` for no rows, unequal lengths, and what is not positive and finite."""
    if not len(measured) or estimated.shape != measured.shape:
        raise ValueError(f"{estimated.shape} estimates for {measured.shape} measurements")
    for what, values in (("an estimate", estimated), ("a measurement", measured)):
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise ValueError(f"{what} is not a positive finite number")
    return Errors(
        mape=float(np.abs(estimated / measured - 1.0).mean()),
        wape=float(np.abs(estimated - measured).sum() / measured.sum()),
    )


def median_mape(
    lines: Sequence[Line], *, quantity: str, split: str, high: float | None = None, note: str = ""
) -> Figure:
    """The median over lines of their MAPE, ours and of each baseline. Raises `ValueError` for no lines."""
    if not lines:
        raise ValueError(f"{quantity}, {split}: nothing was measured")
    names = dict.fromkeys(name for line in lines for name in line.baselines)
    return Figure(
        quantity=quantity,
        split=split,
        measure="median MAPE",
        value=median(line.ours.mape for line in lines),
        high=high,
        baselines={
            name: median(line.baselines[name].mape for line in lines if name in line.baselines) for name in names
        },
        lines=lines,
        note=note,
    )
