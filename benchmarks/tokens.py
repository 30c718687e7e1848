"""What sizing texts costs, and how far its estimates are from a tokenizer's counts: `python -m benchmarks.tokens`.

`--tokenizer FILE` (a HuggingFace `tokenizer.json`, with the `tokenizers` package) adds what exact counting costs. With
`--texts FILE` it measures errors instead: a file of JSON lines, plain or gzipped, with the text in `input`, in the
order in which they were sent.
"""

import argparse
import json
import sys
import timeit
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from estimator.evaluate.texts import read_texts
from estimator.tokenizer_file import load_tokenizer
from estimator.tokens import EXACT, TYPICAL, TokenFactors, TokenRoutes
from estimator.tokens_evaluate import token_errors
from estimator.tokens_exact import ExactSizer
from estimator.tokens_text import text_size, typical_size
from gateway.openai import Endpoint, parse

KINDS = {
    "prose": "The weight of a request is known before it runs, whoever sends it. ",
    "digits": "2048 1.445849 0x7f ",
    "CJK": "一个请求的重量在运行之前就已知",
}
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


def exact_costs(count: Callable[[str], int]) -> None:
    """Print what counting costs beside sizing: of a text that is new, and of the same when it comes again."""
    print(f"{'text':>23} {'size it':>10} {'count it':>12} {'again':>10}")
    for kind, words in KINDS.items():
        for characters in (100, 1_300, 2_048, 34_000, 300_000):
            text = (words * characters)[:characters]
            known = ExactSizer(count)
            known([text])
            sizing = best_us(lambda text=text: typical_size([text], messages=1))
            counting = best_us(lambda text=text: ExactSizer(count)([text], messages=1))
            again = best_us(lambda head=text[:-1], last=text[-1], known=known: known([head + last], messages=1))
            print(f"{characters:>7,} characters {kind:>6} {sizing:>7.1f} us {counting:>9.0f} us {again:>7.1f} us")


def errors(count: Callable[[str], int], texts_file: Path) -> None:
    """Print the median errors of the texts in the file, as one route."""
    texts = read_texts(texts_file)
    counts = [max(1, count(text)) for text in texts]
    sizer = ExactSizer(count)
    for how, size_of, prior in (("sized", typical_size, TYPICAL), ("counted in part", sizer, EXACT)):
        found = token_errors([size_of([text]) for text in texts], counts, prior=prior)
        first, later = (
            f"{ratio:.2%}" if ratio is not None else "unknown" for ratio in (found.first_ratio, found.later_ratio)
        )
        what = f"{texts_file.name}, {how}: {found.requests} requests"
        print(f"{what}; first {first}, after {found.reports} reports {later}")


def main(arguments: Sequence[str]) -> None:
    """Costs, or errors where texts are given."""
    parser = argparse.ArgumentParser(prog="benchmarks.tokens", description=__doc__)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--texts", type=Path, action="append", default=[])
    options = parser.parse_args(arguments)
    if options.tokenizer is None and options.texts:
        parser.error("--texts needs --tokenizer")
    try:
        count = None if options.tokenizer is None else load_tokenizer(options.tokenizer)
    except ValueError as error:
        parser.error(f"--tokenizer {options.tokenizer}: {error}")
    if count is None:
        costs()
    elif options.texts:
        for texts in options.texts:
            errors(count, texts)
    else:
        costs()
        exact_costs(count)


if __name__ == "__main__":
    main(sys.argv[1:])
