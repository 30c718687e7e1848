"""YAML text to a plain document, with `os.environ/NAME` read from the environment.

Syntax errors carry their line. A key that occurs twice is an error.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from weighbridge.config_errors import ENVIRONMENT_PREFIX, ConfigError, Path, Problem, dotted


class _Loader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys; a second `pools.chat` would silently hide the first."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[object, int] = {}
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if isinstance(key, list | dict):
            raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
        if key in seen:
            problem = f"the key {key!r} is already on line {seen[key]}"
            raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        seen[key] = line
    loader.flatten_mapping(node)
    return {
        str(key) if isinstance(key, int | float) else key: value
        for key, value in loader.construct_mapping(node, deep=True).items()
    }


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def document(text: str, source: str, *, empty: bool = False) -> dict[str, Any]:
    """The mapping in a YAML text. Raises `ConfigError` with the line for anything that is not one.

    `empty`: whether a text that says nothing is a mapping without sections.

    Parser messages are quoted without the snippet of text that PyYAML adds: it can hold a secret.
    """
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "document"
        rule = f"{error.context}: {error.problem}" if error.context and error.problem else f"{error.problem}"
        raise ConfigError(source, [Problem(path=where, value=None, rule=f"not valid YAML: {rule}")]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = Problem(path=f"line {line}", value=None, rule="not valid YAML: a control character")
        raise ConfigError(source, [problem]) from None
    if value is None:
        if empty:
            return {}
        raise ConfigError(source, [Problem(path="(document)", value=None, rule="is empty")])
    if not isinstance(value, dict):
        raise ConfigError(source, [Problem(path="(document)", value=None, rule="must be a mapping of sections")])
    return value


def from_environment(value: Any, path: Path, env: Mapping[str, str], problems: list[Problem]) -> Any:
    """`value` with each string `os.environ/NAME` replaced, at any depth. A variable that is not set is a problem."""
    if isinstance(value, dict):
        return {key: from_environment(item, (*path, key), env, problems) for key, item in value.items()}
    if isinstance(value, list):
        return [from_environment(item, (*path, index), env, problems) for index, item in enumerate(value)]
    if isinstance(value, str) and value.startswith(ENVIRONMENT_PREFIX):
        name = value.removeprefix(ENVIRONMENT_PREFIX)
        if name not in env:
            rule = f"the environment variable {name} is not set" if name else "no variable is named after the slash"
            problems.append(Problem(path=dotted(path), value=value, rule=rule))
            return value
        return env[name]
    return value
