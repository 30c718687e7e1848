"""LiteLLM's sections of a `config.yaml`: the model list becomes static replicas, the master key a tenant's key.

What Weighbridge has no use for is collected, so that it can be named.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weighbridge.config_errors import Path, Problem, dotted, shown
from weighbridge.config_fields import digest
from weighbridge.config_litellm_entry import Elsewhere, Entry, Reader, read_entry
from weighbridge.config_litellm_keys import READ, SECTIONS, Unused
from weighbridge.config_litellm_redis import NamedRedis, find_redis, redis_keys
from weighbridge.config_source import from_environment

ADMIN_TENANT = "admin"
MASTER_KEY = "LITELLM_MASTER_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """Another name for a model group."""

    path: Path
    name: str
    model: str
    hidden: bool = False


@dataclass(slots=True, kw_only=True)
class LiteLLM:
    """What the LiteLLM sections say that Weighbridge uses, what it does not use, and what is wrong."""

    entries: list[Entry] = field(default_factory=list)
    elsewhere: list[Elsewhere] = field(default_factory=list)
    """Models of others: not served here, and targets for work that overflows."""
    aliases: list[Alias] = field(default_factory=list)
    master_key_digest: str | None = None
    redis: NamedRedis | None = None
    unpriced: list[Problem] = field(default_factory=list)
    """Why entries that are servers of ours make no pool: errors when nothing else is served."""
    not_priced: set[str] = field(default_factory=set)
    """The names of those."""
    unused: Unused = field(default_factory=Unused)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, path: Path, value: object, rule: str) -> None:
        self.problems.append(Problem(path=dotted(path), value=shown(path, value), rule=rule))


def read(document: Mapping[str, Any], env: Mapping[str, str]) -> LiteLLM:
    """Read every LiteLLM section."""
    result = LiteLLM()
    own = laid_over(document, env)
    env = environment(document, env)
    _master_key(document, env, own, result)
    if document.get("redis") is None:
        result.redis = find_redis(document, env, result.problems)
    model_list = document.get("model_list")
    if model_list is not None and not isinstance(model_list, list):
        result.problem(("model_list",), model_list, "must be a list")
    else:
        _entries(model_list or [], document, env, own, result)
    _aliases(document.get("router_settings"), result)
    for section in document:
        if section in SECTIONS and section not in READ:
            _unused(section, document[section], result)
    return result


def environment(document: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, str]:
    """What `os.environ/NAME` is read from: the environment, and `environment_variables` for what is not in it.

    LiteLLM reads these values before it sets `environment_variables`, so the environment wins.
    """
    return {**laid_over(document, env), **env}


def laid_over(document: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, str]:
    """What LiteLLM's own variables are read from: the environment with `environment_variables` over it.

    Their values may be `os.environ/NAME` themselves; one that is not set leaves the variable as it is.
    """
    extra = document.get("environment_variables")
    laid: dict[str, str] = {}
    for name, value in extra.items() if isinstance(extra, dict) else ():
        missing: list[Problem] = []
        found = from_environment(value, (), env, missing)
        if not missing:
            laid[str(name)] = str(found)
    return {**env, **laid}


def _entries(
    items: list[Any], document: Mapping[str, Any], env: Mapping[str, str], own: Mapping[str, str], result: LiteLLM
) -> None:
    reader = Reader(
        env=env,
        defaults=own,
        credentials=_credentials(document.get("credential_list"), result),
        unused=result.unused,
        problems=result.problems,
    )
    for index, item in enumerate(items):
        entry = read_entry(item, ("model_list", index), reader)
        if isinstance(entry, Entry):
            result.entries.append(entry)
        elif entry is not None:
            result.elsewhere.append(entry)


def _credentials(value: Any, result: LiteLLM) -> dict[str, dict[str, Any]]:
    """The values of each named credential, as they are written."""
    if value is None:
        return {}
    if not isinstance(value, list):
        result.problem(("credential_list",), value, "must be a list")
        return {}
    found = {}
    for index, item in enumerate(value):
        values = item.get("credential_values") if isinstance(item, dict) else None
        if not isinstance(values, dict) or not isinstance(item.get("credential_name"), str):
            rule = "must be a mapping with credential_name and credential_values"
            result.problem(("credential_list", index), item, rule)
            continue
        found[item["credential_name"]] = values
    return found


def _master_key(document: Mapping[str, Any], env: Mapping[str, str], own: Mapping[str, str], result: LiteLLM) -> None:
    """LiteLLM takes the key from its own variable where the file has none, so an unchanged file stays closed."""
    settings = document.get("general_settings")
    if settings is not None and not isinstance(settings, dict):
        result.problem(("general_settings",), settings, "must be a mapping")
        return
    path: Path = ("general_settings", "master_key")
    written = (settings or {}).get("master_key")
    if written is None:
        if "model_list" not in document or not own.get(MASTER_KEY):
            return
        written, env = f"os.environ/{MASTER_KEY}", own
    before = len(result.problems)
    key = from_environment(written, path, env, result.problems)
    if len(result.problems) > before:
        return
    try:
        result.master_key_digest = digest(str(key))
    except ValueError as error:
        result.problem(path, written, str(error))


def _aliases(settings: Any, result: LiteLLM) -> None:
    """`model_group_alias`: text, or a mapping with `model` and `hidden`. One step: an alias of an alias is none."""
    aliases = settings.get("model_group_alias") if isinstance(settings, dict) else None
    if aliases is None:
        return
    path: Path = ("router_settings", "model_group_alias")
    if not isinstance(aliases, dict):
        result.problem(path, aliases, "must be a mapping of names")
        return
    for name, value in aliases.items():
        model = value.get("model") if isinstance(value, dict) else value
        hidden = isinstance(value, dict) and value.get("hidden") is True
        if not isinstance(model, str) or not model:
            result.problem((*path, str(name)), value, "must be a model name, or a mapping with model and hidden")
            continue
        result.aliases.append(Alias(path=(*path, str(name)), name=str(name), model=model, hidden=hidden))


def _unused(section: str, value: Any, result: LiteLLM) -> None:
    used = {"general_settings": ("master_key",), "router_settings": ("model_group_alias",)}.get(section, ())
    if isinstance(value, dict):
        redis = redis_keys(section)
        named = () if result.redis is None or not result.redis.place.startswith(section) else redis
        result.unused.keys(section, value, used=(*used, *named))
    else:
        result.unused.section(section, value)
