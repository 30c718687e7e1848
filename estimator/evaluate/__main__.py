"""`python -m estimator.evaluate`: every figure of the estimator on held-out measurements, beside baselines."""

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from estimator.dataset import aiconfigurator
from estimator.evaluate import engine, kernels, length, mixed, run, tokens, unseen_gpu
from estimator.evaluate.figure import Figure
from estimator.evaluate.report import as_json, as_text
from estimator.train.fit import Recipe
from estimator.train.fitter import Done, Fitter, fitter, process_count
from estimator.train.samples import SampleSet, collect
from estimator.train.tables import tables

TRAINED: Mapping[str, "Trained"] = MappingProxyType(
    {"kernels": kernels.figures, "mixed": mixed.figures, "unseen-gpu": unseen_gpu.figures}
)
"""Parts that train on some of the measurements of kernels and judge on the others."""
OF_DATA = MappingProxyType({"engine": engine.figures, "run": run.figures, "length": length.figures})
"""Parts that judge what ships, by measurements in the folder of data."""
TOKENS = "tokens"
PARTS = (*TRAINED, *OF_DATA, TOKENS)

Trained = Callable[[Sequence[SampleSet], Recipe, Fitter, Done], Iterable[Figure]]
Part = Callable[[Done], Iterable[Figure]]


def main(arguments: list[str]) -> int:
    """The process's status: 0 when all that there was input for was measured, its bounds met or not; 2 otherwise."""
    chosen = _options(arguments)
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}, {task.completed:.0f} fits"), TimeElapsedColumn())
    found: list[Figure] = []
    failed: dict[str, str] = {}
    with ExitStack() as stack, Progress(*columns, console=console, transient=True) as progress:
        parts, left_out = _parts(chosen, stack)
        for name, figures in parts.items():
            task = progress.add_task(name, total=None)
            try:
                of_part = list(figures(partial(progress.advance, task)))
                if not of_part:
                    left_out[name] = "the measurements hold nothing to judge it by"
                found += of_part
            except (OSError, ValueError) as error:
                failed[name] = str(error)
            progress.remove_task(task)
    if chosen.json:
        report = {
            "versions": {name: _version(name) for name in ("aiconfigurator-core", "numpy", "torch", "weighbridge")},
            "figures": [as_json(figure) for figure in found],
            "left_out": {**left_out, **failed},
        }
        print(json.dumps(report, indent=1))
    else:
        print("\n".join(as_text(found)))
    for name, reason in {**left_out, **failed}.items():
        console.print(f"{name}: not measured: {reason}", highlight=False)
    return 2 if failed or not found else 0


def _options(arguments: list[str]) -> Namespace:
    parser = ArgumentParser(prog="python -m estimator.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder with gpu/, traces/ and text/")
    parser.add_argument("--tokenizer", type=Path, help=f"a tokenizer.json, for the part {TOKENS}")
    parser.add_argument("--part", action="append", choices=PARTS, help="may be given several times; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=Recipe().steps, help="of the optimizer, per fit")
    parser.add_argument("--processes", type=process_count, default=os.cpu_count() or 1, help="that fit")
    parser.add_argument("--json", action="store_true", help="with errors of every set of measurements")
    return parser.parse_args(arguments)


def _parts(chosen: Namespace, stack: ExitStack) -> tuple[Mapping[str, Part], dict[str, str]]:
    """What can be measured of what was asked for, and why the rest cannot. `stack` ends what fits."""
    wanted = [part for part in PARTS if part in (chosen.part or PARTS)]
    parts: dict[str, Part] = {}
    left_out: dict[str, str] = {}
    installed = aiconfigurator.data_folder()
    recipe = Recipe(seed=chosen.seed, steps=chosen.steps)

    @cache
    def inputs(folder: Path) -> tuple[list[SampleSet], Fitter]:
        gpu_folder = None if chosen.data is None else chosen.data / "gpu"
        return collect(tables(folder, gpu_folder), seed=chosen.seed), stack.enter_context(fitter(chosen.processes))

    def trained(figures: Trained, folder: Path, done: Done) -> Iterable[Figure]:
        sets, fits = inputs(folder)
        return figures(sets, recipe, fits, done)

    def judged(figures: Callable[[Path], Iterable[Figure]], done: Done) -> Iterable[Figure]:
        return figures(chosen.data)

    for name in wanted:
        if name in TRAINED:
            if installed is None:
                left_out[name] = "without aiconfigurator-core: pip install 'weighbridge[train]'"
            else:
                parts[name] = partial(trained, TRAINED[name], installed)
        elif chosen.data is None:
            left_out[name] = "no --data is given"
        elif name != TOKENS:
            parts[name] = partial(judged, OF_DATA[name])
        elif chosen.tokenizer is None:
            left_out[name] = tokens.ABSENT
        else:
            parts[name] = partial(judged, partial(tokens.figures, tokenizer=chosen.tokenizer))
    return parts, left_out


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
