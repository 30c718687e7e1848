"""LiteLLM's sections of a `config.yaml`: the model list becomes static replicas, the master key a tenant's key.

What Weighbridge has no use for is collected, so that one log line can name it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from estimator.engine import Engine
from estimator.models import MODELS, find_model
from weighbridge.config_errors import Path, Problem, did_you_mean, dotted, shown
from weighbridge.config_fields import digest, replica_url
from weighbridge.config_source import from_environment

SECTIONS = frozenset(
    {
        "model_list", "general_settings", "litellm_settings", "router_settings", "environment_variables", "include",
        "callback_settings", "credential_list", "guardrails", "mcp_servers", "mcp_aliases", "vector_store_registry",
        "vector_store_settings", "search_tools", "prompts", "agent_list", "assistant_settings", "files_settings",
        "finetune_settings", "default_team_settings", "cache_settings", "cost_discount_config", "health_check_settings",
        "worker_registry", "policies", "sandbox_params",
    }
)  # fmt: skip
PROVIDERS = ("hosted_vllm", "openai", "text-completion-openai", "openai_like", "litellm_proxy")
ADMIN_TENANT = "admin"


@dataclass(slots=True, kw_only=True)
class Entry:
    """One usable entry of `model_list`."""

    path: Path
    model: str
    served_model: str
    url: str
    api_key: str | None
    engine: str | None
    """What `model_info.engine` says; LiteLLM itself has no word for it, and its providers do not tell servers apart."""


@dataclass(slots=True, kw_only=True)
class LiteLLM:
    """What the LiteLLM sections say that Weighbridge uses, what it does not use, and what is wrong."""

    entries: list[Entry] = field(default_factory=list)
    master_key_digest: str | None = None
    ignored: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, path: Path, value: object, rule: str) -> None:
        self.problems.append(Problem(path=dotted(path), value=shown(path, value), rule=rule))


def read(document: Mapping[str, Any], env: Mapping[str, str]) -> LiteLLM:
    """Read every LiteLLM section. `environment_variables` wins over `env`, as in LiteLLM."""
    result = LiteLLM()
    env = environment(document, env)
    _general_settings(document.get("general_settings"), env, result)
    model_list = document.get("model_list")
    if model_list is not None and not isinstance(model_list, list):
        result.problem(("model_list",), model_list, "must be a list")
    else:
        for index, item in enumerate(model_list or ()):
            entry = _entry(item, ("model_list", index), env, result)
            if entry is not None:
                result.entries.append(entry)
    for section in document:
        if section in SECTIONS and section not in ("model_list", "general_settings", "environment_variables"):
            value = document[section]
            nested = [f"{section}.{key}" for key in value] if isinstance(value, dict) else [section]
            result.ignored.extend(nested)
    result.ignored = list(dict.fromkeys(result.ignored))
    return result


def environment(document: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, str]:
    """The environment with LiteLLM's `environment_variables` laid over it."""
    extra = document.get("environment_variables")
    own = {str(name): str(value) for name, value in extra.items()} if isinstance(extra, dict) else {}
    return {**env, **{name: value for name, value in own.items() if not value.startswith("os.environ/")}}


def _general_settings(value: Any, env: Mapping[str, str], result: LiteLLM) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        result.problem(("general_settings",), value, "must be a mapping")
        return
    result.ignored.extend(f"general_settings.{key}" for key in value if key != "master_key")
    if value.get("master_key") is None:
        return
    path: Path = ("general_settings", "master_key")
    before = len(result.problems)
    key = from_environment(value["master_key"], path, env, result.problems)
    if len(result.problems) > before:
        return
    try:
        result.master_key_digest = digest(str(key))
    except ValueError as error:
        result.problem(path, value["master_key"], str(error))


def _entry(item: Any, path: Path, env: Mapping[str, str], result: LiteLLM) -> Entry | None:
    """One entry, or `None` with at least one problem recorded."""
    if not isinstance(item, dict):
        result.problem(path, item, "must be a mapping with model_name and litellm_params")
        return None
    before = len(result.problems)
    known = ("model_name", "litellm_params", "model_info")
    result.ignored.extend(f"model_list[].{key}" for key in item if key not in known)
    engine = _engine(item.get("model_info"), (*path, "model_info"), env, result)
    name = _text(item, "model_name", path, env, result)
    if "*" in (name or ""):
        result.problem((*path, "model_name"), name, "wildcards are not supported; list each model")
    params = item.get("litellm_params")
    where: Path = (*path, "litellm_params")
    if not isinstance(params, dict):
        rule = "is required" if params is None else "must be a mapping"
        result.problems.append(Problem(path=dotted(where), value=None, rule=rule))
        return None
    used = ("model", "api_base", "base_url", "api_key", "custom_llm_provider")
    result.ignored.extend(f"model_list[].litellm_params.{key}" for key in params if key not in used)
    served = _served_model(params, where, env, result)
    base = "base_url" if "api_base" not in params and "base_url" in params else "api_base"
    url = _text(params, base, where, env, result)
    if url is not None:
        try:
            url = replica_url(url)
        except ValueError as error:
            result.problem((*where, base), params[base], str(error))
    api_key = _text(params, "api_key", where, env, result, required=False)
    if len(result.problems) > before or name is None or served is None or url is None:
        return None
    return Entry(path=path, model=name, served_model=served, url=url, api_key=api_key or None, engine=engine)


def _engine(info: Any, path: Path, env: Mapping[str, str], result: LiteLLM) -> str | None:
    """The engine that an entry's `model_info` names. All else in it is ignored."""
    if not isinstance(info, dict):
        result.ignored.extend(["model_list[].model_info"] if info is not None else ())
        return None
    result.ignored.extend(f"model_list[].model_info.{key}" for key in info if key != "engine")
    engine = _text(info, "engine", path, env, result, required=False)
    if engine is not None and engine not in tuple(Engine):
        result.problem((*path, "engine"), info["engine"], f"must be one of {', '.join(Engine)}")
        return None
    return engine


def _text(
    mapping: Mapping[str, Any],
    key: str,
    path: Path,
    env: Mapping[str, str],
    result: LiteLLM,
    *,
    required: bool = True,
) -> str | None:
    value = mapping.get(key)
    if value is None:
        if required:
            result.problems.append(Problem(path=dotted((*path, key)), value=None, rule="is required"))
        return None
    before = len(result.problems)
    value = from_environment(value, (*path, key), env, result.problems)
    if len(result.problems) > before:
        return None
    if not isinstance(value, str) or (required and not value):
        result.problem((*path, key), mapping[key], "must be text" if value != "" else "must not be empty")
        return None
    return value


def _served_model(params: Mapping[str, Any], path: Path, env: Mapping[str, str], result: LiteLLM) -> str | None:
    """`hosted_vllm/meta-llama/Llama-3.1-8B-Instruct` without its provider."""
    model = _text(params, "model", path, env, result)
    if model is None:
        return None
    provider = params.get("custom_llm_provider")
    if provider in PROVIDERS:
        return model.removeprefix(f"{provider}/")
    prefix, slash, rest = model.partition("/")
    if slash and prefix in PROVIDERS and rest and provider is None:
        return rest
    rule = f"must start with a provider of OpenAI-compatible servers ({', '.join(f'{name}/' for name in PROVIDERS)})"
    hint = (
        ""
        if prefix in ("azure", "anthropic", "bedrock", "gemini", "vertex_ai")
        else f"; for example hosted_vllm/{model}"
    )
    result.problem((*path, "model"), params["model"], rule + hint)
    return None


def guess_problem(entry: Entry) -> Problem | None:
    """Why no pool can be made of an entry: its architecture is not built in."""
    if find_model(entry.served_model) is not None:
        return None
    path = (*entry.path, "litellm_params", "model")
    rule = (
        f"no built-in architecture has this name ({did_you_mean(entry.served_model, MODELS)}); "
        f"add a pool with models: [{entry.model}] and architecture: the path of the model's config.json"
    )
    return Problem(path=dotted(path), value=shown(path, entry.served_model), rule=rule)
