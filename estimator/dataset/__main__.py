"""`python -m estimator.dataset`: how many measurements there are, and how many are dropped and why."""

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from estimator.dataset import aiconfigurator, llm_pilot, mixed_batches
from estimator.dataset.columns import Columns, Origin
from estimator.dataset.verdict import judge_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One table of the report."""

    origin: Origin
    rows: int
    dropped: dict[str, int]

    @property
    def kept(self) -> int:
        return self.rows - sum(self.dropped.values())

    def text(self) -> str:
        origin = self.origin
        dropped = ", ".join(f"{reason} {count}" for reason, count in self.dropped.items())
        version = origin.version + ("*" if origin.shared_between_versions else "")
        return (
            f"{origin.source:<15}{origin.gpu:<13}{origin.engine:<8}{version:<13}{origin.op:<23}"
            f"{self.rows:>8}{self.kept:>8}  {dropped}"
        )


HEADER = (
    f"{'source':<15}{'GPU':<13}{'engine':<8}{'version':<13}{'op':<23}{'rows':>8}{'kept':>8}  dropped\n"
    "* shares rows with another version of the engine"
)


def line(origin: Origin, table: Columns) -> Line:
    counts = judge_table(origin, table).counts()
    return Line(origin=origin, rows=len(table), dropped={reason.value: count for reason, count in counts.items()})


def tables(installed: Path | None, gpu_folder: Path | None) -> Iterator[tuple[Origin, Columns]]:
    """What the package in `installed` and the folder of GPU measurements hold, as far as they are there.

    `ValueError` for a folder of measurements that holds none, and for a file that is not what it should be.
    """
    # Before the package is read, which takes half a minute.
    sources = _sources(gpu_folder) if gpu_folder is not None else None
    if installed is not None:
        yield from aiconfigurator.load(installed)
    if sources is not None:
        batches, steps = sources
        yield from mixed_batches.load(batches)
        if steps.is_file():
            yield llm_pilot.load(steps)


def _sources(gpu_folder: Path) -> tuple[Path, Path]:
    batches, steps = gpu_folder / "mixed_batches", gpu_folder / "llm_pilot_decode_steps.parquet"
    if not (batches.is_dir() or steps.is_file()):
        raise ValueError(f"{gpu_folder}: neither a folder {batches.name} nor a file {steps.name} in it")
    return batches, steps


def main(arguments: list[str]) -> int:
    """The process's status: 0, or 2 where nothing was read or something is not what it should be."""
    parser = ArgumentParser(prog="python -m estimator.dataset", description=__doc__)
    parser.add_argument("--gpu-folder", type=Path, help="with mixed_batches/ and llm_pilot_decode_steps.parquet")
    chosen = parser.parse_args(arguments)
    installed = aiconfigurator.data_folder()
    if installed is None:
        print("without aiconfigurator-core: pip install 'weighbridge[train]'", file=sys.stderr)
    count = rows = kept = 0
    try:
        for origin, table in tables(installed, chosen.gpu_folder):
            one = line(origin, table)
            if not count:
                print(HEADER)
            count += 1
            print(one.text(), flush=True)
            rows += one.rows
            kept += one.kept
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if not rows:
        print("no measurements were read", file=sys.stderr)
        return 2
    print(f"{'all':<72}{rows:>8}{kept:>8}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
