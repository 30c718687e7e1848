"""What a replica must be for its pool: names, metrics, flags of the model server. Pure.

A model server that does not tell a flag leaves it unknown; it is not taken to be off.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from weighbridge.config_errors import without_credentials
from weighbridge.doctor.finding import Finding, error, fine, unknown, warning

VLLM, SGLANG = "vllm", "sglang"
FAMILIES: Mapping[str, str] = {VLLM: "vllm:num_requests_running", SGLANG: "sglang:num_running_reqs"}
NO_PRIORITY = re.compile(r"priority scheduling is not enabled|priority.*(?:not enabled|disabled)", re.I)
KV_TOLERANCE_RATIO = 0.1
CACHE_INFO = re.compile(r"^vllm:cache_config_info\{(.*)\} 1(?:\.0)?\s*$", re.M)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A replica to look at."""

    pool: str
    name: str
    url: str
    served: tuple[str, ...]
    """Names that it must know. Empty: any."""
    kv_tokens: int
    """What its pool counts on."""
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaFacts:
    """What a replica answered. `None`: it did not, or was not asked."""

    away: str | None = None
    """Why it could not be reached; then the rest says nothing."""
    health: int | None = None
    """Status of `/health`."""
    models_status: int | None = None
    models: tuple[str, ...] | None = None
    max_model_tokens: int | None = None
    """The context of the first model listed."""
    metrics: str | None = None
    server_info: Mapping[str, Any] | None = None
    """SGLang's flags."""
    probed: tuple[int, str] | None = None
    """Status and text of the answer to a request with a priority."""


def check_replica(asked: Asked, facts: ReplicaFacts) -> Iterator[Finding]:
    """All checks of one replica."""
    who = f"{asked.pool}/{asked.name}"
    if facts.away is not None:
        change = f"start it, or correct its address: curl {without_credentials(asked.url)}/v1/models"
        yield error("replica", f"{who} cannot be reached: {facts.away}", change)
        return
    if facts.health is not None and facts.health != 200:
        yield warning("replica", f"{who} answers /health with {facts.health}", "wait until it has loaded its model")
    else:
        yield fine("replica", f"{who} is reached")
    yield _models(who, asked, facts)
    engine = _engine(facts.metrics)
    if engine is None:
        if facts.metrics is None:
            what, change = f"{who} serves no /metrics", "SGLang: --enable-metrics. vLLM: remove --disable-log-stats"
        else:
            what, change = f"{who} serves /metrics without names of vLLM or SGLang", ""
        yield warning("replica-metrics", what, change) if change else unknown("replica-metrics", what)
    else:
        yield fine("replica-metrics", f"{who} serves {engine}'s metrics")
    info = {} if engine == SGLANG else cache_info(facts.metrics or "")
    yield _prefix_caching(who, info, facts.server_info)
    yield from _kv(who, asked, info)
    yield _priority(who, facts)


def _engine(metrics: str | None) -> str | None:
    return next((engine for engine, name in FAMILIES.items() if name in (metrics or "")), None)


def cache_info(metrics: str) -> dict[str, str]:
    """Labels of vLLM's first `cache_config_info`; `num_gpu_blocks` is the sum over engines, where all tell it."""
    rows = [dict(LABEL.findall(row)) for row in CACHE_INFO.findall(metrics)]
    if not rows:
        return {}
    blocks = [row.get("num_gpu_blocks", "") for row in rows]
    known = all(text.isdecimal() for text in blocks)
    return {**rows[0], "num_gpu_blocks": str(sum(map(int, blocks))) if known else ""}


def _models(who: str, asked: Asked, facts: ReplicaFacts) -> Finding:
    check = "replica-model"
    if facts.models is None:
        status = facts.models_status
        if status in (401, 403):
            change = "api_key: os.environ/NAME   # of the replica or its pool"
            return error(check, f"{who} refuses its key ({status})", change)
        return unknown(check, f"{who} does not list its models ({status or 'no answer'})")
    missing = [name for name in asked.served if name not in facts.models]
    has = ", ".join(facts.models[:5]) or "nothing"
    if missing:
        what = f"{who} does not know {missing[0]!r}; it serves {has}"
        return error(check, what, f"pools:\n  {asked.pool}: {{served_model: {next(iter(facts.models), 'NAME')}}}")
    length = "unknown" if facts.max_model_tokens is None else f"{facts.max_model_tokens:,} tokens"
    return fine(check, f"{who} serves {has}; context {length}")


def _prefix_caching(who: str, info: Mapping[str, str], server_info: Mapping[str, Any] | None) -> Finding:
    check = "prefix-caching"
    told = info.get("enable_prefix_caching", "").lower()
    disabled = (server_info or {}).get("disable_radix_cache")
    if told == "true" or disabled is False:
        return fine(check, f"{who} has prefix caching on")
    if told == "false" or disabled is True:
        change = "vLLM: --enable-prefix-caching. SGLang: remove --disable-radix-cache"
        return warning(check, f"{who} has prefix caching off: each turn of a chat is computed from its start", change)
    return unknown(check, f"{who} does not tell whether prefix caching is on")


def _kv(who: str, asked: Asked, info: Mapping[str, str]) -> Iterator[Finding]:
    blocks, size = info.get("num_gpu_blocks", ""), info.get("block_size", "")
    if not (blocks.isdecimal() and size.isdecimal()):
        return
    tokens = int(blocks) * int(size)
    if abs(tokens - asked.kv_tokens) <= KV_TOLERANCE_RATIO * tokens:
        yield fine("kv-tokens", f"{who} has {tokens:,} tokens of KV cache, as its pool counts on")
        return
    what = f"{who} has {tokens:,} tokens of KV cache, its pool counts on {asked.kv_tokens:,}"
    yield warning("kv-tokens", what, f"pools:\n  {asked.pool}: {{kv_tokens: {tokens}}}")


def _priority(who: str, facts: ReplicaFacts) -> Finding:
    check = "priority"
    change = "vLLM: --scheduling-policy priority. SGLang: --enable-priority-scheduling"
    on = (facts.server_info or {}).get("enable_priority_scheduling")
    if facts.probed is not None:
        status, text = facts.probed
        if status == 200:
            return fine(check, f"{who} takes requests with a priority")
        if status == 400 and NO_PRIORITY.search(text):
            on = False
        elif on is None:
            return unknown(check, f"{who} answers a request with a priority with {status}")
    if on is True:
        return fine(check, f"{who} schedules by priority")
    if on is False:
        what = f"{who} does not schedule by priority: a request with `priority` is refused or runs in order of arrival"
        return warning(check, what, change)
    return unknown(check, f"{who} does not tell whether it schedules by priority", "ask it with one token: --probe")
