"""One entry of LiteLLM's `model_list`: a server of ours, or a model that something else serves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from estimator.engine import Engine
from estimator.models import MODELS, find_model
from gateway.names import MOST_WILDCARDS
from gateway.plugin.deployment import SELF_HOSTED
from weighbridge.config_errors import Path, Problem, did_you_mean, dotted, shown, suggestion
from weighbridge.config_fields import replica_url
from weighbridge.config_litellm_keys import Unused
from weighbridge.config_source import from_environment

MODES = ("chat", "completion", "embedding", "responses")
_BASE_FROM_ENVIRONMENT: Mapping[str, tuple[str, ...]] = {
    "hosted_vllm": ("HOSTED_VLLM_API_BASE",),
    "openai": ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    "text-completion-openai": ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    "openai_like": ("OPENAI_LIKE_API_BASE",),
    "litellm_proxy": ("LITELLM_PROXY_API_BASE",),
}
_KEY_FROM_ENVIRONMENT: Mapping[str, str] = {
    "hosted_vllm": "HOSTED_VLLM_API_KEY",
    "openai": "OPENAI_API_KEY",
    "text-completion-openai": "OPENAI_API_KEY",
    "openai_like": "OPENAI_LIKE_API_KEY",
    "litellm_proxy": "LITELLM_PROXY_API_KEY",
}
_USED = (
    "model", "api_base", "base_url", "api_key", "custom_llm_provider", "litellm_credential_name",
    "max_parallel_requests",
)  # fmt: skip
_USED_INFO = ("id", "base_model", "engine", "mode")


@dataclass(slots=True, kw_only=True)
class Entry:
    """One entry that is a server of ours."""

    path: Path
    model: str
    """What clients ask for; one with `*` stands for many."""
    served_model: str
    """The name that the server knows, with the `*` of `model` in it."""
    url: str
    api_key: str | None = field(repr=False)
    engine: str | None
    """What `model_info.engine` says; LiteLLM itself has no word for it, and its providers do not tell servers apart."""
    base_model: str | None = None
    """The architecture that `model_info.base_model` names, if it is built in."""
    name: str | None = None
    """`model_info.id`."""
    max_in_flight: int | None = None
    """`max_parallel_requests`: what the server runs at once."""
    family: str | None = None
    """The model of a server whose adapter this is, or itself: what one replica serves under several names."""

    @property
    def loaded(self) -> str:
        """What the server has loaded, adapters aside."""
        return self.family or self.served_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """One entry that something else serves: a hosted model, or a server that speaks another protocol."""

    path: Path
    model: str
    """What clients ask for; one with `*` stands for many."""
    params: Mapping[str, Any] = field(repr=False)
    """`litellm_params` as LiteLLM takes them, with the values of variables that are set. Secrets are in it."""
    unset: tuple[str, ...] = ()
    """Environment variables that `params` name and that are not set; `params` have no such keys."""
    provider: str = ""
    why: str
    """Why it is not served here, ready to follow its path: `is of the provider azure`."""


@dataclass(slots=True, kw_only=True)
class Reader:
    """What entries are read with, and what is noted on the way."""

    env: Mapping[str, str]
    """Where `os.environ/NAME` is read from."""
    defaults: Mapping[str, str]
    """Where LiteLLM's own variables are read from."""
    credentials: Mapping[str, Mapping[str, Any]]
    unused: Unused
    problems: list[Problem]

    def problem(self, path: Path, value: object, rule: str) -> None:
        self.problems.append(Problem(path=dotted(path), value=shown(path, value), rule=rule))

    def text(self, mapping: Mapping[str, Any], key: str, path: Path, *, required: bool = False) -> str | None:
        """A text value, from the environment where it says so. `None`: there is none, or a problem is recorded."""
        value = mapping.get(key)
        if value is None:
            if required:
                self.problems.append(Problem(path=dotted((*path, key)), value=None, rule="is required"))
            return None
        before = len(self.problems)
        value = from_environment(value, (*path, key), self.env, self.problems)
        if len(self.problems) > before:
            return None
        if not isinstance(value, str) or (required and not value):
            self.problem((*path, key), mapping[key], "must be text" if value != "" else "must not be empty")
            return None
        return value


def read_entry(item: Any, path: Path, reader: Reader) -> Entry | Elsewhere | None:
    """One entry, or `None` with at least one problem recorded."""
    if not isinstance(item, dict):
        reader.problem(path, item, "must be a mapping with model_name and litellm_params")
        return None
    reader.unused.keys("model_list[]", item, used=("model_name", "litellm_params", "model_info"))
    before = len(reader.problems)
    name = reader.text(item, "model_name", path, required=True)
    params = item.get("litellm_params")
    where: Path = (*path, "litellm_params")
    if not isinstance(params, dict):
        rule = "is required" if params is None else "must be a mapping"
        reader.problems.append(Problem(path=dotted(where), value=None, rule=rule))
        return None
    params = _with_credential(params, where, reader)
    model = reader.text(params, "model", where, required=True)
    if len(reader.problems) > before or name is None or model is None:
        return None
    info = item.get("model_info")
    info = info if isinstance(info, dict) else {}
    provider, served = _provider(params, model, where, reader)
    base = _base(params, provider, reader.defaults)
    hosted = base in params and is_hosted(str(from_environment(params[base], (), reader.env, [])))
    why = _why_elsewhere(provider, None if hosted else base, info) or _why_no_pattern(name, served)
    if why is not None:
        values, unset = _values(params, reader.env)
        return Elsewhere(
            path=path,
            model=name,
            params=values,
            unset=unset,
            provider=provider or "",
            why=why,
        )
    reader.unused.keys("litellm_params", params, used=_USED, prefix="model_list[].litellm_params")
    reader.unused.keys("model_info", info, used=_USED_INFO, prefix="model_list[].model_info")
    url = _url(params, base, where, reader)
    api_key = reader.text(params, "api_key", where) or reader.defaults.get(
        _KEY_FROM_ENVIRONMENT.get(provider or "", "")
    )
    engine = _engine(info, (*path, "model_info"), reader)
    max_in_flight = _max_in_flight(params, where, reader)
    if len(reader.problems) > before or url is None:
        return None
    return Entry(
        path=path,
        model=name,
        served_model=served,
        url=url,
        api_key=api_key or None,
        engine=engine,
        base_model=_base_model(info, reader),
        max_in_flight=max_in_flight,
        name=_id(info),
    )


def _with_credential(params: dict[str, Any], path: Path, reader: Reader) -> dict[str, Any]:
    name = params.get("litellm_credential_name")
    if name is None:
        return params
    values = reader.credentials.get(str(name))
    if values is None:
        rule = f"no such credential; {did_you_mean(str(name), reader.credentials)}"
        reader.problems.append(Problem(path=dotted((*path, "litellm_credential_name")), value=repr(name), rule=rule))
        return params
    return {**values, **params}


def _provider(params: Mapping[str, Any], model: str, path: Path, reader: Reader) -> tuple[str | None, str]:
    """The provider, as LiteLLM finds it, and `hosted_vllm/meta-llama/Llama-3.1-8B-Instruct` without it."""
    named = reader.text(params, "custom_llm_provider", path)
    if named:
        return named, model.removeprefix(f"{named}/")
    prefix, slash, rest = model.partition("/")
    return (prefix, rest) if slash and rest else (None, model)


def _base(params: Mapping[str, Any], provider: str | None, env: Mapping[str, str]) -> str | None:
    """The key that holds the address, or the variable that LiteLLM falls back to."""
    for key in ("api_base", "base_url"):
        if params.get(key):
            return key
    return next((name for name in _BASE_FROM_ENVIRONMENT.get(provider or "", ()) if env.get(name)), None)


def _why_elsewhere(provider: str | None, base: str | None, info: Mapping[str, Any]) -> str | None:
    if provider not in SELF_HOSTED:
        return f"is of the provider {provider}" if provider else "names no provider"
    if base is None:
        return f"has no api_base of its own, so it is of the provider {provider} itself"
    mode = info.get("mode")
    if mode is not None and mode not in MODES:
        return f"has the mode {str(mode)[:40]}; served are {', '.join(MODES)}"
    return "is blocked" if info.get("blocked") is True else None


def _why_no_pattern(name: str, served: str) -> str | None:
    """LiteLLM fills each `*` of the served name with what the one in its place has matched."""
    if "*" not in name and "*" not in served:
        return None
    if name.count("*") > MOST_WILDCARDS:
        return f"has more than {MOST_WILDCARDS} wildcards"
    if "*" in served and served.count("*") != name.count("*"):
        return "has another number of wildcards in model_name than in litellm_params.model"
    return None


def _url(params: Mapping[str, Any], base: str | None, path: Path, reader: Reader) -> str | None:
    if base is None:
        return None
    in_file = base in params
    url = reader.text(params, base, path) if in_file else reader.defaults[base]
    if url is None:
        return None
    try:
        return replica_url(url)
    except ValueError as error:
        reader.problem((*path, base) if in_file else ("environment", base), params.get(base, url), str(error))
        return None


def _engine(info: Mapping[str, Any], path: Path, reader: Reader) -> str | None:
    """The engine that an entry's `model_info` names."""
    engine = reader.text(info, "engine", path)
    if engine is not None and engine not in tuple(Engine):
        reader.problem((*path, "engine"), info["engine"], f"must be one of {', '.join(Engine)}")
        return None
    return engine


def _max_in_flight(params: Mapping[str, Any], path: Path, reader: Reader) -> int | None:
    """`max_parallel_requests`; LiteLLM takes 0 for no bound."""
    before = len(reader.problems)
    value = from_environment(
        params.get("max_parallel_requests"), (*path, "max_parallel_requests"), reader.env, reader.problems
    )
    if value is None or len(reader.problems) > before:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        reader.problem((*path, "max_parallel_requests"), value, "must be a whole number, at least 0")
        return None
    return value or None


def _base_model(info: Mapping[str, Any], reader: Reader) -> str | None:
    """`base_model`, with or without a provider. One that is not built in is noted: it prices nothing."""
    value = info.get("base_model")
    if not isinstance(value, str):
        return None
    name = value.partition("/")[2] if value.partition("/")[0] in SELF_HOSTED else value
    if find_model(name) is None:
        reader.unused.lacks(f"model_list[].model_info.base_model: {name} (no built-in architecture)")
        return None
    return name


def _id(info: Mapping[str, Any]) -> str | None:
    """An `id` that can name a replica."""
    text = str(info.get("id") or "")
    fits = text.isascii() and text.isprintable() and " " not in text and len(text) <= 128
    return text if text and fits else None


def _values(params: Mapping[str, Any], env: Mapping[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """`params` with the values of variables; those that are not set are left out and named."""
    values: dict[str, Any] = {}
    unset: list[str] = []
    for key, value in params.items():
        missing: list[Problem] = []
        found = from_environment(value, (key,), env, missing)
        if missing:
            unset.extend(str(problem.value).removeprefix("os.environ/") for problem in missing)
        else:
            values[key] = found
    return values, tuple(dict.fromkeys(unset))


def guess_problem(entry: Entry) -> Problem | None:
    """Why no pool can be made of an entry: its architecture is not built in."""
    if entry.base_model is not None or find_model(entry.served_model) is not None:
        return None
    path = (*entry.path, "litellm_params", "model")
    close = suggestion(entry.served_model, MODELS)
    meant = f"did you mean {close!r}?" if close else "`weighbridge models` lists those that are"
    rule = (
        f"no built-in architecture has this name ({meant}); "
        f"add a pool with models: [{entry.model}] and architecture: the path of the model's config.json, "
        "or set model_info.base_model"
    )
    return Problem(path=dotted(path), value=shown(path, entry.served_model), rule=rule)


def is_hosted(url: str) -> bool:
    """Whether an address is OpenAI's own."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return host == "api.openai.com" or host.endswith(".openai.com")
