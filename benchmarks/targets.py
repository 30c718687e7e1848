"""How each measured program is started: its configuration and its command line."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measurement import TargetName

KEY = "sk-bench"
NO_LIMIT = 1_000_000
"""Concurrent requests that the routers may hold; sglang-router's default, 256, would refuse the benchmark's streams."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a target runs, and what it talks to."""

    directory: Path
    """Scratch of this target."""
    port: int
    side_port: int
    """For metrics or administration."""
    backend_port: int
    redis_url: str
    bin: Mapping[TargetName, Path]
    """Folders with the routers' and our own executables."""

    @property
    def backend_url(self) -> str:
        return f"http://127.0.0.1:{self.backend_port}"


def nginx(site: Site, *, as_root: bool) -> list[str]:
    """One worker, keep-alive to client and backend, nothing buffered on the way back, no log."""
    temp_paths = " ".join(
        f"{kind}_temp_path {site.directory / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = f"""daemon off;
worker_processes 1;
{"user root;" if as_root else ""}
pid {site.directory}/nginx.pid;
error_log {site.directory}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  {temp_paths}
  client_body_buffer_size 256k;
  client_max_body_size 32m;
  keepalive_requests 1000000000;
  upstream backend {{
    server 127.0.0.1:{site.backend_port};
    keepalive 512;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{site.port} backlog=4096;
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header connection "";
      proxy_buffering off;
      proxy_read_timeout 300s;
    }}
  }}
}}
"""
    path = site.directory / "nginx.conf"
    path.write_text(text)
    return ["nginx", "-p", str(site.directory), "-c", str(path)]


def gateway_config(site: Site) -> dict[str, object]:
    """A LiteLLM configuration with our sections.

    The backend answers at once what is priced at some 15 ms of prefill, so the ledger of outstanding work would hold
    requests back although nothing is busy. `dispatch_prefill_s` and `kv_tokens` are set so high that it never does;
    `max_waiting` is above the number of streams that are opened at once. Everything else is the default.
    """
    return {
        "model_list": [
            {
                "model_name": "bench",
                "litellm_params": {
                    "model": "hosted_vllm/bench",
                    "api_base": f"{site.backend_url}/v1",
                    "api_key": "none",
                },
            }
        ],
        "pools": {
            "bench": {
                "models": ["bench"],
                "architecture": "llama-3.1-8b",
                "gpu": "H100",
                "kv_tokens": 100_000_000,
                "limits": {"dispatch_prefill_s": 10.0, "max_waiting": 10_000},
            }
        },
        "tenants": {"bench": {"keys": [KEY]}},
        "gateway": {"port": site.port, "admin_port": site.side_port, "workers": 1},
        "redis": {"url": site.redis_url},
    }


def weighbridge(site: Site) -> list[str]:
    path = site.directory / "config.yaml"
    path.write_text(json.dumps(gateway_config(site), indent=2))  # JSON is YAML
    return [str(site.bin[TargetName.WEIGHBRIDGE] / "weighbridge"), "gateway", "--config", str(path)]


def _router(site: Site, target: TargetName, log_level: str) -> list[str]:
    """The options that both Rust routers share: round robin over one backend, nothing limited, quiet."""
    options = {
        "--host": "127.0.0.1",
        "--port": site.port,
        "--worker-urls": site.backend_url,
        "--policy": "round_robin",
        "--prometheus-host": "127.0.0.1",
        "--prometheus-port": site.side_port,
        "--max-concurrent-requests": NO_LIMIT,
        "--queue-size": 10_000,
        "--log-level": log_level,
    }
    module = {
        TargetName.VLLM_ROUTER: "vllm_router.launch_router",
        TargetName.SGLANG_ROUTER: "sglang_router.launch_router",
    }[target]
    return [str(site.bin[target] / "python"), "-m", module, *(str(part) for pair in options.items() for part in pair)]


def vllm_router(site: Site) -> list[str]:
    return _router(site, TargetName.VLLM_ROUTER, "warning")


def sglang_router(site: Site) -> list[str]:
    return _router(site, TargetName.SGLANG_ROUTER, "warn")


def launchers(*, as_root: bool) -> Mapping[TargetName, Callable[[Site], list[str]]]:
    """Command line of every target that is a process of its own."""
    return {
        TargetName.NGINX: lambda site: nginx(site, as_root=as_root),
        TargetName.WEIGHBRIDGE: weighbridge,
        TargetName.VLLM_ROUTER: vllm_router,
        TargetName.SGLANG_ROUTER: sglang_router,
    }
