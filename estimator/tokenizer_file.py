"""A HuggingFace `tokenizer.json` as a function that counts tokens, by the `tokenizers` package (extra of that name).

The package is imported when the first file is loaded, and never where no pool has one.
"""

from collections.abc import Callable
from pathlib import Path

MOST_BYTES = 200_000_000
ERROR_CHARACTERS = 200


def load_tokenizer(path: Path) -> Callable[[str], int]:
    """Counts the tokens of a text with the tokenizer in the file at `path`, or in the `tokenizer.json` of the folder.

    Takes half a second and some 80 MB for a vocabulary of 128,000. Counts are of the text alone: no special tokens are
    added, and the file's own truncation and padding are off. Raises `ValueError` that says what is wrong with the file,
    or which extra is missing.
    """
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError:
        raise ValueError("needs the tokenizers package: pip install 'weighbridge[tokenizers]'") from None
    text = _read(path)
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:
        # The package raises no type of its own.
        reason = " ".join(str(error).split())[:ERROR_CHARACTERS]
        raise ValueError(f"is not a tokenizer.json: {reason}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False))

    return count


def _read(path: Path) -> str:
    what = ""
    try:
        if path.is_dir():
            path = path / "tokenizer.json"
            what = "its tokenizer.json "
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{what}cannot be read: {error.strerror or error}") from None
    if len(content) > MOST_BYTES:
        raise ValueError("is too large to be a tokenizer.json")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ValueError("is not a tokenizer.json: it is not text in UTF-8") from None
