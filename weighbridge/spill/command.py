"""`weighbridge spill`: the process that answers for hosted models. The gateway starts it where a pool spills."""

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the `spill` command to `app`."""
    app.command("spill")(spill_command)


def spill_command(
    config: Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="Configuration file (YAML).")],
    socket: Annotated[Path, typer.Option("--socket", metavar="PATH", help="Unix socket to listen on.")],
    log_level: Annotated[
        str, typer.Option(help="debug, info, warning or error.", envvar="WEIGHBRIDGE_LOG_LEVEL")
    ] = "info",
) -> None:
    """Answer for the hosted models that pools spill to. The gateway runs this by itself."""
    from weighbridge.config import from_process
    from weighbridge.config_errors import ConfigError
    from weighbridge.logging import LEVELS, configure
    from weighbridge.spill.process import BAD_INPUT, run
    from weighbridge.wiring import hosted_models

    if log_level not in LEVELS:
        _fail(f"--log-level {log_level}: must be one of {', '.join(LEVELS)}", BAD_INPUT)
    try:
        hosted = hosted_models(from_process(config).config)
    except ConfigError as error:
        _fail(str(error), BAD_INPUT)
    if not hosted:
        _fail(f"{config}: no pool has spill", BAD_INPUT)
    configure("spill", level=log_level)
    raise typer.Exit(run(hosted, socket))


def _fail(message: str, status: int) -> None:
    typer.echo(message, err=True)
    raise typer.Exit(status)
