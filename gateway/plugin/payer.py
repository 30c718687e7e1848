"""Who pays for a call, by what LiteLLM knows of its key and team.

A key's or team's metadata may have `weighbridge: {tenant: …, priority: …}`. Else the team is the tenant, else
the key, else `anonymous`. A tenant of the configuration brings its weight, priority and limits; any other has defaults.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from backlog.records import BANDS
from gateway.auth import ANONYMOUS, priority_of
from gateway.settings import TenantSettings

OWN_KEY = "weighbridge"
_MOST_NAME = 64
_BANDS = frozenset(map(str, range(BANDS)))


class Payers:
    """The configured tenants by name."""

    def __init__(self, tenants: tuple[TenantSettings, ...]) -> None:
        self._known = {tenant.name: tenant for tenant in tenants}

    def payer_of(self, metadata: Mapping[str, Any]) -> TenantSettings:
        """`metadata` is the call's, with LiteLLM's `user_api_key_…` in it."""
        names = list(_names(metadata))
        for name in names:
            if name in self._known:
                return self._known[name]
        return TenantSettings(name=names[0] if names else ANONYMOUS, key_sha256=())


def priority(metadata: Mapping[str, Any], headers: Mapping[str, Any], payer: TenantSettings) -> int:
    """What the key or the team says; else what the client asks for in `x-weighbridge-priority`, under its ceiling."""
    for holder in _holders(metadata):
        value = _band(holder.get("priority"))
        if value is not None:
            return value
    return priority_of(payer, _band(headers.get("x-weighbridge-priority")))


def _names(metadata: Mapping[str, Any]) -> Iterator[str]:
    for holder in _holders(metadata):
        yield from _clean(holder.get("tenant"))
    for key in ("team_alias", "team_id", "alias", "user_id"):
        yield from _clean(metadata.get(f"user_api_key_{key}"))


def _holders(metadata: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What the operator has said of the key, then of its team."""
    for key in ("user_api_key_metadata", "user_api_key_auth_metadata", "user_api_key_team_metadata"):
        holder = metadata.get(key)
        own = holder.get(OWN_KEY) if isinstance(holder, Mapping) else None
        if isinstance(own, Mapping):
            yield own


def _clean(value: Any) -> Iterator[str]:
    """A name as tenants' are: it goes into keys of Redis and labels of metrics."""
    if isinstance(value, str) and value:
        yield re.sub(r"[^A-Za-z0-9._-]+", "-", value)[:_MOST_NAME].strip("-._") or ANONYMOUS


def _band(value: Any) -> int | None:
    text = str(value).strip()
    return int(text) if text in _BANDS else None
