"""LiteLLM's entries and aliases made part of our own sections."""

import re
from collections.abc import Mapping
from typing import Any

from estimator.models import find_model
from gateway.names import is_pattern, served_name
from weighbridge.config_errors import Problem, dotted, shown
from weighbridge.config_litellm import Alias, LiteLLM
from weighbridge.config_litellm_entry import Entry, guess_problem

DEFAULT_GPU = "H100"


def models_of(pool: Any) -> list[str]:
    """The names that a pool is written to serve, those that are text."""
    models = pool.get("models") if isinstance(pool, dict) else None
    return [model for model in models if isinstance(model, str)] if isinstance(models, list) else []


def merge(pools: dict[str, Any], litellm: LiteLLM, problems: list[Problem]) -> tuple[str, ...]:
    """Give each LiteLLM entry to the pool that serves its model, or to a new one. Returns the names of new pools."""
    owners = {model: name for name, pool in pools.items() for model in models_of(pool)}
    by_model: dict[str, list[Entry]] = {}
    for entry in litellm.entries:
        by_model.setdefault(entry.model, []).append(entry)
    made: dict[object, str] = {}
    fed: dict[str, list[Entry]] = {}
    for model, entries in by_model.items():
        owner = owners.get(model)
        if owner is None:
            problem = guess_problem(entries[0])
            if problem is not None:
                litellm.unpriced.append(problem)
                litellm.not_priced.add(model)
                continue
            owner = _new_pool(model, entries, pools, made)
        elif "replicas" in pools[owner]:
            for entry in entries:
                litellm.unused.lacks(f"{dotted(entry.path)} (pools.{owner} has its own replicas)")
            continue
        fed.setdefault(owner, []).extend(entries)
    for owner, entries in fed.items():
        problems.extend(_disagreements(entries))
        problems.extend(_engines(entries, owner, pools[owner]))
        _slots(pools[owner], entries)
        _served(pools[owner], entries)
        pools[owner]["replicas"] = {"static": _replicas(entries)}
    return tuple(dict.fromkeys(made.values()))


def _new_pool(model: str, entries: list[Entry], pools: dict[str, Any], made: dict[object, str]) -> str:
    """A pool of its own for a model, unless the same servers serve the same model under another name already."""
    first = entries[0]
    shape = find_model(first.base_model or first.served_model)
    alike = (first.loaded, shape and shape.name, frozenset(entry.url for entry in entries), is_pattern(model))
    owner = made.get(alike)
    if owner is not None:
        pools[owner]["models"].append(model)
        return owner
    owner = made[alike] = _pool_name(model, pools)
    pools[owner] = {"models": [model], "gpu": DEFAULT_GPU}
    return owner


def _served(pool: dict[str, Any], entries: list[Entry]) -> None:
    """Under which name the replicas know each model, and whose architecture they have."""
    first = entries[0]
    plain = next((entry.loaded for entry in entries if not is_pattern(entry.loaded)), first.base_model)
    if plain is not None:
        pool.setdefault("served_model", plain)
    others = {
        entry.model: entry.served_model
        for entry in entries
        if is_pattern(entry.served_model) or (entry.family is not None and entry.served_model != pool["served_model"])
    }
    if others:
        pool["served_as"] = {**others, **(pool.get("served_as") or {})}
    if first.base_model is not None:
        pool.setdefault("architecture", first.base_model)


def _replicas(entries: list[Entry]) -> list[dict[str, Any]]:
    unique = {entry.url: entry for entry in entries}
    names = [entry.name for entry in unique.values()]
    return [
        {"url": url, "api_key": entry.api_key, **({"name": entry.name} if names.count(entry.name) == 1 else {})}
        for url, entry in unique.items()
    ]


def _disagreements(entries: list[Entry]) -> list[Problem]:
    """Entries of one pool must be the same model at different addresses, or the same replica under another name."""
    problems = []
    first: dict[bool, Entry] = {}  # a wildcard's served name may stand beside plain ones
    seen: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        other = first.setdefault(is_pattern(entry.loaded), entry)
        if entry.loaded != other.loaded:
            path = (*entry.path, "litellm_params", "model")
            rule = f"differs from {dotted(other.path)} ({other.served_model!r}), which is in the same pool"
            problems.append(Problem(path=dotted(path), value=shown(path, entry.served_model), rule=rule))
        twin = seen.setdefault((entry.url, entry.model), entry)
        if twin is not entry:
            path = (*entry.path, "litellm_params", "api_base")
            rule = f"is the same replica as {dotted(twin.path)}"
            problems.append(Problem(path=dotted(path), value=shown(path, entry.url), rule=rule))
    return problems


def _engines(entries: list[Entry], owner: str, pool: dict[str, Any]) -> list[Problem]:
    """Take the pool's engine from its entries, all of which must name the same, the pool's own, or none."""
    named = [entry for entry in entries if entry.engine is not None]
    if not named:
        return []
    source = f"pools.{owner}" if "engine" in pool else dotted(named[0].path)
    engine = pool.setdefault("engine", named[0].engine)
    problems = []
    for entry in named:
        if entry.engine != engine:
            path = (*entry.path, "model_info", "engine")
            rule = f"differs from {source} ({engine!r}): a pool has one engine"
            problems.append(Problem(path=dotted(path), value=shown(path, entry.engine), rule=rule))
    return problems


def _slots(pool: dict[str, Any], entries: list[Entry]) -> None:
    """What one replica runs at once, where the pool does not say and all of its entries say the same."""
    bounds = {entry.max_in_flight for entry in entries}
    if len(bounds) == 1 and "max_in_flight" not in pool:
        pool["max_in_flight"] = bounds.pop()


def _pool_name(model: str, pools: Mapping[str, Any]) -> str:
    """A pool name made of a model name, not yet taken."""
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-._")[:58] or "pool"
    names = [base, *(f"{base}-{number}" for number in range(2, len(pools) + 3))]
    return next(name for name in names if name not in pools)


NOT_PRICED = "no pool can price it; add one with it among its models and its architecture"


def elsewhere_of(litellm: LiteLLM, pools: Mapping[str, Any]) -> dict[str, str]:
    """Model names that no pool serves, each with what a client is told."""
    ours = {model for pool in pools.values() for model in models_of(pool)}
    told = dict.fromkeys(sorted(litellm.not_priced), NOT_PRICED)
    for entry in litellm.elsewhere:
        if entry.model not in ours:
            told.setdefault(entry.model, f"it is in the configuration, and {entry.why}")
    return told


def alias(pools: dict[str, Any], elsewhere: dict[str, str], litellm: LiteLLM) -> None:
    """Add each alias to the pool of its model. Where its model is nobody's, it is noted as having no effect."""
    for one in litellm.aliases:
        owner = next((name for name, pool in pools.items() if one.name in models_of(pool)), None)
        if owner is not None:
            litellm.unused.lacks(f"{dotted(one.path)} (pools.{owner} serves a model of that name)")
        elif not _aliased(one, pools):
            if one.model in elsewhere:
                elsewhere.setdefault(one.name, elsewhere[one.model])
            else:
                litellm.unused.lacks(f"{dotted(one.path)} (no model is named {one.model})")


def _aliased(one: Alias, pools: Mapping[str, Any]) -> bool:
    for exact in (True, False):
        for pool in pools.values():
            for model in models_of(pool):
                served = (pool.get("served_as") or {}).get(model, pool.get("served_model"))
                if not isinstance(served, str) or is_pattern(model) is exact:
                    continue
                name = served_name(model, served, one.model) if is_pattern(model) else served
                if name is None or not (is_pattern(model) or model == one.model):
                    continue
                pool["models"] = [*pool["models"], one.name]
                if name != pool.get("served_model"):
                    pool["served_as"] = {**(pool.get("served_as") or {}), one.name: name}
                if one.hidden:
                    pool["hidden"] = [*(pool.get("hidden") or []), one.name]
                return True
    return False
