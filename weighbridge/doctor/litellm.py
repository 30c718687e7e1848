"""What the plugin needs of a LiteLLM proxy's `config.yaml`: one function per check. Pure."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.doctor.finding import Finding, error, fine, warning

HANDLER = "gateway.litellm_plugin.handler"
CALLBACK = f'litellm_settings:\n  callbacks: ["{HANDLER}"]'
PROXY_TIMEOUT_S = 60.0
"""Silence after which nginx and the load balancers of clouds end a connection, unless told otherwise."""
LITELLM_RETRIES = 2
"""LiteLLM's `num_retries` where none is written."""
MOST_ATTEMPTS = 6
DEFAULT_STRATEGY = "simple-shuffle"

Document = Mapping[str, Any]


def check_litellm(document: Document, *, from_zero: bool) -> Iterator[Finding]:
    """All checks of settings. `from_zero`: some pool may have no replica."""
    yield from check_callback(document)
    yield check_disconnect(document)
    yield check_cooldowns(document)
    yield check_keepalive(document)
    yield check_health_checks(document, from_zero=from_zero)
    yield from check_attempts(document)
    yield from check_moot(document)


def section(document: Document, name: str) -> Mapping[str, Any]:
    """A section's keys; nothing where it is not a mapping."""
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def check_callback(document: Document) -> Iterator[Finding]:
    """The plugin is loaded once, as an instance in an installed package."""
    check, settings = "plugin-callback", section(document, "litellm_settings")
    listed = _texts(settings.get("callbacks"))
    times = listed.count(HANDLER)
    if times == 1:
        yield fine(check, f"litellm_settings.callbacks has {HANDLER}")
    elif times:
        yield error(check, f"litellm_settings.callbacks has {HANDLER} {times} times", CALLBACK)
    else:
        kept = [text for text in listed if not _is_stray(text)]
        yield error(check, f"litellm_settings.callbacks lacks {HANDLER}", _callbacks_line([*kept, HANDLER]))
    for stray in dict.fromkeys(filter(_is_stray, listed)):
        what = f"litellm_settings.callbacks has {stray}: a file that LiteLLM runs anew, with a queue of its own"
        yield error(check, what, f"remove {stray}; {HANDLER} is in the installed package")
    for key in ("success_callback", "failure_callback", "service_callback"):
        wrong = [text for text in _texts(settings.get(key)) if text == HANDLER or _is_stray(text)]
        if wrong:
            what = f"litellm_settings.{key} has {wrong[0]}: there it is not asked for a replica"
            yield error(check, what, f"remove it from {key}:\n{CALLBACK}")


def _is_stray(text: str) -> bool:
    return text != HANDLER and text.endswith("litellm_plugin.handler")


def _callbacks_line(names: list[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    return f"litellm_settings:\n  callbacks: [{quoted}]"


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, str)]


def check_disconnect(document: Document) -> Finding:
    """A client that leaves ends the call: its place in the queue, and on the GPU. LiteLLM's default: it runs on."""
    check, value = "cancel-on-disconnect", section(document, "general_settings").get("cancel_on_disconnect")
    if value is True:
        return fine(check, "clients that leave free their place")
    what = f"general_settings.cancel_on_disconnect {_state(value)}: calls of clients that left wait and run on"
    return error(check, what, "general_settings:\n  cancel_on_disconnect: true")


def check_cooldowns(document: Document) -> Finding:
    """LiteLLM hides a deployment after failures; the plugin has a breaker per replica. LiteLLM's default: it hides."""
    check, value = "disable-cooldowns", section(document, "router_settings").get("disable_cooldowns")
    if value is True:
        return fine(check, "LiteLLM hides no replica from the scheduler")
    what = f"router_settings.disable_cooldowns {_state(value)}: LiteLLM hides deployments for 5 s by rules of its own"
    return error(check, what, "router_settings:\n  disable_cooldowns: true")


def check_keepalive(document: Document) -> Finding:
    """A stream that waits in the queue is silent unless LiteLLM sends comments. LiteLLM's default: it sends none."""
    check, name = "sse-keepalive", "sse_keepalive_ping_interval_seconds"
    value = section(document, "litellm_settings").get(name)
    interval_s, change = _positive(value), f"litellm_settings:\n  {name}: 10"
    if interval_s is None:
        what = f"litellm_settings.{name} {_state(value)}: a stream that waits is silent, and proxies before it end it"
        return warning(check, what, change)
    if interval_s >= PROXY_TIMEOUT_S:
        what = f"litellm_settings.{name} is {interval_s:g} s: proxies end what is silent for {PROXY_TIMEOUT_S:g} s"
        return warning(check, what, change)
    return fine(check, f"streams that wait get a comment every {interval_s:g} s")


def _positive(value: Any) -> float | None:
    """As LiteLLM reads an interval: numbers in quotes count, anything else is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def check_health_checks(document: Document, *, from_zero: bool) -> Finding:
    """LiteLLM's background checks send real requests past the queue. LiteLLM's default: none."""
    check, settings = "health-checks", section(document, "general_settings")
    if not settings.get("background_health_checks"):
        return fine(check, "LiteLLM sends no health checks of its own")
    on = [name for name in ("background_health_checks", "enable_health_check_routing") if settings.get(name)]
    change = "general_settings:\n" + "\n".join(f"  {name}: false" for name in on)
    what = "general_settings.background_health_checks is on: LiteLLM sends requests past the queue"
    if from_zero:
        return error(check, f"{what}, and takes a pool that is scaled to zero for dead", change)
    return warning(check, what, change)


def check_attempts(document: Document) -> Iterator[Finding]:
    """Retries multiply with fallbacks and with the client's own repeats, and every attempt is weighed and queued."""
    check, router = "attempts", section(document, "router_settings")
    retries = _retries(document)
    longest, group = 0, None
    for name, chain in _fallbacks(document):
        if len(chain) > longest:
            longest, group = len(chain), name
    attempts = (retries + 1) * (longest + 1)
    if attempts > MOST_ATTEMPTS:
        after = f" on each of {longest + 1} models (fallbacks of {group})" if group else ""
        what = f"one call may be tried {attempts} times: {retries + 1} attempts{after}"
        yield warning(check, what, "router_settings:\n  num_retries: 1")
    else:
        yield fine(check, f"one call is tried at most {attempts} times")
    for name, policy in _policies(router):
        most = max((value for value in policy.values() if type(value) is int), default=0)
        if most >= MOST_ATTEMPTS:
            what = f"router_settings.{name} allows {most} retries of a call"
            yield warning(check, what, f"lower it to 2 or less in router_settings.{name}")
    for index, params in _params(document):
        repeats = params.get("max_retries")
        if type(repeats) is int and repeats > 0:
            what = (
                f"model_list[{index}].litellm_params.max_retries is {repeats}: repeats that the scheduler does not see"
            )
            yield warning(check, what, "remove it, or write\n  max_retries: 0")


def _retries(document: Document) -> int:
    for name in ("router_settings", "litellm_settings"):
        value = section(document, name).get("num_retries")
        if type(value) is int and value >= 0:
            return value
    return LITELLM_RETRIES


def _fallbacks(document: Document) -> Iterator[tuple[str, list[Any]]]:
    for name in ("router_settings", "litellm_settings"):
        rules = section(document, name).get("fallbacks")
        for rule in rules if isinstance(rules, list) else ():
            for model, chain in rule.items() if isinstance(rule, dict) else ():
                if isinstance(chain, list):
                    yield str(model), chain


def _policies(router: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    policy, groups = router.get("retry_policy"), router.get("model_group_retry_policy")
    if isinstance(policy, dict):
        yield "retry_policy", policy
    for name, value in groups.items() if isinstance(groups, dict) else ():
        if isinstance(value, dict):
            yield f"model_group_retry_policy.{name}", value


def _params(document: Document) -> Iterator[tuple[int, Mapping[str, Any]]]:
    entries = document.get("model_list")
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, dict) and isinstance(entry.get("litellm_params"), dict):
            yield index, entry["litellm_params"]


def check_moot(document: Document) -> Iterator[Finding]:
    """Settings that still count for models of others, and have no say for those that a pool serves."""
    router = section(document, "router_settings")
    moot = [name for name in ("allowed_fails", "allowed_fails_policy", "cooldown_time") if router.get(name) is not None]
    if router.get("routing_strategy", DEFAULT_STRATEGY) != DEFAULT_STRATEGY:
        moot.append("routing_strategy")
    if moot:
        yield fine("moot", f"router_settings without a say for weighed models: {', '.join(moot)}")
    if router.get("enable_pre_call_checks"):
        what = "router_settings.enable_pre_call_checks is on: LiteLLM counts tokens of every call before it is weighed"
        yield warning("pre-call-checks", what, "router_settings:\n  enable_pre_call_checks: false")


def _state(value: Any) -> str:
    if value is None:
        return "is not set"
    return f"is {str(value).lower() if isinstance(value, bool) else repr(value)}"[:60]
