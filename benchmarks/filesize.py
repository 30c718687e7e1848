"""Hold the size budget: no tracked source file over 400 lines, no test over 600.

`python -m benchmarks.filesize` prints the offenders and the median and exits 1 if there is any.
"""

import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

SOURCE_LINES = 400
TEST_LINES = 600
SUFFIXES = frozenset({".py", ".lua", ".sh"})


def limit_for(path: str) -> int | None:
    """The most lines that `path` may have; None for files without a budget."""
    parts = PurePosixPath(path)
    if parts.suffix not in SUFFIXES:
        return None
    return TEST_LINES if "tests" in parts.parts[:-1] else SOURCE_LINES


def offenders(lines: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """(path, lines, limit) of every file over its budget, longest first."""
    over = [(path, count, limit) for path, count in lines.items() if (limit := limit_for(path)) and count > limit]
    return sorted(over, key=lambda row: (-row[1], row[0]))


def median_source_lines(lines: Mapping[str, int]) -> float:
    """Over non-empty files outside tests; 0 when there is none."""
    counts = [count for path, count in lines.items() if count and limit_for(path) == SOURCE_LINES]
    return statistics.median(counts) if counts else 0.0


def tracked_lines(root: Path) -> dict[str, int]:
    """Lines of every tracked file that has a budget. A tracked file that is missing on disk is skipped."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True).stdout
    return {
        path: len((root / path).read_bytes().splitlines())
        for path in listing.split("\0")
        if path and limit_for(path) is not None and (root / path).is_file()
    }


def main() -> int:
    lines = tracked_lines(Path(__file__).resolve().parents[1])
    over = offenders(lines)
    for path, count, limit in over:
        print(f"{path}: {count} lines, the limit is {limit}")
    print(
        f"{len(lines)} files within budget, median {median_source_lines(lines):.0f} lines"
        if not over
        else f"{len(over)} files over budget"
    )
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
