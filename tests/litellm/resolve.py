"""What LiteLLM's own router makes of a `config.yaml`: run with the Python of `.venv-litellm`, it prints JSON.

python resolve.py CONFIG NAME…
"""

import asyncio
import json
import sys

import litellm
from litellm.proxy.proxy_server import ProxyConfig


async def resolved(path: str, names: list[str]) -> dict[str, list[list[str]]]:
    """For each name the model of each of its deployments, with its provider; none for a name that is not known."""
    config = await ProxyConfig().get_config(config_file_path=path)
    router = litellm.Router(
        model_list=config["model_list"], model_group_alias=config["router_settings"]["model_group_alias"]
    )
    found = {}
    for name in names:
        try:
            _, deployments = router._common_checks_available_deployment(model=name, request_kwargs={})
        except litellm.BadRequestError:
            deployments = []
        params = [deployment["litellm_params"] for deployment in deployments]
        found[name] = sorted([one["model"], one.get("api_base") or ""] for one in params)
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(resolved(sys.argv[1], sys.argv[2:]))) + "\n")
