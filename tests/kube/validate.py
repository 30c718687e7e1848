"""What a real API server refuses to store, of what this project writes: what passes here shall not fail there.

Objects that tests put into the store by themselves are not checked.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.kube.status import bad_request, invalid
from tests.kube.target import Target
from tests.kube.victim import COST

Json = dict[str, Any]

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-\w.]*[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[-+]\d\d:\d\d)")
_MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[-+]\d\d:\d\d)")
_COST = re.compile(r"-\d+|0|[1-9]\d*")
_ANNOTATION_BYTES = 256 * 1024
_DATA_BYTES = 1024 * 1024


def validate(target: Target, new: Json, old: Json | None) -> None:
    """Raises the server's 400 for a value of a wrong type, its 422 for one that is not allowed."""
    _metadata(new.get("metadata") or {})
    check = _CHECKS.get((target.group, target.resource))
    if check is not None:
        check(new, old)
    replicas = (new.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise bad_request("json: cannot unmarshal into Go struct field .spec.replicas of type int32")
    if replicas < 0:
        raise invalid(f"spec.replicas: Invalid value: {replicas}: must be greater than or equal to 0")


def _metadata(metadata: Json) -> None:
    name = metadata.get("name", "")
    if not _NAME.fullmatch(name) or len(name) > 253:
        raise invalid(f'metadata.name: Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of …')
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    _strings("metadata.labels", labels)
    _strings("metadata.annotations", annotations)
    for key in (*labels, *annotations):
        if not _LABEL_KEY.fullmatch(key) or len(key.rpartition("/")[2]) > 63:
            raise invalid(f'metadata: Invalid value: "{key}": name part must consist of alphanumeric characters …')
    for value in labels.values():
        if not _LABEL_VALUE.fullmatch(value):
            raise invalid(f'metadata.labels: Invalid value: "{value}": a valid label must be an empty string or …')
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > _ANNOTATION_BYTES:
        raise invalid("metadata.annotations: Too long: may not be more than 262144 bytes")


def _lease(new: Json, old: Json | None) -> None:
    spec = new.get("spec") or {}
    for field in ("acquireTime", "renewTime"):
        _time(field, spec.get(field), _MICRO_TIME)
    duration_s, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if duration_s is not None and (not isinstance(duration_s, int) or duration_s <= 0):
        raise invalid("spec.leaseDurationSeconds: Invalid value: must be greater than 0")
    if transitions is not None and (not isinstance(transitions, int) or transitions < 0):
        raise invalid("spec.leaseTransitions: Invalid value: must be greater than or equal to 0")


def _event(new: Json, old: Json | None) -> None:
    involved = (new.get("involvedObject") or {}).get("namespace", "")
    # Events of cluster-wide objects are kept in "default".
    if new["metadata"].get("namespace") != (involved or "default"):
        raise invalid("involvedObject.namespace: Invalid value: does not match event.namespace")
    for field in ("firstTimestamp", "lastTimestamp"):
        _time(field, new.get(field), _TIME)
    _time("eventTime", new.get("eventTime"), _MICRO_TIME)


def _config_map(new: Json, old: Json | None) -> None:
    data = new.get("data") or {}
    _strings("data", data)
    if sum(len(key.encode()) + len(value.encode()) for key, value in data.items()) > _DATA_BYTES:
        raise invalid("data: Too long: may not be more than 1048576 bytes")


def _pod(new: Json, old: Json | None) -> None:
    cost = (new["metadata"].get("annotations") or {}).get(COST)
    if cost is not None and (not _COST.fullmatch(cost) or not -(2**31) <= int(cost) < 2**31):
        raise invalid(f'metadata.annotations[{COST}]: Invalid value: "{cost}": must be a 32bit integer')
    if old is not None and new.get("spec") != old.get("spec"):
        raise invalid("spec: Forbidden: pod updates may not change fields other than …")


def _strings(where: str, values: Mapping[str, Any]) -> None:
    for value in values.values():
        if not isinstance(value, str):
            kind = {bool: "bool", int: "number", float: "number"}.get(type(value), "object")
            raise bad_request(f"json: cannot unmarshal {kind} into Go struct field .{where} of type string")


def _time(field: str, value: Any, form: re.Pattern[str]) -> None:
    if value is not None and (not isinstance(value, str) or not form.fullmatch(value)):
        raise bad_request(f'parsing time "{value}" of {field} as its layout failed')


_CHECKS: Mapping[tuple[str, str], Callable[[Json, Json | None], None]] = {
    ("", "configmaps"): _config_map,
    ("", "events"): _event,
    ("", "pods"): _pod,
    ("coordination.k8s.io", "leases"): _lease,
}
