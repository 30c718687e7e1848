"""`python -m benchmarks.order [--quick] [--only NAME]`: print a table for each experiment, write .bench/order.json."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.order.bound import bound
from benchmarks.order.flood import flood
from benchmarks.order.mix import mix
from benchmarks.order.prices import prices
from benchmarks.order.result import Experiment, Result
from benchmarks.order.setup import GPU, MODEL, hardware
from benchmarks.order.speed import speed
from benchmarks.order.table import render
from benchmarks.order.weights import weights
from benchmarks.order.workloads import load_sources

EXPERIMENTS: dict[str, Callable[[Experiment], Result]] = {
    "weights": weights,
    "flood": flood,
    "mix": mix,
    "prices": prices,
    "bound": bound,
    "speed": speed,
}
QUICK_SCALE = 0.05
OUTPUT = Path(__file__).resolve().parents[2] / ".bench" / "order.json"


def main(arguments: Sequence[str] | None = None, *, output: Path = OUTPUT) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.order", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the virtual time: shows that it works")
    parser.add_argument("--only", choices=sorted(EXPERIMENTS), action="append", help="may be repeated")
    options = parser.parse_args(arguments)
    scale = QUICK_SCALE if options.quick else 1.0
    at = Experiment(hardware=hardware(), sources=load_sources(), scale=scale)
    workload = "recorded traces" if at.sources.recorded else "generated workloads (no trace files found)"
    print(f"{at.replicas} simulated replicas of {MODEL} on {GPU}, {workload}\n", flush=True)
    results = []
    for name in options.only or EXPERIMENTS:
        began_s = time.perf_counter()
        results.append(EXPERIMENTS[name](at))
        print(f"{render(results[-1])}\n  [{time.perf_counter() - began_s:.0f} s]\n", flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    values = {"recorded": at.sources.recorded, "scale": scale, "results": [asdict(result) for result in results]}
    output.write_text(json.dumps(values, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
