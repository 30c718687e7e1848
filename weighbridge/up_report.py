"""What `weighbridge up` and `weighbridge check-config` print, as text. Pure."""

import json
from collections.abc import Iterable, Mapping
from shlex import quote
from typing import TYPE_CHECKING

from weighbridge.config_models import Config, PoolSection
from weighbridge.wiring import pool_settings

if TYPE_CHECKING:
    from rich.table import Table

KEY_PLACEHOLDER = "$WEIGHBRIDGE_KEY"


def reachable(host: str) -> str:
    """The address by which a server bound to `host` is reached from this machine, ready for a URL."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def endpoint_url(config: Config) -> str:
    """Scheme, host and port of the OpenAI endpoint, without `/v1`."""
    return f"http://{reachable(config.gateway.host)}:{config.gateway.port}"


def admin_url(config: Config) -> str:
    """Scheme, host and port of the admin pages."""
    return f"http://{reachable(config.gateway.admin_host)}:{config.gateway.admin_port}"


def announcement(config: Config, *, key: str | None, ready: Mapping[str, int], logs: str) -> str:
    """The block printed once everything answers. `key`: the generated one, if any. `ready`: replicas by pool."""
    model = next(iter(config.pools.values())).models[0]
    shown_key = key or (f"one of: {', '.join(config.tenants)}" if config.tenants else "none needed")
    header = f'-H "Authorization: Bearer {key or KEY_PLACEHOLDER}" ' if key or config.tenants else ""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 32})
    pools = [f"{name}: {_supply(pool, ready.get(name))}" for name, pool in config.pools.items()]
    rows = [
        ("endpoint", f"{endpoint_url(config)}/v1"),
        ("key", shown_key),
        ("admin", f"{admin_url(config)}/status"),
        *zip(["pools", *[""] * (len(pools) - 1)], pools, strict=True),
        ("logs", logs),
    ]
    lines = [f"  {name:<10}{value}" for name, value in rows]
    json_header = '-H "Content-Type: application/json"'
    curl = f"  curl {endpoint_url(config)}/v1/chat/completions {header}{json_header} -d {quote(body)}"
    return "\n".join(["Weighbridge is up.", "", *lines, "", curl, "", "Ctrl-C stops everything."])


def _supply(pool: PoolSection, ready: int | None) -> str:
    processes = pool.replicas.processes
    if processes is None:
        count = len(pool.replicas.static or ())
        return f"{', '.join(pool.models)} on {count} static replica{'' if count == 1 else 's'}"
    kind = "replicas" if processes.command else f"simulated {pool.gpu} replicas"
    state = "starts from zero" if processes.min == 0 and not ready else f"{ready or 0} ready"
    return f"{', '.join(pool.models)} on {processes.min} to {processes.max} {kind}, {state}"


def pools_table(config: Config) -> "Table":
    """The resolved pools: what each one serves, with what, and how much it holds."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("pool", "models", "served model", "architecture", "GPU", "replicas"):
        table.add_column(heading, overflow="fold")
    for heading in ("KV tokens", "batch", "TTFT SLO"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, pool in config.pools.items():
        settings = pool_settings(name, pool, config.autoscaler)
        table.add_row(
            name,
            "\n".join(pool.models),
            pool.served_model,
            f"{settings.architecture.name} ({settings.architecture.parameters / 1e9:.1f}B)",
            f"{pool.tensor_parallel} x {pool.gpu}" if pool.tensor_parallel > 1 else pool.gpu,
            "\n".join(_replicas(pool)),
            f"{settings.kv_capacity_tokens:,}",
            str(settings.price().planning_batch),
            "none" if pool.slo.ttft_s is None else f"{pool.slo.ttft_s:g} s",
        )
    return table


def _replicas(pool: PoolSection) -> Iterable[str]:
    replicas = pool.replicas
    if replicas.processes is not None:
        kind = "processes" if replicas.processes.command else "simulated processes"
        return [f"{kind} {replicas.processes.min}..{replicas.processes.max}"]
    if replicas.kubernetes is not None:
        return [f"{target.label} {target.min}..{target.max}" for target in replicas.kubernetes]
    return [replica.url for replica in replicas.static or ()]
