"""Which configuration the plugin reads, and what it makes of it."""

import json
from pathlib import Path

import pytest

from weighbridge.litellm_plugin import PluginError, config_path


@pytest.mark.parametrize(
    ("env", "path"),
    [
        pytest.param({"WEIGHBRIDGE_CONFIG": "own.yaml", "CONFIG_FILE_PATH": "proxy.yaml"}, "own.yaml", id="its own"),
        pytest.param({"CONFIG_FILE_PATH": "proxy.yaml", "WORKER_CONFIG": "{}"}, "proxy.yaml", id="the container's"),
        pytest.param({"WORKER_CONFIG": json.dumps({"config": "cli.yaml", "port": 4000})}, "cli.yaml", id="--config"),
        pytest.param({"WORKER_CONFIG": "plain.yaml"}, "plain.yaml", id="a path alone"),
    ],
)
def test_the_file_that_is_read(env: dict[str, str], path: str) -> None:
    assert config_path(env) == Path(path)


@pytest.mark.parametrize(
    "env",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"WORKER_CONFIG": json.dumps({"model": "gpt-4o"})}, id="no file"),
        pytest.param({"WORKER_CONFIG": "{broken"}, id="not JSON"),
        pytest.param({"WORKER_CONFIG": json.dumps({"config": 5})}, id="not a path"),
    ],
)
def test_without_a_file_it_says_what_to_set(env: dict[str, str]) -> None:
    with pytest.raises(PluginError, match="set WEIGHBRIDGE_CONFIG"):
        config_path(env)
