"""Tokens estimated from text as figures: agents' calls, counted by a real tokenizer."""

from pathlib import Path
from statistics import median

from estimator.evaluate.figure import Figure
from estimator.evaluate.texts import read_texts, token_counts
from estimator.length_traces import CALLS
from estimator.tokens_evaluate import token_errors
from estimator.tokens_text import text_size

REACH_FIRST = 0.10
REACH_LATER = 0.03
REPORTS = 200
CHARS_PER_TOKEN = 4
APPLICATIONS = dict(zip(CALLS, ("a coding agent", "an airline service's agent"), strict=True))
ABSENT = "no --tokenizer is given (docs/estimator.md#tokens-by-a-real-tokenizer)"


def figures(folder: Path, tokenizer: Path) -> list[Figure]:
    """Errors of the first estimate of a route and after 200 reports.

    `folder` holds `text/`, `tokenizer` is a HuggingFace `tokenizer.json`. Raises `ValueError` for one that cannot be
    read, or where the `tokenizers` package is not installed.
    """
    found = []
    for name, application in APPLICATIONS.items():
        texts = read_texts(folder / "text" / name)
        counts = token_counts(tokenizer, texts)
        errors = token_errors([text_size(text.encode()) for text in texts], counts, reports=REPORTS)
        by_length = [abs(len(text) / CHARS_PER_TOKEN / count - 1.0) for text, count in zip(texts, counts, strict=True)]
        for measure, value, high, plain in (
            ("of the first request of a route", errors.first_ratio, REACH_FIRST, by_length),
            (f"after {REPORTS} reports", errors.later_ratio, REACH_LATER, by_length[REPORTS:]),
        ):
            if value is None:
                raise ValueError(f"{name}: {len(texts)} calls are too few for an error {measure}")
            found.append(
                Figure(
                    quantity="tokens from text",
                    split=f"{application}, {len(texts)} calls",
                    measure=f"median error {measure}",
                    value=value,
                    high=high,
                    baselines={f"characters / {CHARS_PER_TOKEN}": median(plain)},
                    note=f"counted by {tokenizer.parent.name}/{tokenizer.name}",
                )
            )
    return found
