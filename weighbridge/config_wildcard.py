"""Wildcard entries of `model_list`: which names they stand for.

A wildcard whose architecture is known (by `model_info.base_model`, by a served name without `*`, or by a pool that has
the wildcard among its `models`) serves every name that matches. Any other serves the names of pools without replicas,
and those that its servers list: only what has an architecture has a price.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from estimator.models import find_model
from gateway.names import is_pattern, served_name
from weighbridge.config_litellm import LiteLLM
from weighbridge.config_litellm_entry import Entry
from weighbridge.config_merge import models_of

NO_PRICE = (
    "no pool can price it; add one with it among its models and its architecture, or set model_info.base_model of the "
    "entry of model_list that it matches"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerModel:
    """A model that a server lists."""

    name: str
    root: str | None = None
    """What it was loaded from."""
    parent: str | None = None
    """The model that an adapter belongs to."""


class ServerSilent(Exception):
    """A server did not say what it serves; the message says why."""


Ask = Callable[[str, str | None], Sequence[ServerModel]]
"""What the server at an address lists, given its key. Raises `ServerSilent`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wildcard:
    """What a wildcard of `model_list` covers."""

    pattern: str
    every: bool = False
    """Every name that matches."""
    names: tuple[str, ...] = ()
    unpriced: tuple[str, ...] = ()
    """Names that a server lists and that have no architecture."""
    silent: tuple[str, ...] = ()
    """Servers that did not answer, with why."""


def spread(litellm: LiteLLM, pools: Mapping[str, Any], ask: Ask | None) -> tuple[Wildcard, ...]:
    """Replace each wildcard entry by one per name that it covers, unless it covers all. Explicit names go first."""
    owned = {model for pool in pools.values() for model in models_of(pool)}
    taken = {entry.model for entry in litellm.entries if not is_pattern(entry.model)}
    taken |= {entry.model for entry in litellm.elsewhere if not is_pattern(entry.model)}
    groups: dict[str, list[Entry]] = {}
    for entry in litellm.entries:
        if is_pattern(entry.model):
            groups.setdefault(entry.model, []).append(entry)
    kept = [entry for entry in litellm.entries if not is_pattern(entry.model)]
    asked: dict[str, Sequence[ServerModel] | str] = {}
    found = []
    for pattern, entries in groups.items():
        if pattern in owned or _known(entries[0]):
            kept.extend(entries)
            found.append(Wildcard(pattern=pattern, every=True))
            continue
        for entry in entries:
            if entry.url not in asked and ask is not None:
                asked[entry.url] = _answer(ask, entry)
        wildcard, covered = _spread(pattern, entries, _fed(pools), asked, taken | owned)
        kept.extend(covered)
        found.append(wildcard)
    litellm.entries[:] = kept
    return tuple(found)


def _known(entry: Entry) -> bool:
    return entry.base_model is not None or (not is_pattern(entry.served_model) and bool(find_model(entry.served_model)))


def _fed(pools: Mapping[str, Any]) -> list[str]:
    """Names that pools have which take their replicas from `model_list`."""
    return [
        model
        for pool in pools.values()
        if isinstance(pool, dict) and "replicas" not in pool
        for model in models_of(pool)
    ]


def _answer(ask: Ask, entry: Entry) -> Sequence[ServerModel] | str:
    try:
        return ask(entry.url, entry.api_key)
    except ServerSilent as silent:
        return str(silent)


def _spread(
    pattern: str,
    entries: Iterable[Entry],
    wanted: Iterable[str],
    asked: Mapping[str, Sequence[ServerModel] | str],
    taken: set[str],
) -> tuple[Wildcard, list[Entry]]:
    covered: list[Entry] = []
    unpriced: list[str] = []
    silent: list[str] = []
    for entry in entries:
        for want in wanted:
            served = served_name(pattern, entry.served_model, want) if not is_pattern(want) else None
            if served is not None:
                covered.append(replace(entry, model=want, served_model=served, name=None))
        answer = asked.get(entry.url, ())
        if isinstance(answer, str):
            silent.append(f"{entry.url} ({answer})")
            continue
        listed = {model.name: model for model in answer}
        for model in answer:
            name = served_name(entry.served_model, pattern, model.name)
            if name is None or name in taken or served_name(pattern, entry.served_model, name) != model.name:
                continue
            base = _base(model, listed)
            if base is None:
                unpriced.append(name)
                continue
            family = model.parent if model.parent in listed else model.name
            covered.append(
                replace(entry, model=name, served_model=model.name, base_model=base, family=family, name=None)
            )
    return Wildcard(
        pattern=pattern,
        names=tuple(dict.fromkeys(entry.model for entry in covered)),
        unpriced=tuple(dict.fromkeys(unpriced)),
        silent=tuple(silent),
    ), covered


def _base(model: ServerModel, listed: Mapping[str, ServerModel]) -> str | None:
    """The built-in name of a listed model's architecture: its own, its file's, or its parent's. `None`: not known."""
    parent = listed.get(model.parent or "")
    for name in (parent.name, parent.root) if parent is not None else (model.parent, model.name, model.root):
        architecture = find_model(name) if name else None
        if architecture is not None:
            return architecture.name
    return None


def told(wildcards: Iterable[Wildcard]) -> dict[str, str]:
    """What a client is told that asks for a name which a wildcard matches and nobody can price."""
    return {
        name: NO_PRICE
        for wildcard in wildcards
        if not wildcard.every
        for name in (*wildcard.unpriced, wildcard.pattern)
    }
