"""The example LiteLLM configuration means here what it means to LiteLLM's own router."""

import json
import subprocess
from pathlib import Path

import pytest

from gateway.names import Names, Served, names_of
from gateway.plugin.deployment import SELF_HOSTED
from tests.litellm.proxy import PROGRAM
from tests.redis_servers import missing
from weighbridge.config import load
from weighbridge.config_models import PoolSection
from weighbridge.config_wildcard import ServerModel

pytestmark = [pytest.mark.litellm, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "litellm-full.yaml"
ENV = {"LITELLM_MASTER_KEY": "sk-master", "VLLM_API_KEY": "sk-vllm", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
NAMES = (
    "llama", "gpt-3.5-turbo", "internal", "support-de", "support-", "my-support-de", "hosted_vllm/qwen2.5-7b", "embed",
    "gpt-4o", "nobody",
)  # fmt: skip


def here() -> dict[str, list[list[str]]]:
    """Each name's model and address at its servers, when the lab's server lists one model."""
    config = load(EXAMPLE, ENV, ask=lambda url, key: (ServerModel(name="qwen2.5-7b"),)).config
    names: Names[PoolSection] = Names(
        (model, Served(by=pool, name=name))
        for pool in config.pools.values()
        for model, name in names_of(pool.models, pool.served_model, pool.served_as)
    )
    found = {}
    for name in NAMES:
        served = names.find(name)
        replicas = () if served is None else served.by.replicas.static or ()
        found[name] = [[served.name, replica.url] for replica in replicas] if served is not None else []
    return found


def test_each_name_means_the_same_servers_to_litellm_and_here() -> None:
    python = PROGRAM.parent / "python"
    if not python.exists():
        missing("no LiteLLM: `make .venv-litellm/.installed`")
    script = Path(__file__).with_name("resolve.py")
    command = [str(python), str(script), str(EXAMPLE), *NAMES]
    run = subprocess.run(command, env=ENV, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    assert run.returncode == 0, run.stderr
    theirs = json.loads(run.stdout.splitlines()[-1])
    ours = here()
    assert theirs.pop("gpt-4o") == [["azure/gpt-4o", "https://example.openai.azure.com"]]
    assert ours.pop("gpt-4o") == []
    # Its address is in LiteLLM's own variable, which LiteLLM reads when it sends.
    assert [model for model, _ in theirs.pop("embed")] == [f"hosted_vllm/{model}" for model, _ in ours.pop("embed")]
    known = {
        name: sorted([_served(model), url.removesuffix("/v1")] for model, url in rows) for name, rows in theirs.items()
    }
    assert known == {name: sorted(rows) for name, rows in ours.items()}


def _served(model: str) -> str:
    provider, _, name = model.partition("/")
    assert provider in SELF_HOSTED
    return name
