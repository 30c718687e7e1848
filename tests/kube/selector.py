"""Label and field selectors as predicates over objects."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.kube.status import bad_request

Json = dict[str, Any]
Predicate = Callable[[Json], bool]

FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "spec.nodeName",
    "status.phase",
    "involvedObject.name",
    "type",
    "reason",
)

_SET = re.compile(r"^(?P<key>[^\s!=(),]+)\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)$")
_EQUAL = re.compile(r"^(?P<key>[^\s!=(),]+)\s*(?P<operator>==|=|!=)\s*(?P<value>[^\s!=(),]*)$")
_EXISTS = re.compile(r"^(?P<absent>!?)\s*(?P<key>[^\s!=(),]+)$")


def predicate(labels: str, fields: str) -> Predicate:
    """Objects that fit both selectors; an empty selector fits all."""
    tests = [_label_test(term) for term in _terms(labels)] + [_field_test(term) for term in _terms(fields)]
    return lambda item: all(test(item) for test in tests)


def selector_from_labels(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def field(item: Json, path: str) -> Any:
    """None where a part of the path is missing."""
    value: Any = item
    for part in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def named_by(fields: str) -> str | None:
    """The name that `metadata.name=` asks for, None without such a term."""
    for term in _terms(fields):
        matched = _EQUAL.match(term)
        if matched and matched["key"] == "metadata.name" and matched["operator"] != "!=":
            return matched["value"]
    return None


def _terms(selector: str) -> list[str]:
    return [term.strip() for term in re.split(r",(?![^()]*\))", selector) if term.strip()]


def _label_test(term: str) -> Predicate:
    if matched := _SET.match(term):
        values = {value.strip() for value in matched["values"].split(",")}
        key, wanted = matched["key"], matched["operator"] == "in"
        return lambda item: (_labels(item).get(key) in values) == wanted
    if matched := _EQUAL.match(term):
        key, value, wanted = matched["key"], matched["value"], matched["operator"] != "!="
        return lambda item: (_labels(item).get(key) == value) == wanted
    if matched := _EXISTS.match(term):
        key, wanted = matched["key"], not matched["absent"]
        return lambda item: (key in _labels(item)) == wanted
    raise bad_request(f'unable to parse requirement: "{term}"')


def _field_test(term: str) -> Predicate:
    matched = _EQUAL.match(term)
    if matched is None:
        raise bad_request(f'invalid field selector: "{term}"')
    key, value, wanted = matched["key"], matched["value"], matched["operator"] != "!="
    if key not in FIELDS:
        raise bad_request(f'field label not supported: "{key}"')
    return lambda item: ((field(item, key) or "") == value) == wanted


def _labels(item: Json) -> Mapping[str, str]:
    return (item.get("metadata") or {}).get("labels") or {}
