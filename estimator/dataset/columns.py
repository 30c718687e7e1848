"""What all tables of measurements share: equally long numpy columns, text as codes, and where the rows are from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


# Above it a float skips whole numbers: a larger one is no count that was written down.
_LARGEST_WHOLE = 2**53


def whole_numbers(values: Floats, where: str) -> Ints:
    """`values` as integers. `ValueError` for the first that is NaN, infinite, fractional or too large for one.

    `where` names the file and the column in the error.
    """
    whole = np.isfinite(values) & (np.abs(values) <= _LARGEST_WHOLE) & (values == np.rint(values))
    if not whole.all():
        row = int(np.flatnonzero(~whole)[0])
        raise ValueError(f"{where}: {values[row]} in row {row + 1} is not a whole number")
    return values.astype(np.int64)


@dataclass(frozen=True, slots=True)
class Labels:
    """A column of text: `names[codes[row]]`. Millions of rows have a few dozen names."""

    codes: NDArray[np.int32]
    names: tuple[str, ...]

    @classmethod
    def of(cls, values: Sequence[str]) -> Self:
        names, codes = np.unique(np.asarray(values, dtype=np.str_), return_inverse=True)
        return cls(codes.astype(np.int32), tuple(str(name) for name in names))

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: Mask | Ints) -> "Labels":
        return Labels(self.codes[rows], self.names)

    def equal(self, name: str) -> Mask:
        """Where the text is `name`."""
        return np.asarray([one == name for one in self.names], dtype=np.bool_)[self.codes]

    def numbers(self, number_of: Mapping[str, float]) -> Floats:
        """The number of each row's name. A name without a number is an error: unknown is not zero."""
        if unknown := [name for name in self.names if name not in number_of]:
            raise ValueError(f"no number for {unknown}; known are {sorted(number_of)}")
        return np.asarray([number_of[name] for name in self.names], dtype=np.float64)[self.codes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """A table: every field is a column, all equally long."""

    latency_s: Floats
    """Measured time of one execution on one GPU."""

    def __post_init__(self) -> None:
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{type(self).__name__}: columns differ in length: {lengths}")

    def __len__(self) -> int:
        return len(self.latency_s)

    def where(self, rows: Mask | Ints) -> Self:
        """The rows that a mask selects, or those at some indices."""
        columns: dict[str, Any] = {field.name: getattr(self, field.name)[rows] for field in fields(self)}
        return type(self)(**columns)

    def conditions(self) -> dict[str, Ints]:
        """Every column but latencies, as integers."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: np.asarray(column.codes if isinstance(column, Labels) else column, dtype=np.int64)
            for name, column in columns.items()
            if not name.startswith("latency")
        }

    def shapes(self) -> Ints:
        """The conditions of one row each: equal rows were measured under equal conditions."""
        return np.stack(list(self.conditions().values()), axis=1)

    def latencies(self) -> dict[str, Floats]:
        """Every column of measured times, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name.startswith("latency")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a table is from."""

    source: str
    gpu: str
    """A name in `HARDWARE`; of steps of whole engines, which name it row by row, every name that occurs."""
    engine: str
    """`vllm`, `sglang`, `trtllm`, `tgi`."""
    version: str
    op: str
    versions_measured: tuple[str, ...] = ()
    """What the rows themselves say, where they say it: several, or another than `version`, where rows are borrowed."""
    borrowed_from: str | None = None
    """The engine version whose rows stand in for shapes that this one lacks."""
    lent_to: tuple[str, ...] = ()
    """Engine versions that use this table as if it were their own."""

    @property
    def shared_between_versions(self) -> bool:
        """Then a split of train and test by engine version puts the same rows on both sides."""
        own = not self.versions_measured or self.versions_measured == (self.version,)
        return bool(self.lent_to) or self.borrowed_from is not None or not own
