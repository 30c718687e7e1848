"""The tables of measurements that kernels are trained on and judged by."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from estimator.dataset import aiconfigurator, mixed_batches
from estimator.dataset.columns import Columns, Origin


def tables(installed: Path, gpu_folder: Path | None) -> Iterator[tuple[Origin, Columns]]:
    """Those of the package in `installed`, then the mixed batches in `gpu_folder`, one at a time.

    Raises `ValueError` at once where `gpu_folder` is given and holds no mixed batches.
    """
    if gpu_folder is None:
        return aiconfigurator.load(installed)
    folder = gpu_folder / "mixed_batches"
    if not folder.is_dir():
        raise ValueError(f"{gpu_folder}: no folder {folder.name} in it")
    return chain(aiconfigurator.load(installed), mixed_batches.load(folder))
