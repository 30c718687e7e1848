"""`weighbridge doctor`: the command, its options and its mistakes."""

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from weighbridge.config import load
from weighbridge.config_ask import ask_server
from weighbridge.config_errors import ConfigError, Problem
from weighbridge.config_include import merged, read_text
from weighbridge.config_litellm import environment
from weighbridge.config_source import document
from weighbridge.doctor.config import check_loaded, check_unusable, may_be_empty
from weighbridge.doctor.finding import Finding, error, status_of, unknown
from weighbridge.doctor.interpreter import ask_interpreter, proxy_python
from weighbridge.doctor.litellm import check_litellm
from weighbridge.doctor.network import check_network
from weighbridge.doctor.report import last_line, table_of, to_json
from weighbridge.doctor.secret import check_master_key, check_plain_keys
from weighbridge.doctor.version import check_installed
from weighbridge.litellm_plugin import OWN
from weighbridge.logging import configure

BAD_INPUT = 2
PLUGIN_FILE = Path("gateway", "litellm_plugin.py")


def register(app: typer.Typer) -> None:
    """Add the `doctor` command to `app`."""
    app.command("doctor")(doctor_command)


def doctor_command(
    litellm: Annotated[
        Path | None, typer.Option("--litellm", metavar="FILE", help="The config.yaml of a LiteLLM proxy to check.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Configuration file (YAML). Default: that of --litellm."),
    ] = None,
    python: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Interpreter of the proxy. Default: that of the `litellm` on the PATH."),
    ] = None,
    network: Annotated[bool, typer.Option("--network/--no-network", help="Ask Redis and replicas.")] = True,
    probe: Annotated[
        bool, typer.Option("--probe", help="Send each replica one token of work with a priority.")
    ] = False,
    timeout_s: Annotated[float, typer.Option(min=0.1, max=300, help="Longest wait for an answer.")] = 5.0,
    max_clock_skew_s: Annotated[float, typer.Option(min=0, help="Between this machine and Redis.")] = 1.0,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 for warnings, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One object.")] = False,
) -> None:
    """Check a set-up and print what to change. Exit 0: fine; 1: something must change; 2: a file cannot be read."""
    env = os.environ  # noqa: TID251 (the composition root)
    if litellm is None and config is None:
        _fail("say what to check: --litellm FILE or --config FILE")
    own = config or (Path(env[OWN]) if litellm is not None and env.get(OWN) else None) or litellm
    assert own is not None
    try:
        written = {path: _document(path) for path in dict.fromkeys((litellm, own)) if path is not None}
    except ConfigError as failure:
        _fail(str(failure))
    configure("doctor", level="error")
    findings: list[Finding] = []
    loaded = None
    try:
        loaded = load(own, env, ask=ask_server if network else None)
    except ConfigError as failure:
        findings.extend(check_unusable(failure))
    if litellm is not None:
        findings.extend(check_installed(ask_interpreter(proxy_python(python))))
        findings.extend(_proxy(written[litellm], litellm, env, from_zero=bool(loaded and may_be_empty(loaded.config))))
    for sections in written.values():
        findings.extend(check_plain_keys(sections))
    if loaded is not None:
        findings.extend(check_loaded(loaded, plugin=litellm is not None))
    if loaded is not None and network:
        checks = check_network(
            loaded.config,
            timeout_s=timeout_s,
            max_clock_skew_s=max_clock_skew_s,
            probe=probe,
            clock=time.perf_counter,
            wall_clock=time.time,  # noqa: TID251 (the composition root)
        )
        findings.extend(asyncio.run(checks))
    else:
        why = "--no-network" if loaded is not None else "the configuration cannot be used"
        findings.append(unknown("network", f"Redis and replicas were not asked: {why}"))
    _print(findings, as_json=as_json)
    raise typer.Exit(status_of(findings, strict=strict))


def _proxy(sections: Mapping[str, Any], file: Path, env: Mapping[str, str], *, from_zero: bool) -> Iterator[Finding]:
    """What concerns LiteLLM's own sections."""
    yield from check_litellm(sections, from_zero=from_zero)
    if (file.parent / PLUGIN_FILE).exists():
        what = (
            f"{PLUGIN_FILE} is beside {file.name}: LiteLLM runs that file once per entry, and not the installed package"
        )
        yield error("plugin-callback", what, f"move {file.name} into a folder of its own")
    yield from check_master_key(sections, environment(sections, env))


def _print(findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        typer.echo(to_json(findings))
        return
    from rich.console import Console

    from weighbridge.terminal import width

    Console(width=width()).print(table_of(findings))
    typer.echo(f"\n{last_line(findings)}")


def _document(path: Path) -> dict[str, Any]:
    """A file and what it includes, with nothing replaced. Raises `ConfigError`."""
    text = read_text(path, lambda rule: Problem(path="(file)", value=None, rule=rule))
    return merged(document(text, str(path)), str(path), path.parent)


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(BAD_INPUT)
