"""`weighbridge dashboard`: the operator page of a configuration's pools, until Ctrl-C: the command and its mistakes."""

import asyncio
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from weighbridge.config import from_process
from weighbridge.config_errors import ConfigError
from weighbridge.logging import LEVELS, configure
from weighbridge.wiring import redis_prefix

BAD_INPUT, FAILED = 2, 1


def register(app: typer.Typer) -> None:
    """Add the `dashboard` command to `app`."""
    app.command("dashboard")(dashboard_command)


def dashboard_command(
    config: Annotated[
        Path, typer.Option("--config", "-c", metavar="FILE", help="Configuration file (YAML) with the pools.")
    ],
    redis: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="WEIGHBRIDGE_REDIS",
            help="Instead of redis.url in the file; unix://LOGS/redis/redis.sock under `up`.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address of the page. It has no login.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0: any free one.")] = 4003,
    log_level: Annotated[
        str, typer.Option(help="debug, info, warning or error.", envvar="WEIGHBRIDGE_LOG_LEVEL")
    ] = "info",
) -> None:
    """Serve the operator page: queues, replicas, decisions with reasons, tenants. It only reads Redis."""
    from weighbridge.dashboard_process import pool_facts, run

    try:
        loaded = from_process(config).config
    except ConfigError as error:
        _fail(str(error))
    url = redis or (loaded.redis.url.get_secret_value() if loaded.redis is not None else None)
    if url is None:
        _fail(f"{config}: redis.url is required; or --redis URL, which is unix://LOGS/redis/redis.sock under `up`")
    if log_level not in LEVELS:
        _fail(f"--log-level {log_level}: must be one of {', '.join(LEVELS)}")
    configure("dashboard", level=log_level)
    clock = time.time  # noqa: TID251 (the composition root)
    try:
        served = asyncio.run(run(pool_facts(loaded), url, redis_prefix(loaded), clock, host=host, port=port))
    except ValueError as error:
        _fail(f"redis: {error}")
    if not served:
        _fail(f"cannot listen on {host}:{port}", status=FAILED)


def _fail(message: str, *, status: int = BAD_INPUT) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(status)
