"""The Redis that a LiteLLM configuration names, for when there is no `redis` section."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from weighbridge.config_errors import Problem
from weighbridge.config_source import from_environment

_PLACES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("general_settings", "coordination_redis"), ""),
    (("router_settings",), "redis_"),
    (("litellm_settings", "cache_params"), ""),
)
_KINDS = ("redis", "redis-semantic")
_PARTS = ("url", "host", "port", "username", "password", "db", "ssl")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedRedis:
    """A Redis and the keys that name it."""

    url: str
    place: str

    def __repr__(self) -> str:
        return f"NamedRedis(place={self.place!r})"


def redis_keys(section: str) -> tuple[str, ...]:
    """Keys of a section that name a Redis."""
    return tuple(
        f"{prefix}{part}" if prefix else place[1]
        for place, prefix in _PLACES
        if place[0] == section
        for part in _PARTS
        if prefix or len(place) > 1
    )


def find_redis(document: Mapping[str, Any], env: Mapping[str, str], problems: list[Problem]) -> NamedRedis | None:
    """The first Redis that LiteLLM's sections name: for its workers, for its router, for its cache."""
    for place, prefix in _PLACES:
        found: Any = document
        for part in place:
            found = found.get(part) if isinstance(found, dict) else None
        if not isinstance(found, dict) or not (prefix or found.get("type", "redis") in _KINDS):
            continue
        values = {part: found[prefix + part] for part in _PARTS if found.get(prefix + part) is not None}
        if not {"url", "host"} & set(values):
            continue
        before = len(problems)
        values = {
            part: from_environment(value, (*place, prefix + part), env, problems) for part, value in values.items()
        }
        if len(problems) > before:
            return None
        named = f"{prefix}url" if "url" in values else f"{prefix}host"
        return NamedRedis(url=_url(values), place=".".join((*place, named)))
    return None


def _url(values: Mapping[str, Any]) -> str:
    if "url" in values:
        return str(values["url"])
    scheme = "rediss" if str(values.get("ssl", "")).lower() == "true" else "redis"
    password = values.get("password") or ""
    login = f"{quote(str(values.get('username') or ''), safe='')}:{quote(str(password), safe='')}@" if password else ""
    return f"{scheme}://{login}{values['host']}:{values.get('port', 6379)}/{values.get('db', 0)}"
