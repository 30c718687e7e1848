"""`python -m estimator.train`: from measurements to the weights that ship, in `estimator/weights/`."""

import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from estimator.dataset import aiconfigurator, mixed_batches
from estimator.dataset.columns import Columns, Mask, Origin
from estimator.dataset.split import EmptySideError, unseen_shapes
from estimator.engine import Engine
from estimator.kernels.library import POOLED
from estimator.kernels.model import Op
from estimator.kernels.weights import FOLDER
from estimator.train.files import data_sha256, note_name, write
from estimator.train.fit import Fitted, Recipe, fit, predict
from estimator.train.samples import SampleSet, collect, pool

TEST_RATIO = 0.2
SETS_AT_ONCE = 24


def tables(installed: Path, gpu_folder: Path | None) -> Iterator[tuple[Origin, Columns]]:
    yield from aiconfigurator.load(installed)
    if gpu_folder is not None:
        yield from mixed_batches.load(gpu_folder / "mixed_batches")


def fit_all(
    sets: Sequence[SampleSet], train: Sequence[Mask], recipe: Recipe, progress: Progress, name: str
) -> list[Fitted]:
    """`fit` over sets of several ops, a few sets at a time. In the order of `sets`."""
    groups: dict[Op, list[int]] = {}
    for index, one in enumerate(sets):
        groups.setdefault(one.op, []).append(index)
    batches = [
        indices[start : start + SETS_AT_ONCE]
        for indices in groups.values()
        for start in range(0, len(indices), SETS_AT_ONCE)
    ]
    task = progress.add_task(name, total=len(batches))
    found: dict[int, Fitted] = {}
    for batch in batches:
        fitted = fit([sets[index] for index in batch], [train[index] for index in batch], recipe)
        found |= dict(zip(batch, fitted, strict=True))
        progress.advance(task)
    return [found[index] for index in range(len(sets))]


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
    chosen = parser.parse_args(arguments)
    console = Console(stderr=True)
    installed = aiconfigurator.data_folder()
    if installed is None:
        console.print("without aiconfigurator-core: pip install 'weighbridge[train]'")
        return 2
    if chosen.gpu_folder is not None and not (chosen.gpu_folder / "mixed_batches").is_dir():
        console.print(f"{chosen.gpu_folder}: no folder mixed_batches in it")
        return 2
    torch.use_deterministic_algorithms(True)
    recipe = Recipe(seed=chosen.seed, steps=chosen.steps)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        reading = progress.add_task("measurements", total=None)
        own = collect(_counted(tables(installed, chosen.gpu_folder), progress, reading), seed=chosen.seed)
        progress.update(reading, total=progress.tasks[reading].completed)
        sets = own + pool(own, seed=chosen.seed)
        train = splits(sets)
        every = [np.ones(len(one), dtype=np.bool_) for one in sets]
        tested = fit_all(sets, train, recipe, progress, "errors on unseen shapes")
        notes = {
            note_name(fitted.key): note(one, mask, fitted)
            for one, mask, fitted in zip(sets, train, tested, strict=True)
        }
        shipped = fit_all(sets, every, recipe, progress, "weights from all rows")
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


def _counted(
    found: Iterator[tuple[Origin, Columns]], progress: Progress, task: Any
) -> Iterator[tuple[Origin, Columns]]:
    for one in found:
        progress.advance(task)
        yield one


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
