"""Texts and their token counts by a real tokenizer: what token estimates are judged by."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

from estimator.tokenizer_file import load_tokenizer


def read_texts(path: Path) -> list[str]:
    """The `input` of every line of JSON in a file, plain or gzipped, in its order.

    Raises `OSError` for a file that cannot be read, `ValueError` naming file and line for a line without text.
    """
    raw = path.read_bytes()
    found = []
    for number, line in enumerate((gzip.decompress(raw) if path.suffix == ".gz" else raw).splitlines(), 1):
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
