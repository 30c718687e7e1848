"""Which pool serves a model name and under which name replicas know it; names with `*` stand for many.

A pattern matches as in LiteLLM: from the start of the name and greedily, the longest pattern first. Each `*` of the
served name becomes what the `*` in its place has matched.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

MOST_WILDCARDS = 2
"""In one name: with more, a name that a client makes up could keep a worker busy."""
MOST_CHARACTERS = 256
"""Longer names match no pattern."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served(Generic[T]):
    """Who serves a name, and the name that replicas know."""

    by: T
    name: str


def is_pattern(name: str) -> bool:
    """Whether a name stands for many."""
    return "*" in name


def served_name(pattern: str, served: str, model: str) -> str | None:
    """What `model` is called where `served` belongs to `pattern`; `None` when the pattern does not match it."""
    return _filled(re.compile(_expression(pattern)), served, model)


def _expression(pattern: str) -> str:
    return re.escape(pattern).replace(r"\*", "(.*)")


def _filled(expression: re.Pattern[str], served: str, model: str) -> str | None:
    match = expression.match(model) if len(model) <= MOST_CHARACTERS else None
    if match is None:
        return None
    head, *rest = served.split("*")
    return head + "".join(part + tail for part, tail in zip(match.groups(), rest, strict=False))


def _specificity(pattern: str) -> tuple[int, int]:
    expression = _expression(pattern)
    return len(expression), sum(character in r"*+?\^$|()" for character in expression)


class Names(Generic[T]):
    """Names to who serves them: exact ones in one look, then patterns, the most specific first."""

    def __init__(self, entries: Iterable[tuple[str, Served[T]]]) -> None:
        self._exact: dict[str, Served[T]] = {}
        patterns: dict[str, Served[T]] = {}
        for name, served in entries:
            (patterns if is_pattern(name) else self._exact).setdefault(name, served)
        self._patterns = [
            (re.compile(_expression(name)), patterns[name]) for name in sorted(patterns, key=_specificity, reverse=True)
        ]

    def find(self, model: str) -> Served[T] | None:
        """Who serves `model`, with the name that it has there."""
        found = self._exact.get(model)
        if found is not None or not self._patterns:
            return found
        for expression, served in self._patterns:
            name = _filled(expression, served.name, model)
            if name is not None:
                return Served(by=served.by, name=name)
        return None


def names_of(models: Iterable[str], served_model: str, served_as: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Each name of a pool with the name that its replicas know."""
    return ((model, served_as.get(model, served_model)) for model in models)
