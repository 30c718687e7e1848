"""`weighbridge autoscaler status`, `explain` and `simulate`: what was decided, why, and what would be.

Options only: this is loaded wherever the autoscaler runs, so the work is imported inside the commands.
"""

from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from weighbridge.autoscaler_simulate import simulate

if TYPE_CHECKING:
    from weighbridge.autoscaler_read import Place

T = TypeVar("T")
BAD_INPUT, AWAY = 2, 1

ConfigFile = Annotated[
    Path,
    typer.Option(
        "--config", "-c", metavar="FILE", help="Configuration file (YAML); that of `up` is LOGS/resolved.json."
    ),
]
RedisUrl = Annotated[
    str | None, typer.Option("--redis", metavar="URL", help="Address of Redis, instead of redis.url of the file.")
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("status")(status)
    app.command("explain")(explain)
    app.command("simulate")(simulate)


def status(
    config: ConfigFile,
    pool: Annotated[str | None, typer.Option(metavar="NAME", help="Only this one.")] = None,
    redis: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Print each pool's replicas, work and last decision, as Redis has them."""
    from weighbridge.autoscaler_read import read_pools
    from weighbridge.autoscaler_report import print_status, status_json

    place = _place(config, redis, pool)
    seen = _run(read_pools(place))
    if as_json:
        typer.echo(status_json(seen))
    else:
        print_status(seen)


def explain(
    config: ConfigFile,
    pool: Annotated[str | None, typer.Option(metavar="NAME", help="Required where the file has more than one.")] = None,
    last: Annotated[int, typer.Option(min=1, max=256, help="So many decisions, newest first.")] = 1,
    redis: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Print a pool's last decisions step by step, with what they rest on."""
    from weighbridge.autoscaler_read import read_decisions
    from weighbridge.autoscaler_report import decisions_json, print_decisions

    place = _place(config, redis, pool)
    if len(place.pools) > 1:
        _fail(f"--pool is required, {config} has: {', '.join(place.pools)}")
    read_at_s, decisions = _run(read_decisions(place, last))
    if as_json:
        typer.echo(decisions_json(decisions))
    elif not decisions:
        _fail(f"pool {place.pools[0]}: no decision was published in the last days", status=AWAY)
    else:
        print_decisions(decisions, read_at_s=read_at_s)


def _place(config: Path, redis: str | None, pool: str | None) -> "Place":
    from weighbridge.autoscaler_read import BadPlace, place_of

    try:
        return place_of(config, redis=redis, pool=pool)
    except BadPlace as error:
        _fail(str(error))


def _run(work: Coroutine[Any, Any, T]) -> T:
    import asyncio

    from backlog.store import BacklogUnavailable

    try:
        return asyncio.run(work)
    except BacklogUnavailable as error:
        _fail(f"Redis is away: {error.cause}", status=AWAY)
    except ValueError as error:
        _fail(f"redis: {error}")


def _fail(message: str, *, status: int = BAD_INPUT) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(status)
