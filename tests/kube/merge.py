"""Merge patches, and who owns spec.replicas."""

import copy
from typing import Any

Json = dict[str, Any]


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396: null removes, objects merge, everything else replaces. Neither argument is changed."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def claim_replicas(old: Json | None, new: Json, *, manager: str, subresource: str, api_version: str, at: str) -> None:
    """Record in metadata.managedFields of `new` that `manager` owns spec.replicas, if it changed the value.

    The fake keeps entries for this field alone. An entry of another manager loses the field when the value changes,
    and stays when it is only written again, as with a real server's Update operations.
    """
    before = (old or {}).get("spec", {}).get("replicas")
    after = new.get("spec", {}).get("replicas")
    entries = copy.deepcopy((old or {}).get("metadata", {}).get("managedFields") or [])
    if after is not None and after != before:
        entry: Json = {
            "manager": manager,
            "operation": "Update",
            "apiVersion": api_version,
            "time": at,
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:replicas": {}}},
        }
        if subresource:
            entry["subresource"] = subresource
        entries = [other for other in entries if "f:replicas" not in other["fieldsV1"].get("f:spec", {})]
        entries.append(entry)
    if entries:
        new["metadata"]["managedFields"] = entries
    else:
        new["metadata"].pop("managedFields", None)
