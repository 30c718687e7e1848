"""The LiteLLM plugin's configuration: a file of its own, or the one that the proxy was started with."""

import atexit
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

import structlog

from backlog.embedded import EmbeddedRedis
from gateway.plugin.front import Front
from weighbridge.config import Loaded, load
from weighbridge.config_ask import ask_server
from weighbridge.config_report import log_prices
from weighbridge.logging import configure
from weighbridge.wiring import gateway_settings

_log = structlog.get_logger()
OWN = "WEIGHBRIDGE_CONFIG"


class PluginError(Exception):
    """The plugin cannot start; the message says what to change."""


def config_path(env: Mapping[str, str]) -> Path:
    """`WEIGHBRIDGE_CONFIG`, else the file that LiteLLM itself reads. Raises `PluginError` when there is none."""
    named = env.get(OWN) or env.get("CONFIG_FILE_PATH") or _from_worker_config(env.get("WORKER_CONFIG", ""))
    if not named:
        raise PluginError(f"no configuration: set {OWN} to a file with `pools:`, or start the proxy with --config FILE")
    return Path(named)


def _from_worker_config(text: str) -> str | None:
    """The proxy's command line leaves its options as JSON, or the path alone."""
    if not text.lstrip().startswith("{"):
        return text or None
    try:
        value = json.loads(text).get("config")
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def front_of_process() -> Front:
    """Called when LiteLLM imports the plugin. Raises `PluginError` or `ConfigError`: the proxy then does not start."""
    env = os.environ  # noqa: TID251 (composition root)
    if not structlog.is_configured():
        configure("litellm-plugin", level=env.get("WEIGHBRIDGE_LOG_LEVEL", "info"))
    path = config_path(env)
    loaded = load(path, env, ask=ask_server)
    log_prices(loaded)
    return Front(
        gateway_settings(loaded.config, redis_url=_redis_url(loaded, path)),
        clock=time.perf_counter,
        wall_clock=time.time,  # noqa: TID251 (composition root)
    )


def _redis_url(loaded: Loaded, path: Path) -> str:
    """Without a `redis` section a private one serves this worker alone; it ends with the process."""
    if loaded.config.redis is not None:
        return loaded.config.redis.url.get_secret_value()
    _log.warning("litellm plugin has a redis of its own", cause=f"no redis.url in {path}")
    server = EmbeddedRedis.start()
    atexit.register(server.stop, grace_s=0.0)
    return server.url
