"""What sizing texts costs, and how far its estimates are from a tokenizer's counts: `python -m benchmarks.tokens`.

`--tokenizer FILE --texts FILE` measures errors: a HuggingFace `tokenizer.json` (with the `tokenizers` package) and a
file of JSON lines, plain or gzipped, with the text in `input`, in the order in which they were sent.
"""

import argparse
import json
import sys
import timeit
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from estimator.evaluate.texts import read_texts, token_counts
from estimator.tokens import TokenFactors, TokenRoutes
from estimator.tokens_evaluate import token_errors
from estimator.tokens_text import text_size
from gateway.openai import Endpoint, parse

TEXT = "The weight of a request is known before it runs; def weigh(self): return 42  # "
SIZES_BYTES = (100, 1_300, 34_000, 300_000)
REPEATS = 7


def best_us(call: Any) -> float:
    """Microseconds of one call, in the best of several runs of about 20 ms."""
    timer = timeit.Timer(call)
    once_s = max(min(timer.repeat(5, 1)), 1e-7)
    number = max(1, int(0.02 / once_s))
    return min(timer.repeat(REPEATS, number)) / number * 1e6


def costs() -> None:
    """Print what each size costs, and what an estimate and a report cost."""
    print(f"{'text':>10} {'size it':>10} {'parse the request':>18} {'of which per KB':>16}")
    for size_bytes in SIZES_BYTES:
        text = (TEXT * (size_bytes // len(TEXT) + 1))[:size_bytes]
        raw = text.encode()
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
        sizing = best_us(lambda raw=raw: text_size(raw, messages=1))
        parsing = best_us(lambda body=body: parse(Endpoint.CHAT, body))
        print(f"{size_bytes:>8} B {sizing:>7.2f} us {parsing:>15.2f} us {sizing / size_bytes * 1000:>13.3f} us")
    size, routes, factors = text_size(TEXT.encode(), messages=1), TokenRoutes(), TokenFactors()
    routes.observe("chat", "route", size, 30)
    print(f"an estimate {best_us(lambda: routes.estimate('chat', 'route', size)):.2f} us", end=", ")
    print(f"a report {best_us(lambda: factors.observe(size, 30)):.2f} us (twice: route and endpoint)")


def errors(tokenizer_file: Path, texts_file: Path) -> None:
    """Print the median errors of the texts in the file, as one route."""
    texts = read_texts(texts_file)
    counts = token_counts(tokenizer_file, texts)
    found = token_errors([text_size(text.encode()) for text in texts], counts)
    first, later = (
        f"{ratio:.1%}" if ratio is not None else "unknown" for ratio in (found.first_ratio, found.later_ratio)
    )
    print(f"{texts_file.name}: {found.requests} requests; first {first}, after {found.reports} reports {later}")


def main(arguments: Sequence[str]) -> None:
    """Costs, or errors where a tokenizer and texts are given."""
    parser = argparse.ArgumentParser(prog="benchmarks.tokens", description=__doc__)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--texts", type=Path, action="append", default=[])
    options = parser.parse_args(arguments)
    if (options.tokenizer is None) != (not options.texts):
        parser.error("--tokenizer and --texts go together")
    for texts in options.texts:
        errors(options.tokenizer, texts)
    if not options.texts:
        costs()


if __name__ == "__main__":
    main(sys.argv[1:])
