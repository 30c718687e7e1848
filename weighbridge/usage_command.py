"""`weighbridge usage`: what tenants have used by day and model, read from Redis, as a table, CSV or JSON."""

import asyncio
import re
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from backlog.account import UsageRow
from backlog.accounts import Accounts
from backlog.connection import BacklogUnavailable, connect_redis
from weighbridge.config import from_process
from weighbridge.config_errors import ConfigError
from weighbridge.terminal import width
from weighbridge.usage_report import table_of, to_csv, to_json
from weighbridge.wiring import redis_prefix

TIMEOUT_S = 5.0
BAD_INPUT, AWAY = 2, 1
_AGO = re.compile(r"(\d{1,5})([dh])")


class BadDay(ValueError):
    """Not a day, nor a time ago. The message says what is."""


def register(app: typer.Typer) -> None:
    """Add the `usage` command to `app`."""
    app.command("usage")(usage_command)


def usage_command(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", metavar="FILE", help="Configuration file (YAML) with redis.url; wins over --redis."
        ),
    ] = None,
    redis: Annotated[
        str | None, typer.Option(metavar="URL", help="Address of Redis, instead of a file.", envvar="WEIGHBRIDGE_REDIS")
    ] = None,
    prefix: Annotated[str, typer.Option(help="With --redis: what its keys start with.")] = "wb",
    tenant: Annotated[str | None, typer.Option(metavar="NAME", help="Only this one.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DAY", help="First day of UTC: 2026-11-01, 7d or 24h ago. Default: today.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="DAY", help="Last day of UTC. Default: today.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="One row per day, with a header.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One object per day, tenant and model.")] = False,
) -> None:
    """Print what each tenant has used, by model: requests, tokens, GPU-seconds, money."""
    if as_csv and as_json:
        _fail("--csv and --json exclude each other")
    url, prefix = _address(config, redis, prefix)
    now = datetime.fromtimestamp(time.time(), UTC)  # noqa: TID251 (composition root)
    try:
        first, last = parse_day(since, now, "--since"), parse_day(until, now, "--until")
    except BadDay as error:
        _fail(str(error))
    if first > last:
        _fail(f"--since {first} is after --until {last}")
    try:
        rows = asyncio.run(_read(url, prefix, first, last, tenant))
    except BacklogUnavailable as error:
        _fail(f"Redis is away: {error.cause}", status=AWAY)
    except ValueError as error:
        _fail(f"redis: {error}")
    if as_csv:
        sys.stdout.write(to_csv(rows))
    elif as_json:
        sys.stdout.write(to_json(rows))
    elif not rows:
        typer.echo(f"nothing was booked from {first} to {last} (UTC)")
    else:
        console = Console(width=width())
        console.print(table_of(rows, title=f"{first} to {last} (UTC)"))


def parse_day(text: str | None, now: datetime, option: str) -> date:
    """A day of UTC from `2026-11-01`, or that of so many days or hours ago; today for None. Raises BadDay."""
    if text is None:
        return now.date()
    ago = _AGO.fullmatch(text)
    if ago is not None:
        number = int(ago[1])
        return (now - (timedelta(days=number) if ago[2] == "d" else timedelta(hours=number))).date()
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 (a day has no time zone)
    except ValueError:
        raise BadDay(f"{option} {text}: must be a day like 2026-11-01, or a time ago like 7d or 24h") from None


async def _read(url: str, prefix: str, first: date, last: date, tenant: str | None) -> list[UsageRow]:
    connection = connect_redis(url, timeout_s=TIMEOUT_S)
    try:
        return await Accounts(connection, prefix).usage(first, last, tenant)
    finally:
        await connection.close()


def _address(config: Path | None, redis: str | None, prefix: str) -> tuple[str, str]:
    """URL and prefix of Redis."""
    if config is None:
        if redis is None:
            _fail("say where Redis is: --config FILE or --redis URL")
        return redis, prefix
    try:
        loaded = from_process(config).config
    except ConfigError as error:
        _fail(str(error))
    if loaded.redis is None:
        _fail(f"{config}: redis.url is required; or --redis URL, which is unix://LOGS/redis/redis.sock under `up`")
    return loaded.redis.url.get_secret_value(), redis_prefix(loaded)


def _fail(message: str, *, status: int = BAD_INPUT) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(status)
