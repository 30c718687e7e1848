"""What a LiteLLM `config.yaml` must say, setting by setting."""

from typing import Any

import pytest
import yaml

from weighbridge.doctor.finding import Finding, Severity
from weighbridge.doctor.litellm import HANDLER, check_litellm

SOUND = f"""
litellm_settings: {{callbacks: ["{HANDLER}"], sse_keepalive_ping_interval_seconds: 10}}
router_settings: {{disable_cooldowns: true, num_retries: 2}}
general_settings: {{cancel_on_disconnect: true}}
"""


def found(document: Any, *, from_zero: bool = False) -> list[Finding]:
    return list(check_litellm(document, from_zero=from_zero))


def changed(section: str, **keys: Any) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(SOUND)
    document[section] = {**document[section], **keys}
    return document


def faults(document: Any, *, from_zero: bool = False) -> list[tuple[str, str]]:
    return [
        (each.check, each.severity.value)
        for each in found(document, from_zero=from_zero)
        if each.severity is not Severity.OK
    ]


def test_a_sound_file_has_nothing_to_change() -> None:
    assert faults(yaml.safe_load(SOUND)) == []


def test_an_empty_file_lacks_what_the_plugin_needs() -> None:
    assert faults({}) == [
        ("plugin-callback", "error"),
        ("cancel-on-disconnect", "error"),
        ("disable-cooldowns", "error"),
        ("sse-keepalive", "warning"),
    ]


@pytest.mark.parametrize("document", [{"litellm_settings": "x", "router_settings": [1], "general_settings": None}])
def test_sections_that_are_no_mappings_count_as_empty(document: Any) -> None:
    assert faults(document) == faults({})


def test_what_to_change_mends_the_file() -> None:
    """Every change of an empty file, taken together as YAML, leaves nothing to change."""
    mended: dict[str, Any] = {}
    for finding in found({}):
        for section, keys in (yaml.safe_load(finding.change) or {}).items():
            mended.setdefault(section, {}).update(keys)
    assert faults(mended) == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({"callbacks": HANDLER}, [], id="text instead of a list"),
        pytest.param({"callbacks": ["prometheus", HANDLER]}, [], id="among others"),
        pytest.param({"callbacks": [HANDLER, HANDLER]}, ["error"], id="twice"),
        pytest.param({"callbacks": ["litellm_plugin.handler"]}, ["error", "error"], id="a file beside the config"),
        pytest.param({"callbacks": [HANDLER, "my.litellm_plugin.handler"]}, ["error"], id="a copy as well"),
        pytest.param({"success_callback": [HANDLER]}, ["error"], id="among success callbacks, too"),
        pytest.param({"callbacks": [], "success_callback": [HANDLER]}, ["error", "error"], id="only for successes"),
        pytest.param({"callbacks": [{"no": "text"}, 3]}, ["error"], id="not text"),
    ],
)
def test_the_plugin_is_loaded_once_by_its_name(settings: dict[str, Any], expected: list[str]) -> None:
    assert faults(changed("litellm_settings", **settings)) == [("plugin-callback", each) for each in expected]


def test_callbacks_that_are_there_are_kept() -> None:
    (finding,) = [each for each in found(changed("litellm_settings", callbacks=["prometheus"])) if each.change]
    assert yaml.safe_load(finding.change)["litellm_settings"]["callbacks"] == ["prometheus", HANDLER]


@pytest.mark.parametrize(
    ("section", "key", "value", "fault"),
    [
        ("general_settings", "cancel_on_disconnect", False, ("cancel-on-disconnect", "error")),
        ("general_settings", "cancel_on_disconnect", None, ("cancel-on-disconnect", "error")),
        ("router_settings", "disable_cooldowns", False, ("disable-cooldowns", "error")),
        ("litellm_settings", "sse_keepalive_ping_interval_seconds", 0, ("sse-keepalive", "warning")),
        ("litellm_settings", "sse_keepalive_ping_interval_seconds", "soon", ("sse-keepalive", "warning")),
        ("litellm_settings", "sse_keepalive_ping_interval_seconds", 60, ("sse-keepalive", "warning")),
        ("general_settings", "background_health_checks", True, ("health-checks", "warning")),
        ("router_settings", "num_retries", 6, ("attempts", "warning")),
        ("router_settings", "fallbacks", [{"a": ["b", "c"]}], ("attempts", "warning")),
        ("litellm_settings", "fallbacks", [{"a": ["b", "c"]}], ("attempts", "warning")),
        ("router_settings", "retry_policy", {"TimeoutErrorRetries": 6}, ("attempts", "warning")),
        ("router_settings", "model_group_retry_policy", {"m": {"RateLimitErrorRetries": 9}}, ("attempts", "warning")),
        ("router_settings", "enable_pre_call_checks", True, ("pre-call-checks", "warning")),
    ],
)
def test_a_setting_that_harms_is_named(section: str, key: str, value: Any, fault: tuple[str, str]) -> None:
    assert faults(changed(section, **{key: value})) == [fault]


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("litellm_settings", "sse_keepalive_ping_interval_seconds", "15"),
        ("router_settings", "num_retries", 5),
        ("router_settings", "fallbacks", [{"a": ["b"]}]),
        ("router_settings", "routing_strategy", "least-busy"),
        ("router_settings", "allowed_fails", 3),
    ],
)
def test_a_setting_that_does_no_harm_is_not_a_fault(section: str, key: str, value: Any) -> None:
    assert faults(changed(section, **{key: value})) == []


def test_health_checks_of_a_pool_at_zero_are_an_error() -> None:
    document = changed("general_settings", background_health_checks=True, enable_health_check_routing=True)
    assert faults(document, from_zero=True) == [("health-checks", "error")]


def test_retries_default_to_those_of_litellm() -> None:
    document = yaml.safe_load(SOUND)
    del document["router_settings"]["num_retries"]
    (finding,) = [each for each in found(document) if each.check == "attempts"]
    assert finding.what == "one call is tried at most 3 times"


def test_repeats_of_an_entry_are_named_by_their_place() -> None:
    document = yaml.safe_load(SOUND)
    document["model_list"] = [{"litellm_params": {"max_retries": 0}}, {"litellm_params": {"max_retries": 2}}, "x"]
    assert faults(document) == [("attempts", "warning")]
    assert any("model_list[1]" in each.what for each in found(document))


def test_what_has_no_say_for_weighed_models_is_told() -> None:
    (finding,) = [
        each
        for each in found(changed("router_settings", routing_strategy="least-busy", allowed_fails=3))
        if each.check == "moot"
    ]
    assert "allowed_fails, routing_strategy" in finding.what
