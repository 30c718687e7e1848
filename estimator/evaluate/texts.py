"""Texts and their token counts by a real tokenizer: what token estimates are judged by."""

import gzip
import json
import zlib
from collections.abc import Sequence
from pathlib import Path

from estimator.tokenizer_file import load_tokenizer


def read_texts(path: Path) -> list[str]:
    """The `input` of every line of JSON in a file, plain or gzipped, in its order.

    Raises `OSError` for a file that cannot be read, `ValueError` naming the file where it is damaged, and the line
    where one has no text.
    """
    raw = path.read_bytes()
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: is not a whole gzip file: {error}") from None
    found = []
    for number, line in enumerate(raw.splitlines(), 1):
        try:
            text = json.loads(line)["input"]
        except (ValueError, KeyError, TypeError):
            text = None
        if not isinstance(text, str):
            raise ValueError(f"{path}, line {number}: must be a JSON object with text in input")
        found.append(text)
    return found


def token_counts(tokenizer: Path, texts: Sequence[str]) -> list[int]:
    """Tokens of each text by a HuggingFace `tokenizer.json`, without those that a chat template adds; at least 1.

    Raises `ValueError` that names the file where it cannot be used, or the `tokenizers` package is missing.
    """
    try:
        count = load_tokenizer(tokenizer)
    except ValueError as error:
        raise ValueError(f"{tokenizer}: {error}") from None
    return [max(1, count(text)) for text in texts]
