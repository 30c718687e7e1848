"""What is wrong with a configuration, as values: key path, value with secrets hidden, and the rule that it breaks."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

Path = tuple[str | int, ...]

SECRET_KEY = re.compile(r"(^|[_-])(key|keys|secret|password|passwd|token|credential|credentials|authorization)$", re.I)
SECRET_TEXT = re.compile(r"^(sk-|hf_|Bearer |eyJ)")
REDACTED = "[redacted]"
SHOWN_CHARACTERS = 80
ENVIRONMENT_PREFIX = "os.environ/"


class Missing:
    """The value of a key that is not in the document."""


MISSING = Missing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One broken rule. `value` is ready to show (secrets already hidden), `None` where there is nothing to show."""

    path: str
    value: str | None
    rule: str

    def __str__(self) -> str:
        return f"{self.path}: {self.rule}" if self.value is None else f"{self.path} = {self.value}: {self.rule}"


class ConfigError(Exception):
    """A configuration that cannot be used, with every problem found in it, in the order of the document."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{source}: {count} error{'' if count == 1 else 's'}"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]))


def dotted(path: Path) -> str:
    """`pools.chat.models[0]` from its parts."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "(document)"


def suggestion(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be."""
    by_lower = {name.lower(): name for name in known}
    matches = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[matches[0]] if matches else None


def did_you_mean(word: str, known: Iterable[str], other_names: Iterable[str] = ()) -> str:
    """`did you mean 'x'?`, or the list of `known` where nothing is close. `other_names` can be meant, too."""
    names = list(known)
    close = suggestion(word, (*names, *other_names))
    return f"did you mean {close!r}?" if close else f"known: {', '.join(names)}"


def shown(path: Path, value: object) -> str | None:
    """How a value appears in an error: scalars as YAML users know them, containers by kind, secrets never.

    A string that comes from the environment is shown as it is written, `os.environ/NAME`.
    """
    if isinstance(value, Missing):
        return None
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value.startswith(ENVIRONMENT_PREFIX):
        return value
    if secret(path) or SECRET_TEXT.match(str(value)):
        return REDACTED
    if isinstance(value, str) and "://" in value:
        value = without_credentials(value)
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def secret(path: Path) -> bool:
    """Whether the value at this path is a secret by the name of any key on the way."""
    return any(isinstance(part, str) and SECRET_KEY.search(part) for part in path)


def without_credentials(url: str) -> str:
    """The URL with `user:password@` hidden; all of it where a secret may be elsewhere: in an option, behind a `/`."""
    try:
        netloc = urlsplit(url).netloc
    except ValueError:
        return REDACTED
    if "password=" in url.lower() or "@" in url.replace(netloc, "", 1):
        return REDACTED
    return url.replace(netloc, f"{REDACTED}@{netloc.rpartition('@')[2]}", 1) if "@" in netloc else url


def at(document: object, path: Path) -> tuple[Path, object]:
    """The value at `path` in the document as written, and the path that exists: a shorthand scalar ends it early."""
    value = document
    for depth, part in enumerate(path):
        keys: Iterable[str | int] = (
            value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        )
        if part in keys:
            value = value[part]  # type: ignore[index]
        elif isinstance(value, str) and depth:
            return path[:depth], value
        else:
            return path, MISSING
    return path, value


def as_written(document: object, path: Path) -> Path:
    """The path without the index 0 of a list of which the document has the only item, as a mapping."""
    written: Path = ()
    value = document
    for part in path:
        if part == 0 and isinstance(value, dict) and part not in value:
            continue
        written = (*written, part)
        _, value = at(value, (part,))
    return written


def problems_from(error: ValidationError, root: type[BaseModel], document: object) -> list[Problem]:
    """Pydantic's errors in our words. `document` is as written, before the environment was read."""
    details = [dict(detail) for detail in error.errors(include_url=False)]
    # A list whose items are all wrong is also "too short" to pydantic: that one says nothing.
    hollow = [detail for detail in details if detail["type"] == "too_short" and detail["input"]]
    return [_problem(detail, root, document) for detail in details if detail not in hollow]


def _problem(detail: dict[str, Any], root: type[BaseModel], document: object) -> Problem:
    full: Path = tuple(part for part in detail["loc"] if part != "[key]")
    location = as_written(document, full)
    kind: str = detail["type"]
    if kind == "missing":
        return Problem(path=dotted(location), value=None, rule="is required")
    path, value = at(document, location)
    if kind == "extra_forbidden":
        known = _fields(root, full[:-1])
        close = suggestion(str(location[-1]), known)
        hidden = close is not None and SECRET_KEY.search(close) and not isinstance(value, Missing)
        rule = f"unknown key; {did_you_mean(str(location[-1]), known)}"
        return Problem(path=dotted(path), value=REDACTED if hidden else shown(path, value), rule=rule)
    return Problem(path=dotted(path), value=shown(path, value), rule=_rule(kind, detail))


def _rule(kind: str, detail: dict[str, Any]) -> str:
    context = detail.get("ctx", {})
    match kind:
        case "value_error":
            return str(context["error"])
        case "int_parsing" | "int_type" | "int_from_float":
            return "must be a whole number"
        case "float_parsing" | "float_type" | "finite_number":
            return "must be a number"
        case "bool_parsing" | "bool_type":
            return "must be true or false"
        case "string_type":
            return "must be text (in quotes)"
        case "list_type" | "tuple_type":
            return "must be a list"
        case "dict_type" | "model_type" | "model_attributes_type":
            return "must be a mapping"
        case "greater_than":
            return f"must be greater than {context['gt']:g}"
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}"
        case "less_than":
            return f"must be less than {context['lt']:g}"
        case "less_than_equal":
            return f"must be at most {context['le']:g}"
        case "too_short" | "string_too_short":
            return "must not be empty"
        case "literal_error" | "enum":
            return f"must be one of {context['expected']}"
        case _:
            return str(detail["msg"])


def _fields(root: type[BaseModel], path: Path) -> tuple[str, ...]:
    """The keys that the section at `path` has; empty where the path leads out of our models."""
    annotation: Any = root
    for part in path:
        model = _model(annotation)
        if model is not None:
            field = model.model_fields.get(str(part))
            annotation = field.annotation if field else None
        else:
            arguments = [argument for argument in get_args(annotation) if argument is not Ellipsis]
            annotation = arguments[-1] if arguments else None
        annotation = _bare(annotation)
    model = _model(annotation)
    return tuple(model.model_fields) if model else ()


def _bare(annotation: Any) -> Any:
    """Without `Annotated` and `| None`."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    arguments = [argument for argument in get_args(annotation) if argument is not type(None)]
    if len(arguments) == 1 and type(None) in get_args(annotation):
        return _bare(arguments[0])
    return annotation


def _model(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
