"""LiteLLM's keys that are not used: those not needed here, and those whose absence a client or operator can see.

A key that is in no list counts as missed: better one name too many in a warning than one too few.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

SECTIONS = frozenset(
    {
        "model_list", "general_settings", "litellm_settings", "router_settings", "environment_variables",
        "callback_settings", "credential_list", "guardrails", "mcp_servers", "mcp_aliases", "mcp_tools",
        "vector_store_registry", "vector_store_settings", "search_tools", "sandbox_tools", "prompts", "agents",
        "agent_list", "assistant_settings", "files_settings", "finetune_settings", "default_team_settings",
        "default_vertex_config", "cache_settings", "cost_discount_config", "health_check_settings", "worker_registry",
        "policies", "policy_attachments", "sandbox_params",
    }
)  # fmt: skip
READ = frozenset({"model_list", "environment_variables", "credential_list"})
"""Sections that are read key by key elsewhere."""

_NOT_NEEDED: Mapping[str, frozenset[str]] = {
    # Where requests go, whether they are sent again and who is left alone for a while is decided by weight and room.
    "router_settings": frozenset(
        {
            "routing_strategy", "routing_strategy_args", "num_retries", "retry_after", "retry_policy",
            "model_group_retry_policy", "allowed_fails", "allowed_fails_policy", "cooldown_time", "disable_cooldowns",
            "enable_pre_call_checks", "optional_pre_call_checks", "deployment_affinity_ttl_seconds",
            "model_group_affinity_config", "enable_health_check_routing", "health_check_staleness_threshold",
            "health_check_ignore_transient_errors", "enable_weighted_failover", "ignore_invalid_deployments",
            "default_max_parallel_requests", "client_ttl", "polling_interval", "set_verbose", "debug_level",
        }
    ),
    # vLLM and SGLang pass over parameters that they do not know; logging and telemetry are this program's own.
    "litellm_settings": frozenset(
        {
            "drop_params", "num_retries", "allowed_fails", "cooldown_time", "set_verbose", "json_logs", "telemetry",
            "suppress_debug_info", "turn_off_message_logging", "ssl_verify", "modify_params", "cache_params",
            "check_provider_endpoint", "disable_token_counter", "model_cost_map_url",
        }
    ),
    "general_settings": frozenset(
        {
            "background_health_checks", "health_check_interval", "health_check_concurrency", "health_check_details",
            "health_check_skip_disabled_background_models", "background_health_check_model_groups",
            "cancel_on_disconnect", "dangerously_permit_weak_or_unset_master_key", "max_in_flight_requests_per_worker",
            "max_queued_requests_per_worker", "admission_queue_timeout_seconds", "ui_access_mode",
            "user_api_key_cache_ttl", "user_api_key_cache_max_size", "proxy_batch_write_at", "disable_spend_logs",
            "proxy_budget_rescheduler_min_time", "proxy_budget_rescheduler_max_time", "store_prompts_in_spend_logs",
            "disable_error_logs", "disable_adding_master_key_hash_to_db",
        }
    ),
    "litellm_params": frozenset(
        {
            "weight", "max_retries", "num_retries", "cooldown_time", "drop_params",
            "use_in_pass_through",
        }
    ),
    "model_info": frozenset(
        {
            "mode", "max_tokens", "max_input_tokens", "max_output_tokens", "litellm_provider", "key", "description",
            "db_model", "tier", "created_at", "created_by", "updated_at", "updated_by", "discoverable", "blocked",
            "disable_background_health_check", "health_check_model", "health_check_timeout", "health_check_max_tokens",
            "version", "provider",
        }
    ),
}  # fmt: skip
_PREFIXES: Mapping[str, tuple[str, ...]] = {
    # A pool's price is in GPU-seconds.
    "litellm_params": ("input_cost_per_", "output_cost_per_", "cache_read_input_", "cache_creation_input_"),
    "model_info": ("input_cost_per_", "output_cost_per_", "cache_read_input_", "cache_creation_input_", "supports_"),
}
_PLUGIN = "gateway.litellm_plugin.handler"


@dataclass(slots=True, kw_only=True)
class Unused:
    """Keys that are not used, by their path."""

    not_needed: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    """What LiteLLM would do because of them, nobody does here."""

    def keys(self, kind: str, values: Mapping[Any, Any], *, used: Iterable[str] = (), prefix: str = "") -> None:
        """Note the keys of one mapping. `kind` names it in the lists above, `prefix` in what is shown."""
        for key, value in values.items():
            if key not in used:
                into = self.not_needed if _is_moot(kind, str(key), value) else self.missed
                _once(into, f"{prefix or kind}.{key}")

    def section(self, name: str, value: Any) -> None:
        """Note a section of which nothing is used."""
        if isinstance(value, dict):
            self.keys(name, value)
        elif value:
            _once(self.missed, name)

    def lacks(self, what: str) -> None:
        """Note something that is written and has no effect here."""
        _once(self.missed, what)


def _is_moot(kind: str, key: str, value: Any) -> bool:
    if value is None or value is False or value in ([], {}):
        return True
    if kind == "litellm_settings" and key == "callbacks":
        return value in (_PLUGIN, [_PLUGIN])
    return key in _NOT_NEEDED.get(kind, ()) or key.startswith(_PREFIXES.get(kind, ("\0",)))


def _once(into: list[str], text: str) -> None:
    if text not in into:
        into.append(text)
