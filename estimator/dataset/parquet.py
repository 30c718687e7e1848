"""Parquet files as numpy columns. The only module that imports pyarrow, and only when a file is read."""

from pathlib import Path
from typing import Any

import numpy as np

from estimator.dataset.columns import Floats, Ints, Labels, whole_numbers


class ParquetFile:
    """The columns of one file, converted as they are asked for."""

    def __init__(self, path: Path) -> None:
        # Imported here, so that tables and filters work without the `[train]` extra.
        from pyarrow import parquet

        # Not `read_table`, which takes the folders above for partitions.
        self._table = parquet.ParquetFile(path).read()
        self._path = path
        self.names: tuple[str, ...] = tuple(self._table.column_names)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def ints(self, name: str, *, missing: int | None = None) -> Ints:
        """A column of integers; `missing` in every row if the file lacks it, an error without one.

        A column of floats may hold whole numbers alone; `ValueError`, naming file, column and value, for any other.
        """
        if name not in self.names and missing is not None:
            return np.full(len(self), missing, dtype=np.int64)
        values = self._complete(name).to_numpy()
        if values.dtype.kind in "iu":
            return np.asarray(values, dtype=np.int64)
        return whole_numbers(self._numbers(name, values), self._where(name))

    def floats(self, name: str) -> Floats:
        """A column of numbers; null is not a number."""
        return self._numbers(name, self._column(name).to_numpy())

    def labels(self, name: str, *, missing: str | None = None) -> Labels:
        if name not in self.names and missing is not None:
            return Labels(np.zeros(len(self), dtype=np.int32), (missing,))
        encoded = self._complete(name).combine_chunks().dictionary_encode()
        codes = np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int32)
        return Labels(codes, tuple(str(value) for value in encoded.dictionary.to_pylist()))

    def _column(self, name: str) -> Any:
        if name not in self.names:
            raise ValueError(f"{self._path}: no column {name}")
        return self._table[name]

    def _complete(self, name: str) -> Any:
        column = self._column(name)
        if column.null_count:
            raise ValueError(f"{self._where(name)} lacks a value in {column.null_count} rows")
        return column

    def _numbers(self, name: str, values: Any) -> Floats:
        if values.dtype.kind not in "iuf":
            raise ValueError(f"{self._where(name)} holds {values.dtype}, not numbers")
        return np.asarray(values, dtype=np.float64)

    def _where(self, name: str) -> str:
        return f"{self._path}: {name}"
