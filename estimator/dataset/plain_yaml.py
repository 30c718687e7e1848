"""YAML whose scalars all stay text: version 0.10 is not the number 0.1."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def read_yaml(path: Path) -> Mapping[str, Any]:
    """The mapping in a file, with text for every scalar. `ValueError`, naming the file, if it holds no such thing."""
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML: {error}") from error
    if not isinstance(found, Mapping):
        raise ValueError(f"{path}: not a mapping of names to values")
    return found


def text_at(path: Path, found: Any, name: str) -> str:
    """The text under `name` of a mapping read from `path`; `ValueError`, naming both, if there is none."""
    value = found.get(name) if isinstance(found, Mapping) else None
    if not isinstance(value, str):
        raise ValueError(f"{path}: no text under {name}")
    return value
