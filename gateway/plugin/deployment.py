"""A replica as one of LiteLLM's deployments: the entry with its address, else a copy of another with its address."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.replica import Replica
from gateway.settings import PoolSettings

Deployment = dict[str, Any]
SELF_HOSTED = ("hosted_vllm", "openai", "text-completion-openai", "openai_like", "litellm_proxy", "custom_openai")
"""LiteLLM's providers whose entries, with an address, may be servers of one's own."""


def is_ours(deployment: Mapping[str, Any]) -> bool:
    """Whether an entry of `model_list` is a server of the pool, not a hosted model in the same group."""
    params = deployment.get("litellm_params") or {}
    provider = params.get("custom_llm_provider") or str(params.get("model", "")).partition("/")[0]
    return provider in SELF_HOSTED and bool(params.get("api_base") or params.get("base_url"))


def deployment_of(
    replica: Replica,
    settings: PoolSettings,
    model: str,
    known: Sequence[Deployment],
    template: Deployment | None,
    *,
    served: str,
) -> Deployment:
    """The entry to return for a replica.

    `served` is the name that replicas know `model` by. `known` are the entries that LiteLLM offers; `template` is one
    that it has offered before, for when it offers none.
    """
    for deployment in known:
        if _address(deployment) == replica.url:
            return deployment
    entry = next((deployment for deployment in known if is_ours(deployment)), template) or _bare(model, served)
    params = {key: value for key, value in entry["litellm_params"].items() if key != "base_url"}
    params["api_base"] = f"{replica.url}/v1"
    key = next((one.api_key for one in settings.static_replicas if one.name == replica.name), settings.replica_api_key)
    if key is not None:
        params["api_key"] = key
    info = {**(entry.get("model_info") or {}), "id": f"{settings.name}/{replica.name}"}
    return {**entry, "litellm_params": params, "model_info": info}


def _bare(model: str, served: str) -> Deployment:
    params = {"model": f"hosted_vllm/{served}", "api_key": "none"}
    return {"model_name": model, "litellm_params": params, "model_info": {"db_model": False}}


def _address(deployment: Mapping[str, Any]) -> str:
    params = deployment.get("litellm_params") or {}
    address = str(params.get("api_base") or params.get("base_url") or "")
    return address.rstrip("/").removesuffix("/v1")
