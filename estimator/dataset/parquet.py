"""Parquet files as numpy columns. The only module that imports pyarrow, and only when a file is read."""

from pathlib import Path
from typing import Any

import numpy as np

from estimator.dataset.columns import Floats, Ints, Labels


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
        """A column of integers; `missing` in every row if the file lacks it, an error without one."""
        if name not in self.names and missing is not None:
            return np.full(len(self), missing, dtype=np.int64)
        return np.asarray(self._whole(name).to_numpy(), dtype=np.int64)

    def floats(self, name: str) -> Floats:
        """A column of numbers; null is not a number."""
        return np.asarray(self._table[name].to_numpy(), dtype=np.float64)

    def labels(self, name: str, *, missing: str | None = None) -> Labels:
        if name not in self.names and missing is not None:
            return Labels(np.zeros(len(self), dtype=np.int32), (missing,))
        encoded = self._whole(name).combine_chunks().dictionary_encode()
        codes = np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int32)
        return Labels(codes, tuple(str(value) for value in encoded.dictionary.to_pylist()))

    def _whole(self, name: str) -> Any:
        column = self._table[name]
        if column.null_count:
            raise ValueError(f"{self._path}: {name} lacks a value in {column.null_count} rows")
        return column
