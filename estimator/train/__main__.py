"""`python -m estimator.train`: from measurements to the weights that ship, in `estimator/weights/`."""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from estimator.dataset import aiconfigurator
from estimator.dataset.columns import Columns, Mask, Origin
from estimator.dataset.split import EmptySideError, unseen_shapes
from estimator.engine import Engine
from estimator.kernels.library import POOLED
from estimator.kernels.model import Op
from estimator.kernels.weights import FOLDER
from estimator.train.files import data_sha256, note_name, write
from estimator.train.fit import Fitted, Recipe, predict
from estimator.train.fitter import fitter, process_count
from estimator.train.samples import SampleSet, collect, pool
from estimator.train.tables import tables

TEST_RATIO = 0.2


def splits(sets: Sequence[SampleSet]) -> list[Mask]:
    """Rows to train on before errors are counted: all of a set whose shapes are few, or all drawn for one side."""
    return [_train(one) for one in sets]


def _train(one: SampleSet) -> Mask:
    every = np.ones(len(one), dtype=np.bool_)
    if len(np.unique(one.shapes, axis=0)) < 10:
        return every
    try:
        return unseen_shapes(one.shapes, TEST_RATIO).train
    except EmptySideError:
        return every


def note(one: SampleSet, train: Mask, fitted: Fitted) -> dict[str, Any]:
    """What the card says of a set: where from, how many rows, and the error on shapes that its fit had not seen."""
    test = ~train & one.scored
    error = None
    if test.any():
        held_out = one.where(test)
        error = round(float(np.abs(predict(fitted, held_out) / held_out.latency_s - 1.0).mean()), 4)
    return {"source": one.source, "rows": len(one), "test_rows": int(test.sum()), "unseen_shapes_error_ratio": error}


def borrowed(fitted: Sequence[Fitted]) -> Iterator[tuple[Fitted, str]]:
    """Sets that an engine lacks, with the engine they are from.

    vLLM is timed only with the projections around its latent attention; the kernel alone is the one SGLang calls. A GPU
    that was never measured shall lack nothing under any engine: mixed batches, for example, were measured under vLLM.
    """
    have = {one.key for one in fitted}
    latent = (Op.LATENT_PREFILL.value, Op.LATENT_DECODE.value)
    order = [one.value for one in Engine]
    for engine in order:
        for one in sorted(fitted, key=lambda one: order.index(one.key[1])):
            gpu, owner, op, kind = one.key
            allowed = gpu == POOLED or (engine == Engine.VLLM and owner == Engine.SGLANG and op in latent)
            if allowed and (gpu, engine, op, kind) not in have:
                have.add((gpu, engine, op, kind))
                yield replace(one, key=(gpu, engine, op, kind)), owner


def main(arguments: list[str]) -> int:
    parser = ArgumentParser(prog="python -m estimator.train", description=__doc__)
    parser.add_argument("--gpu-folder", type=Path, help="with mixed_batches/: mixed steps and the RTX 4090")
    parser.add_argument(
        "--output", type=Path, default=FOLDER, help="where to write, by default where weights ship from"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=Recipe().steps, help="of the optimizer, per fit")
    parser.add_argument(
        "--processes", type=process_count, default=os.cpu_count() or 1, help="the result does not depend on it"
    )
    chosen = parser.parse_args(arguments)
    console = Console(stderr=True)
    installed = aiconfigurator.data_folder()
    if installed is None:
        console.print("without aiconfigurator-core: pip install 'weighbridge[train]'")
        return 2
    try:
        measured = tables(installed, chosen.gpu_folder)
    except ValueError as error:
        console.print(str(error), highlight=False)
        return 2
    recipe = Recipe(seed=chosen.seed, steps=chosen.steps)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress, fitter(chosen.processes) as fits:
        reading = progress.add_task("measurements", total=None)
        own = collect(_counted(measured, progress, reading), seed=chosen.seed)
        progress.update(reading, total=progress.tasks[reading].completed)
        sets = own + pool(own, seed=chosen.seed)
        train = splits(sets)
        every = [np.ones(len(one), dtype=np.bool_) for one in sets]
        testing, shipping = (fits.start(sets, rows, recipe) for rows in (train, every))
        tested = testing.result(_bar(progress, "errors on unseen shapes", len(testing.batches)))
        notes = {
            note_name(fitted.key): note(one, mask, fitted)
            for one, mask, fitted in zip(sets, train, tested, strict=True)
        }
        shipped = shipping.result(_bar(progress, "weights from all rows", len(shipping.batches)))
    for one, owner in list(borrowed(shipped)):
        gpu, _, op, kind = one.key
        notes[note_name(one.key)] = notes[note_name((gpu, owner, op, kind))] | {"borrowed_from": owner}
        shipped.append(one)
    card = {
        "format": 1,
        "trained_by": "python -m estimator.train" + (" --gpu-folder ..." if chosen.gpu_folder else ""),
        "versions": {name: version(name) for name in ("aiconfigurator-core", "numpy", "torch", "safetensors")},
        "split": f"unseen_shapes({TEST_RATIO}); the weights that ship are then trained on all rows",
        "recipe": asdict(recipe),
        "data_sha256": data_sha256(own),
    }
    sizes = write(chosen.output, shipped, card, notes)
    console.print(f"{len(shipped)} sets in {len(sizes)} files, {sum(sizes.values())} bytes, in {chosen.output}")
    return 0


def _bar(progress: Progress, name: str, total: int) -> Callable[[], None]:
    task = progress.add_task(name, total=total)
    return lambda: progress.advance(task)


def _counted(
    found: Iterator[tuple[Origin, Columns]], progress: Progress, task: Any
) -> Iterator[tuple[Origin, Columns]]:
    for one in found:
        progress.advance(task)
        yield one


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
