"""Versions, keys, what Redis and replicas told: each judged by a table."""

import json
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from weighbridge.doctor.finding import Finding, error, fine, status_of, unknown, warning
from weighbridge.doctor.replica import Asked, ReplicaFacts, check_replica
from weighbridge.doctor.report import last_line, to_json
from weighbridge.doctor.secret import PERMIT, PERMIT_VARIABLE, check_master_key, check_plain_keys
from weighbridge.doctor.store import RedisFacts, check_redis
from weighbridge.doctor.version import Installed, check_installed

LONG = "sk-" + "0123456789abcdef" * 2
HEALTHY = RedisFacts(
    version="7.2.4", eviction="noeviction", max_memory_bytes=0, clock_ahead_s=0.001, ping_s=0.0002, refused=None
)
ASKED = Asked(pool="p", name="a:1", url="http://a:1", served=("m",), kv_tokens=1000)
INFO = 'vllm:cache_config_info{block_size="10",enable_prefix_caching="True",engine="0",num_gpu_blocks="100"} 1.0\n'
PAGE = f'vllm:num_requests_running{{engine="0"}} 0\n{INFO}'
SERVES = ReplicaFacts(
    health=200, models_status=200, models=("m",), max_model_tokens=4096, metrics=PAGE, probed=(200, "{}")
)
SGLANG = replace(SERVES, metrics="sglang:num_running_reqs 0\n", probed=None)


def severities(findings: Any, check: str | None = None) -> list[str]:
    return [each.severity.value for each in findings if check in (None, each.check)]


def faults(findings: Any) -> list[tuple[str, str]]:
    return [(each.check, each.severity.value) for each in findings if each.severity.value != "ok"]


@pytest.mark.parametrize(
    ("version", "severity"),
    [
        ("1.106.2", "ok"),
        ("1.84", "ok"),
        ("1.84.0", "ok"),
        ("1.110.0", "ok"),
        ("2.0rc1", "ok"),
        ("1.83.99", "error"),
        ("1.82.7", "error"),
        ("1.82.8", "error"),
        ("1.107.0", "error"),
        ("1.107.0.post1", "error"),
        ("1.107.1", "ok"),
        ("main", "unknown"),
    ],
)
def test_versions_of_litellm(version: str, severity: str) -> None:
    findings = check_installed(Installed(python="py", litellm=version, plugin=True))
    assert severities(findings, "litellm-version") == [severity]


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        (Installed(python="py"), [("litellm-version", "warning")]),
        (Installed(python="py", litellm="1.106.2"), [("plugin-installed", "error")]),
        (Installed(python="py", failure="no such file"), [("litellm-version", "error")]),
    ],
    ids=["no litellm", "no plugin", "no interpreter"],
)
def test_what_an_interpreter_lacks(installed: Installed, expected: list[tuple[str, str]]) -> None:
    assert faults(check_installed(installed)) == expected


@pytest.mark.parametrize(
    ("written", "env", "expected"),
    [
        pytest.param(None, {}, ["error"], id="none"),
        pytest.param(None, {"LITELLM_MASTER_KEY": LONG}, ["ok"], id="from LiteLLM's variable"),
        pytest.param("os.environ/K", {"K": LONG}, ["ok"], id="from a variable"),
        pytest.param("os.environ/K", {}, ["error"], id="from a variable that is not set"),
        pytest.param("os.environ/K", {"K": " "}, ["error"], id="empty"),
        pytest.param("os.environ/K", {"K": "sk-1234"}, ["error"], id="of the examples"),
        pytest.param(" sk-1234 ", {}, ["error"], id="of the examples, written"),
        pytest.param("sk-short", {}, ["warning"], id="short"),
        pytest.param(LONG, {}, ["ok"], id="written"),
    ],
)
def test_master_keys(written: str | None, env: dict[str, str], expected: list[str]) -> None:
    findings = list(check_master_key({"general_settings": {"master_key": written}}, env))
    assert severities(findings) == expected
    assert not any("short" in each.what + each.change for each in findings)


def test_a_permit_for_weak_keys_is_a_warning() -> None:
    document = {"general_settings": {"master_key": LONG, "dangerously_permit_weak_or_unset_master_key": True}}
    assert severities(check_master_key(document, {})) == ["warning", "ok"]


@pytest.mark.parametrize(
    ("settings", "env", "severity", "text"),
    [
        pytest.param({}, {}, ["error"], "does not start", id="refused"),
        pytest.param({PERMIT: True}, {}, ["warning", "error"], "LiteLLM starts, and", id="permitted in the file"),
        pytest.param(
            {}, {PERMIT_VARIABLE: "True"}, ["warning", "error"], "LiteLLM starts, and", id="and in a variable"
        ),
    ],
)
def test_what_a_missing_master_key_leads_to(
    settings: dict[str, object], env: dict[str, str], severity: list[str], text: str
) -> None:
    findings = list(check_master_key({"general_settings": settings}, env))
    assert severities(findings) == severity
    assert text in findings[-1].what


def test_keys_in_plain_text_are_named_by_place_and_never_shown() -> None:
    document = {
        "general_settings": {"master_key": LONG},
        "model_list": [{"litellm_params": {"api_key": "none"}}, {"litellm_params": {"api_key": "hidden-1"}}],
        "environment_variables": {"OPENAI_API_KEY": "hidden-2", "PLAIN": "seen"},
        "tenants": {"t": {"keys": ["hidden-3", "sha256:" + sha256(b"x").hexdigest(), "os.environ/T"]}},
        "redis": {"url": "redis://:hidden-4@r:1"},
        "pools": {"p": {"tokenizer": "/t", "max_tokens": "5"}},
    }
    findings = list(check_plain_keys(document))
    assert [each.what.partition(" ")[0] for each in findings] == [
        "general_settings.master_key",
        "model_list[1].litellm_params.api_key",
        "environment_variables.OPENAI_API_KEY",
        "tenants.t.keys[0]",
        "redis.url",
    ]
    assert set(severities(findings)) == {"warning"}
    assert "hidden" not in to_json(findings)
    assert LONG not in to_json(findings)


def test_a_file_without_plain_keys_is_fine() -> None:
    assert severities(check_plain_keys({"general_settings": {"master_key": "os.environ/K"}})) == ["ok"]


def redis(**changes: Any) -> list[tuple[str, str]]:
    return faults(check_redis(replace(HEALTHY, **changes), max_clock_skew_s=1.0))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"away": "connection refused"}, [("redis", "error")]),
        ({"version": "6.2.0"}, []),
        ({"version": "6.0.16"}, [("redis-version", "error")]),
        ({"version": None}, [("redis-version", "unknown")]),
        ({"eviction": "allkeys-lru", "max_memory_bytes": 4}, [("redis-eviction", "warning")]),
        ({"eviction": None}, [("redis-eviction", "unknown")]),
        ({"refused": "NOPERM"}, [("redis-scripts", "error")]),
        ({"clock_ahead_s": 1.5}, [("clock", "warning")]),
        ({"clock_ahead_s": -1.5}, [("clock", "warning")]),
        ({"clock_ahead_s": None}, [("clock", "unknown")]),
        ({"ping_s": 0.006}, [("redis-latency", "warning")]),
        ({"ping_s": None}, [("redis-latency", "unknown")]),
    ],
)
def test_what_a_redis_must_be(changes: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert redis(**changes) == expected


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(SERVES, [], id="vllm"),
        pytest.param(ReplicaFacts(away="connection refused"), [("replica", "error")], id="away"),
        pytest.param(replace(SERVES, health=503), [("replica", "warning")], id="not healthy"),
        pytest.param(replace(SERVES, health=None), [], id="no answer about health"),
        pytest.param(replace(SERVES, models=("other",)), [("replica-model", "error")], id="another model"),
        pytest.param(replace(SERVES, models=None, models_status=401), [("replica-model", "error")], id="wrong key"),
        pytest.param(replace(SERVES, models=None, models_status=404), [("replica-model", "unknown")], id="no list"),
        pytest.param(
            replace(SERVES, metrics=None),
            [("replica-metrics", "warning"), ("prefix-caching", "unknown")],
            id="no metrics",
        ),
        pytest.param(
            replace(SERVES, metrics="tgi_queue_size 0\n"),
            [("replica-metrics", "unknown"), ("prefix-caching", "unknown")],
            id="metrics of another server",
        ),
        pytest.param(
            replace(SERVES, metrics=PAGE.replace('"True"', '"False"')), [("prefix-caching", "warning")], id="no caching"
        ),
        pytest.param(
            replace(SERVES, metrics=PAGE.replace('"True"', '"None"')), [("prefix-caching", "unknown")], id="not told"
        ),
        pytest.param(
            replace(SERVES, metrics=PAGE.replace('"100"', '"50"')), [("kv-tokens", "warning")], id="half the KV cache"
        ),
        pytest.param(replace(SERVES, metrics=PAGE.replace('"100"', '"None"')), [], id="KV cache not told"),
        pytest.param(
            replace(SERVES, metrics=PAGE.replace('"100"', '"50"') + INFO.replace('"100"', '"50"')),
            [],
            id="two engines at one address",
        ),
        pytest.param(replace(SERVES, probed=None), [("priority", "unknown")], id="not probed"),
        pytest.param(
            replace(SERVES, probed=(400, "Got priority 1 but Priority scheduling is not enabled.")),
            [("priority", "warning")],
            id="no priorities",
        ),
        pytest.param(replace(SERVES, probed=(400, "max_tokens")), [("priority", "unknown")], id="another mistake"),
        pytest.param(SGLANG, [("prefix-caching", "unknown"), ("priority", "unknown")], id="sglang that tells no flags"),
        pytest.param(
            replace(SGLANG, server_info={"disable_radix_cache": False, "enable_priority_scheduling": True}),
            [],
            id="sglang",
        ),
        pytest.param(
            replace(SGLANG, server_info={"disable_radix_cache": True, "enable_priority_scheduling": False}),
            [("prefix-caching", "warning"), ("priority", "warning")],
            id="sglang with both off",
        ),
    ],
)
def test_what_a_replica_must_be(facts: ReplicaFacts, expected: list[tuple[str, str]]) -> None:
    assert faults(check_replica(ASKED, facts)) == expected


def test_a_password_in_the_address_of_a_replica_is_hidden() -> None:
    asked = replace(ASKED, url="http://user:hidden@a:1")
    assert "hidden" not in to_json(list(check_replica(asked, ReplicaFacts(away="connection refused"))))


FINE, UNKNOWN = fine("c", "w"), unknown("c", "w")
WARNING, ERROR = warning("c", "w", "do"), error("c", "w", "do")


@pytest.mark.parametrize(
    ("findings", "strict", "status"),
    [
        ([], False, 0),
        ([FINE, UNKNOWN, WARNING], False, 0),
        ([FINE, ERROR], False, 1),
        ([FINE, UNKNOWN], True, 0),
        ([WARNING], True, 1),
    ],
)
def test_the_exit_status_follows_from_what_was_found(findings: list[Finding], strict: bool, status: int) -> None:
    assert status_of(findings, strict=strict) == status


def test_the_last_line_and_json_count_alike() -> None:
    findings = [FINE, ERROR, WARNING, UNKNOWN, UNKNOWN]
    assert last_line(findings) == "1 to change, 1 warning, 2 unknown"
    assert last_line([FINE]) == "0 to change, 0 warnings"
    told = json.loads(to_json(findings))
    assert (told["to_change"], told["warnings"], told["unknown"]) == (1, 1, 2)
    assert told["findings"][0] == {"check": "c", "severity": "ok", "what": "w", "change": None}
