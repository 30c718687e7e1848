"""Reading the configuration file: one call gives a checked `Config` or every problem at once.

The order is: YAML, LiteLLM's sections, the environment, LiteLLM's entries merged into our sections, a check of them.
A `Config` holds no reference to the file, to LiteLLM or to the environment, so `dump` of it can be read anywhere: of
files that it names, tokenizers alone are left, by absolute paths.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autoscaler.settings import SettingsError
from estimator.models import find_model
from estimator.tokenizer_file import load_tokenizer
from gateway.names import is_pattern
from gateway.plugin.deployment import SELF_HOSTED
from weighbridge.calibrate.file import read_calibration
from weighbridge.config_autoscaler import AutoscalerSection
from weighbridge.config_errors import ConfigError, Problem, did_you_mean, dotted, problems_from, shown
from weighbridge.config_fields import REVEAL, digest, is_model_pattern
from weighbridge.config_include import INCLUDE, merged, read_text
from weighbridge.config_litellm import ADMIN_TENANT, LiteLLM, environment, read
from weighbridge.config_litellm_entry import Elsewhere
from weighbridge.config_litellm_keys import SECTIONS
from weighbridge.config_merge import alias, elsewhere_of, merge, models_of
from weighbridge.config_models import Config, PoolSection
from weighbridge.config_source import document, from_environment
from weighbridge.config_spill import put_entries, spill_without_a_tenant
from weighbridge.config_wildcard import Ask, Wildcard, spread, told
from weighbridge.model_file import is_path, read_model_file
from weighbridge.wiring import autoscaler_settings

OUR_SECTIONS = tuple(Config.model_fields)
OWN_SERVERS = f"; own servers have an api_base and one of {', '.join(f'{name}/' for name in SELF_HOSTED)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration and what the operator should be told once about how it was read."""

    config: Config
    not_needed: tuple[str, ...] = ()
    """LiteLLM keys whose work is done here in another way, or that concern what is not here."""
    missed: tuple[str, ...] = ()
    """LiteLLM keys that have no effect here and would have one there."""
    elsewhere: tuple[Elsewhere, ...] = ()
    """Entries of `model_list` that are not served here."""
    unpriced: tuple[Problem, ...] = ()
    """Entries of `model_list` that could be served if their architecture were known."""
    wildcards: tuple[Wildcard, ...] = ()
    redis_named_by: str | None = None
    """LiteLLM's key that names the Redis, where there is no `redis` section."""
    assumed_gpu: tuple[str, ...] = ()
    """Pools made from `model_list`, whose GPU is assumed until a pool says otherwise."""


def load(path: Path, env: Mapping[str, str], *, ask: Ask | None = None) -> Loaded:
    """Read a file and what it includes. Raises `ConfigError`, also for a file that cannot be read.

    `ask`: what model servers list, for wildcards. Without it a wildcard covers what the file itself names.
    """
    text = read_text(path, lambda rule: Problem(path="(file)", value=None, rule=rule))
    return parse(text, env, source=str(path), directory=path.parent, ask=ask)


def parse(
    text: str,
    env: Mapping[str, str],
    *,
    source: str = "configuration",
    directory: Path = Path(),
    ask: Ask | None = None,
) -> Loaded:
    """A configuration from YAML text. `directory`: what the paths in it are relative to."""
    written = merged(document(text, source), source, directory)
    problems = _unknown_sections(written)
    litellm = read(written, env)
    problems.extend(litellm.problems)
    env = environment(written, env)
    sections = {
        name: from_environment(written[name], (name,), env, problems)
        for name in OUR_SECTIONS
        if written.get(name) is not None
    }
    assumed: tuple[str, ...] = ()
    wildcards: tuple[Wildcard, ...] = ()
    pools = sections.setdefault("pools", {})
    if isinstance(pools, dict):
        sections["pools"] = pools = {name: _explicit(name, pool) for name, pool in pools.items()}
        place = partial(_place, directory)
        _inline_architectures(pools, place, problems)
        _inline_calibrations(pools, place, problems)
        _check_tokenizers(pools, place, problems)
        wildcards = spread(litellm, pools, ask)
        assumed = merge(pools, litellm, problems)
        problems.extend(put_entries(pools, litellm.elsewhere))
        _complete(pools, problems)
        _not_served(sections, pools, litellm, wildcards)
        problems.extend(_shared_models(pools))
        if not pools and not litellm.problems:
            problems.extend(_nothing(litellm, wildcards))
    if litellm.redis is not None:
        sections["redis"] = {"url": litellm.redis.url}
    tenants = sections.setdefault("tenants", {})
    if isinstance(tenants, dict):
        _add_admin(tenants, litellm.master_key_digest)
        problems.extend(_shared_keys(tenants))
        problems.extend(_money_without_a_price(tenants, pools))
        problems.extend(spill_without_a_tenant(tenants, pools))
    config = _validated(sections, written, problems)
    if config is None:
        raise ConfigError(source, _first_per_path(problems))
    return Loaded(
        config=config,
        not_needed=tuple(litellm.unused.not_needed),
        missed=tuple(litellm.unused.missed),
        elsewhere=tuple(litellm.elsewhere),
        unpriced=tuple(litellm.unpriced),
        wildcards=wildcards,
        redis_named_by=None if litellm.redis is None else litellm.redis.place,
        assumed_gpu=assumed,
    )


def _unknown_sections(written: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for section in written:
        if section not in OUR_SECTIONS and section not in SECTIONS:
            known = (*OUR_SECTIONS, INCLUDE, *sorted(SECTIONS))
            value = None if isinstance(written[section], dict | list) else shown((str(section),), written[section])
            rule = f"unknown section; {did_you_mean(str(section), known)}"
            problems.append(Problem(path=str(section), value=value, rule=rule))
    return problems


def _not_served(
    sections: dict[str, Any], pools: dict[str, Any], litellm: LiteLLM, wildcards: tuple[Wildcard, ...]
) -> None:
    """Aliases, and what is told of names that are known and that no pool serves."""
    found = elsewhere_of(litellm, pools)
    alias(pools, found, litellm)
    found = {**told(wildcards), **found}
    written = sections.get("elsewhere", {})
    if found and isinstance(written, dict):
        sections["elsewhere"] = {**{name: why for name, why in found.items() if is_model_pattern(name)}, **written}


def _nothing(litellm: LiteLLM, wildcards: tuple[Wildcard, ...]) -> list[Problem]:
    """Why no pool is left: all that was passed over."""
    problems = [
        Problem(path=dotted((*entry.path, "litellm_params", "model")), value=None, rule=f"{entry.why}{OWN_SERVERS}")
        for entry in litellm.elsewhere
    ]
    problems.extend(litellm.unpriced)
    for wildcard in wildcards:
        silent = f"; no answer from {', '.join(wildcard.silent)}" if wildcard.silent else ""
        rule = f"the wildcard {wildcard.pattern} covers nothing that has an architecture: name it in a pool{silent}"
        problems.append(Problem(path=f"model_list ({wildcard.pattern})", value=None, rule=rule))
    return problems or [Problem(path="pools", value=None, rule="a pool or an entry in model_list is required")]


def dump(config: Config) -> str:
    """The configuration as text that `parse` reads back to an equal one.

    Secrets are in it: write it only to a file that no other user can read.
    """
    values = config.model_dump(mode="json", exclude_defaults=True, context={REVEAL: True})
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _validated(sections: dict[str, Any], written: dict[str, Any], problems: list[Problem]) -> Config | None:
    try:
        config = Config.model_validate(sections)
    except ValidationError as error:
        found = problems_from(error, Config, written)
        # "pools must not be empty" says nothing when the entries that would fill it are what is wrong.
        problems.extend(problem for problem in found if not (problem.path == "pools" and problems))
        _scaling(sections, problems)
        return None
    _scaling(sections, problems)
    return None if problems else config


def _scaling(sections: dict[str, Any], problems: list[Problem]) -> None:
    """Relations between scaling settings, for every pool that is sound by itself."""
    pools = sections.get("pools")
    for name, pool in pools.items() if isinstance(pools, dict) else ():
        try:
            defaults = AutoscalerSection.model_validate(sections.get("autoscaler", {}))
            section = PoolSection.model_validate(pool)
            settings = autoscaler_settings(name, section, defaults)
            if settings.advisory and section.replicas.processes is not None:
                rule = "a processes pool has only the replicas that the autoscaler starts, so it cannot be advised only"
                problems.append(Problem(path=f"pools.{name}.autoscaler.advisory", value="true", rule=rule))
        except SettingsError as error:
            rules = [text.partition(": must hold: ")[2] or text for text in error.errors]
            problem = f"must hold together with the global section and the defaults: {'; '.join(rules)}"
            problems.append(Problem(path=f"pools.{name}.autoscaler", value=None, rule=problem))
        except ValidationError:
            continue  # already reported, key by key


def _explicit(name: object, pool: Any) -> Any:
    """A pool as written, with `models` defaulting to its own name."""
    return {"models": [str(name)], **pool} if isinstance(pool, dict) else pool


def _inline_architectures(pools: dict[str, Any], place: Callable[[str], Path], problems: list[Problem]) -> None:
    """Replace the path of a `config.json`, or of its folder, by the file's content."""
    for name, pool in pools.items():
        value = pool.get("architecture") if isinstance(pool, dict) else None
        if not isinstance(value, str) or not is_path(value):
            continue
        path = ("pools", name, "architecture")
        try:
            pool["architecture"] = read_model_file(place(value))
        except ValueError as error:
            problems.append(Problem(path=dotted(path), value=shown(path, value), rule=str(error)))


def _place(directory: Path, name: str) -> Path:
    """Raises `ValueError` for the home of a user who has none."""
    try:
        return Path(directory, Path(name).expanduser())
    except RuntimeError:
        raise ValueError(f"cannot be read: {Path(name).parts[0]} is no home folder") from None


def _inline_calibrations(pools: dict[str, Any], place: Callable[[str], Path], problems: list[Problem]) -> None:
    """Replace the path of a calibration file by what a pool needs of it."""
    for name, pool in pools.items():
        value = pool.get("calibration") if isinstance(pool, dict) else None
        if not isinstance(value, str):
            continue
        path = ("pools", name, "calibration")
        try:
            pool["calibration"] = read_calibration(place(value))
        except ValueError as error:
            problems.append(Problem(path=dotted(path), value=shown(path, value), rule=str(error)))
            del pool["calibration"]


def _check_tokenizers(pools: dict[str, Any], place: Callable[[str], Path], problems: list[Problem]) -> None:
    """Load each tokenizer once, and replace its path by one that holds in any process: vocabularies are not inlined."""
    wrong: dict[Path, str | None] = {}
    for name, pool in pools.items():
        value = pool.get("tokenizer") if isinstance(pool, dict) else None
        if not isinstance(value, str) or not value:
            continue
        path = ("pools", name, "tokenizer")
        try:
            file = place(value).absolute()
        except ValueError as error:
            problems.append(Problem(path=dotted(path), value=shown(path, value), rule=str(error)))
            continue
        if file not in wrong:
            wrong[file] = _tokenizer_problem(file)
        rule = wrong[file]
        if rule is not None:
            problems.append(Problem(path=dotted(path), value=shown(path, value), rule=rule))
        pool["tokenizer"] = str(file)


def _tokenizer_problem(file: Path) -> str | None:
    try:
        load_tokenizer(file)
    except ValueError as error:
        return str(error)
    return None


def _complete(pools: dict[str, Any], problems: list[Problem]) -> None:
    """Fill in what follows from other values: the served model, the architecture that goes with it."""
    for name, pool in pools.items():
        if not isinstance(pool, dict):
            continue
        plain = [model for model in models_of(pool) if not is_pattern(model)]
        if "served_model" not in pool and not plain and not set(models_of(pool)) <= set(pool.get("served_as") or {}):
            rule = "is required where all models have a wildcard"
            problems.append(Problem(path=f"pools.{name}.served_model", value=None, rule=rule))
        served = pool.setdefault("served_model", next(iter(plain), str(name)))
        if "architecture" not in pool and isinstance(served, str):
            if find_model(served) is None:
                rule = f"is required: no built-in architecture is named {served!r}"
                problems.append(Problem(path=f"pools.{name}.architecture", value=None, rule=rule))
            else:
                pool["architecture"] = served


def _shared_models(pools: Mapping[str, Any]) -> list[Problem]:
    owners: dict[str, str] = {}
    problems = []
    for name, pool in pools.items():
        for index, model in enumerate(dict.fromkeys(models_of(pool))):
            owner = owners.setdefault(model, name)
            if owner != name:
                path = f"pools.{name}.models[{index}]"
                problems.append(Problem(path=path, value=repr(model), rule=f"is already served by pools.{owner}"))
    return problems


def _add_admin(tenants: dict[str, Any], key_digest: str | None) -> None:
    if key_digest is None:
        return
    admin = tenants.setdefault(ADMIN_TENANT, {"keys": []})
    if isinstance(admin, dict) and isinstance(admin.get("keys"), list) and key_digest not in admin["keys"]:
        admin["keys"] = [*admin["keys"], key_digest]


def _shared_keys(tenants: Mapping[str, Any]) -> list[Problem]:
    """A key must mean one tenant. Compared as digests, so that a plain key and its digest are seen to be equal."""
    owners: dict[str, str] = {}
    problems = []
    for name, tenant in tenants.items():
        keys = tenant.get("keys") if isinstance(tenant, dict) else None
        for index, key in enumerate(keys if isinstance(keys, list) else ()):
            try:
                known = key.lower() if key.startswith("sha256:") else digest(key)
            except (AttributeError, ValueError):
                continue
            owner = owners.setdefault(known, f"tenants.{name}.keys[{index}]")
            path = ("tenants", name, "keys", index)
            if owner != dotted(path):
                problems.append(Problem(path=dotted(path), value=shown(path, key), rule=f"is also {owner}"))
    return problems


def _money_without_a_price(tenants: Mapping[str, Any], pools: Any) -> list[Problem]:
    """A budget in money counts nothing where no pool has a price."""
    priced = pools.values() if isinstance(pools, dict) else ()
    if any(isinstance(pool, dict) and pool.get("price_per_gpu_hour") is not None for pool in priced):
        return []
    problems = []
    for name, tenant in tenants.items():
        limits = tenant.get("limits") if isinstance(tenant, dict) else None
        if not isinstance(limits, dict):
            continue
        for key in ("money_per_day", "money_per_month"):
            if limits.get(key) is not None:
                path = ("tenants", name, "limits", key)
                rule = "counts nothing until a pool has a price_per_gpu_hour"
                problems.append(Problem(path=dotted(path), value=shown(path, limits[key]), rule=rule))
    return problems


def _first_per_path(problems: list[Problem]) -> list[Problem]:
    """One problem per key: a variable that is not set is not also "not a number"."""
    first: dict[str, Problem] = {}
    for problem in problems:
        first.setdefault(problem.path, problem)
    return list(first.values())


def from_process(path: Path) -> Loaded:
    """`load` with this process's environment, asking the servers of wildcards: for the command line."""
    from weighbridge.config_ask import ask_server

    return load(path, os.environ, ask=ask_server)  # noqa: TID251 (the composition root)
