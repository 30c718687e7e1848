"""CSV files as numpy columns."""

import csv
from pathlib import Path

import numpy as np

from estimator.dataset.columns import Floats, Ints, Labels, whole_numbers


class CsvFile:
    """The columns of one file with a header, converted as they are asked for.

    `ValueError`, naming the file and what is wrong in it, where it is not CSV in UTF-8, rows differ in length, a column
    is missing, or a value is not what is asked for.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not CSV in UTF-8: {error}") from None
        if not rows:
            raise ValueError(f"{path}: no header")
        header, *body = rows
        for number, row in enumerate(body, 1):
            if len(row) != len(header):
                raise ValueError(f"{path}: {len(row)} values in row {number} for {len(header)} columns")
        self._columns = {name: [row[index] for row in body] for index, name in enumerate(header)}

    def ints(self, name: str) -> Ints:
        """A column of whole numbers: NaN and fractions are errors."""
        return whole_numbers(self.floats(name), f"{self._path}: {name}")

    def floats(self, name: str) -> Floats:
        """A column of numbers; NaN is one of them."""
        texts = self._texts(name)
        try:
            return np.asarray(texts, dtype=np.float64)
        except ValueError:
            row = next(row for row, text in enumerate(texts, 1) if not _is_number(text))
            raise ValueError(f"{self._path}: {name}: {texts[row - 1]!r} in row {row} is not a number") from None

    def labels(self, name: str) -> Labels:
        return Labels.of(self._texts(name))

    def _texts(self, name: str) -> list[str]:
        if name not in self._columns:
            raise ValueError(f"{self._path}: no column {name}")
        return self._columns[name]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
