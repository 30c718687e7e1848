"""A replica as one of LiteLLM's deployments."""

from typing import Any

import pytest

from backlog.records import ReplicaState
from gateway.plugin.deployment import deployment_of, is_ours
from gateway.replica import Replica
from gateway.settings import StaticReplica
from tests.gateway.builders import pool_settings
from tests.gateway.plugin.proxy import deployment


def replica(port: int = 9000) -> Replica:
    return Replica(name=f"r{port}", url=f"http://127.0.0.1:{port}", api_key=None, gpus=1, state=ReplicaState.READY)


def test_an_entry_with_the_replicas_address_is_returned_as_it_is() -> None:
    known = [deployment(9001), deployment(9000, rpm=5)]
    assert deployment_of(replica(), pool_settings(), "llama", known, None, served="llama") is known[1]


def test_another_entry_is_copied_and_not_changed() -> None:
    template = deployment(1, timeout=7)
    made = deployment_of(replica(), pool_settings(), "llama", [template], None, served="llama")
    assert made["litellm_params"] == {
        "model": "hosted_vllm/llama", "api_base": "http://127.0.0.1:9000/v1", "timeout": 7,
    }  # fmt: skip
    assert made["model_info"]["id"] == "chat/r9000"
    assert template == deployment(1, timeout=7)


def test_without_any_entry_one_is_made() -> None:
    settings = pool_settings(static_replicas=(StaticReplica(name="r9000", url="http://127.0.0.1:9000", api_key="k"),))
    made = deployment_of(replica(), settings, "llama", [], None, served="llama")
    assert made["model_name"] == "llama"
    assert made["litellm_params"]["api_key"] == "k"
    assert made["litellm_params"]["model"] == "hosted_vllm/llama"


@pytest.mark.parametrize(
    ("params", "ours"),
    [
        pytest.param({"model": "hosted_vllm/x", "api_base": "http://a/v1"}, True, id="vLLM"),
        pytest.param({"model": "openai/x", "base_url": "http://a/v1"}, True, id="OpenAI-compatible"),
        pytest.param(
            {"model": "x", "custom_llm_provider": "hosted_vllm", "api_base": "http://a"}, True, id="by provider"
        ),
        pytest.param({"model": "custom_openai/x", "api_base": "http://a"}, True, id="as the configuration has it"),
        pytest.param({"model": "openai/gpt-4o"}, False, id="OpenAI itself"),
        pytest.param({"model": "azure/x", "api_base": "https://a"}, False, id="Azure"),
        pytest.param({}, False, id="nothing"),
    ],
)
def test_servers_of_a_pool_are_told_from_hosted_models(params: dict[str, Any], ours: bool) -> None:
    assert is_ours({"litellm_params": params}) is ours
