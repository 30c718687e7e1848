"""`include`: other files of one configuration, merged as LiteLLM merges them.

Lists grow, everything else is replaced by the later file. A name is relative to the file that includes it. A file
counts once, however often it is included.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from weighbridge.config_errors import ConfigError, Problem
from weighbridge.config_source import document

INCLUDE = "include"


def merged(written: dict[str, Any], source: str, directory: Path) -> dict[str, Any]:
    """The document with all that it includes. Raises `ConfigError`, with the name of the file that is wrong."""
    root = (directory / Path(source).name).resolve()
    whole = {key: value for key, value in written.items() if key != INCLUDE}
    seen = {root}
    pending = [(name, root) for name in _included(written, source)]
    while pending:
        name, owner = pending.pop(0)
        path = _place(name, owner, root)
        if path in seen:
            continue
        seen.add(path)
        more = _read(path, f"include of {owner.name}")
        for key, value in more.items():
            if key != INCLUDE:
                whole[key] = _joined(whole.get(key), value)
        pending.extend((inner, path) for inner in _included(more, str(path)))
    return whole


def _joined(base: Any, value: Any) -> Any:
    return [*base, *value] if isinstance(base, list) and isinstance(value, list) else value


def _included(written: dict[str, Any], source: str) -> list[str]:
    names = written.get(INCLUDE, [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(source, [Problem(path=INCLUDE, value=None, rule="must be a list of file paths")])
    return names


def _place(name: str, owner: Path, root: Path) -> Path:
    """Beside the file that includes it; beside the first file where only that has one, as LiteLLM does."""
    beside, fallback = ((file.parent / name).resolve() for file in (owner, root))
    return fallback if not beside.exists() and fallback.exists() else beside


def _read(path: Path, why: str) -> dict[str, Any]:
    return document(
        read_text(path, lambda rule: Problem(path=f"({why})", value=None, rule=rule)), str(path), empty=True
    )


def read_text(path: Path, problem: Callable[[str], Problem]) -> str:
    """A file's text. Raises `ConfigError` with `problem` of the rule that it breaks."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        rule = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else (error.strerror or str(error)).lower()
        raise ConfigError(str(path), [problem(rule)]) from None
