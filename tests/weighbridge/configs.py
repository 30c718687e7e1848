"""A configuration read from its text, and the pieces of LiteLLM's `model_list` that tests are made of."""

from pathlib import Path

import pytest

from weighbridge.config import Loaded, parse
from weighbridge.config_errors import ConfigError
from weighbridge.config_wildcard import Ask

LLAMA = "{model: hosted_vllm/llama-3.1-8b, api_base: 'http://a:1'}"
AZURE = "{model: azure/gpt-4o, api_base: 'https://x.openai.azure.com', api_key: os.environ/AZURE_KEY}"


def read(text: str, env: dict[str, str] | None = None, directory: Path = Path(), ask: Ask | None = None) -> Loaded:
    return parse(text, env or {}, source="c.yaml", directory=directory, ask=ask)


def faults(text: str, env: dict[str, str] | None = None, ask: Ask | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, env, ask=ask)
    head, *lines = str(caught.value).split("\n")
    count = len(lines)
    assert head == f"c.yaml: {count} error{'' if count == 1 else 's'}"
    return [line.removeprefix("  ") for line in lines]


def entry(name: str, params: str = LLAMA, info: str = "{}") -> str:
    return f"- {{model_name: '{name}', litellm_params: {params}, model_info: {info}}}\n"


def listed(*entries: str) -> str:
    return "model_list:\n" + "".join(entries)
