"""The `weighbridge` command. Imports are inside the commands: one simulated replica must not load a whole gateway."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from estimator.architecture import Architecture
    from weighbridge.config import Loaded
    from weighbridge.config_models import Config

BAD_INPUT = 2
"""Exit status for a configuration or an option that cannot be used."""

app = typer.Typer(
    name="weighbridge",
    epilog="Start with: weighbridge up",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"weighbridge {version('weighbridge')}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """LLM gateway and GPU autoscaler. Every prompt is weighed in GPU-seconds before it reaches a GPU."""


ConfigFile = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="Configuration file (YAML).")]
PortOption = Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the OpenAI endpoint; 0: any free one.")]
AdminPortOption = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Port of /metrics, /status and /drain; 0: any free one.")
]
WorkersOption = Annotated[int | None, typer.Option(min=1, max=256, help="Gateway processes that share the port.")]
LogLevel = Annotated[str, typer.Option(help="debug, info, warning or error.", envvar="WEIGHBRIDGE_LOG_LEVEL")]


@app.command()
def up(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="Default: one pool of simulated replicas.")
    ] = None,
    port: PortOption = None,
    admin_port: AdminPortOption = None,
    workers: WorkersOption = None,
    replicas: Annotated[
        str | None, typer.Option(metavar="MIN:MAX", help="Bounds of the default pool. Default: 1:4.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model of the default pool, by its built-in name. Default: llama-3.1-8b.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="GPU that the default pool pretends to be. Default: L40S.")] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="For logs, kept; default: a new one in ~/.cache, gone after Ctrl-C."),
    ] = None,
) -> None:
    """Run gateway, autoscaler, Redis and replicas on this machine until Ctrl-C."""
    import asyncio

    from backlog.embedded import EmbeddedRedisFailed, EmbeddedRedisMissing
    from weighbridge.config_report import lines
    from weighbridge.up import UpError, run

    if config is not None and (replicas or model or gpu):
        _fail("--replicas, --model and --gpu describe the default pool; with --config, pools are in the file")
    loaded = _load(config) if config is not None else _default(model=model, gpu=gpu, replicas=replicas)
    resolved = _with_ports(loaded.config, port=port, admin_port=admin_port, workers=workers)
    for line in lines(loaded):
        typer.echo(line, err=True)
    try:
        status = asyncio.run(run(resolved, run_directory=run_dir, say=lambda text: typer.echo(text)))
    except UpError as error:
        _fail(str(error), status=error.status)
    except (EmbeddedRedisMissing, EmbeddedRedisFailed, OSError) as error:
        _fail(str(error), status=1)
    raise typer.Exit(status)


@app.command()
def demo() -> None:
    """Three minutes of traffic on a simulated fleet that grows and shrinks."""
    from weighbridge.demo import run

    raise typer.Exit(run())


@app.command("check-config")
def check_config(file: Annotated[Path, typer.Argument(metavar="FILE", help="Configuration file (YAML).")]) -> None:
    """Check a configuration and print the pools that it means."""
    from rich.console import Console

    from weighbridge.config_report import lines
    from weighbridge.terminal import width
    from weighbridge.up_report import pools_table

    loaded = _load(file)
    console = Console(width=width())
    console.print(pools_table(loaded.config))
    tenants = ", ".join(f"{name} (weight {tenant.weight:g})" for name, tenant in loaded.config.tenants.items())
    typer.echo(f"\ntenants: {tenants or 'none, every request is served'}")
    for line in lines(loaded):
        typer.echo(line)


@app.command()
def gateway(
    config: ConfigFile,
    port: PortOption = None,
    admin_port: AdminPortOption = None,
    workers: WorkersOption = None,
    log_level: LogLevel = "info",
) -> None:
    """Run the gateway: the OpenAI endpoint and the admin port."""
    from contextlib import ExitStack

    from backlog.embedded import EmbeddedRedis, EmbeddedRedisFailed, EmbeddedRedisMissing
    from weighbridge.wiring import gateway_settings, needs_autoscaler

    loaded = _load(config)
    resolved = _with_ports(loaded.config, port=port, admin_port=admin_port, workers=workers)
    scaled = needs_autoscaler(resolved)
    if resolved.redis is None and scaled:
        _fail(f"{config}: redis.url is required: an autoscaler in another process starts pool {scaled[0]}; or use up")
    spill_command = _spill_command(config, resolved, log_level)
    _start_logging("gateway", log_level, loaded)
    with ExitStack() as stack:
        try:
            url = (
                resolved.redis.url.get_secret_value()
                if resolved.redis
                else stack.enter_context(EmbeddedRedis.start()).url
            )
        except (EmbeddedRedisMissing, EmbeddedRedisFailed) as error:
            _fail(str(error), status=1)
        from gateway.supervisor import run
        from weighbridge.logging import configure

        status = run(
            gateway_settings(resolved, redis_url=url),
            prepare_worker=partial(configure, "gateway-worker", level=log_level),
            spill_command=spill_command,
        )
    raise typer.Exit(status)


autoscaler_app = typer.Typer(invoke_without_command=True)
"""Its subcommands are in `weighbridge.autoscaler_command`."""
app.add_typer(autoscaler_app, name="autoscaler")


@autoscaler_app.callback()
def autoscaler(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="Configuration file (YAML), required.")
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(file_okay=False, help="For the output of replicas; default: discarded.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of /metrics, /healthz and /readyz; 0: any free one.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder for a recording of decisions, for `simulate`.")
    ] = None,
    log_level: LogLevel = "info",
) -> None:
    """Run the autoscaler: one loop per pool. Or ask what it decided, and why, with one of the commands."""
    if context.invoked_subcommand is not None:
        return
    if config is None:
        _fail("--config FILE is required")
    from weighbridge.up import free_port
    from weighbridge.wiring import redis_prefix, scaled_pools

    loaded = _load(config)
    resolved = loaded.config
    controller = resolved.controller
    if port is not None:
        controller = controller.model_copy(update={"port": port or free_port(controller.host)})
    if resolved.redis is None:
        _fail(f"{config}: redis.url is required: the autoscaler reads what gateways publish there; or use up")
    _start_logging("autoscaler", log_level, loaded)
    from weighbridge.scaling import run

    status = run(
        scaled_pools(resolved),
        redis_url=resolved.redis.url.get_secret_value(),
        redis_prefix=redis_prefix(resolved),
        controller=controller,
        run_directory=run_dir,
        record_directory=record,
    )
    raise typer.Exit(status)


@app.command()
def simulate(
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    model: Annotated[str, typer.Option(help="The name that clients send.")] = "llama-3.1-8b",
    architecture: Annotated[
        str | None,
        typer.Option(help="A built-in model, a HuggingFace config.json, or its text. Default: --model."),
    ] = None,
    gpu: Annotated[str, typer.Option(help="The GPU to pretend to be.")] = "L40S",
    tensor_parallel: Annotated[int, typer.Option(min=1, max=64, help="GPUs.")] = 1,
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    start_delay_s: Annotated[float, typer.Option(min=0, help="Seconds until it is healthy: a cold start.")] = 0.0,
    max_num_seqs: Annotated[int, typer.Option(min=1, help="Requests in one batch.")] = 256,
    max_queue: Annotated[int, typer.Option(min=1, help="Requests that may wait; the next is answered 503.")] = 1024,
    kv_tokens: Annotated[
        int | None, typer.Option(min=16, help="KV cache tokens; default: what the GPU has left.")
    ] = None,
    speed: Annotated[float, typer.Option(min=0.001, help="Times as fast as the GPU.")] = 1.0,
    api_key: Annotated[
        str | None, typer.Option(envvar="WEIGHBRIDGE_SIMULATE_KEY", show_envvar=True, help="Required from clients.")
    ] = None,
) -> None:
    """Run one simulated model server."""
    from simulator.server import run
    from simulator.settings import simulator_settings

    try:
        settings = simulator_settings(
            model=model,
            architecture=_architecture(architecture or model),
            gpu=gpu,
            tensor_parallel=tensor_parallel,
            kv_tokens=kv_tokens,
            max_sequences=max_num_seqs,
            max_waiting=max_queue,
            host=host,
            port=port,
            start_delay_s=start_delay_s,
            speed=speed,
            api_key=api_key,
        )
    except ValueError as error:
        _fail(str(error))
    run(settings)


def _load(path: Path) -> "Loaded":
    from weighbridge.config import from_process
    from weighbridge.config_errors import ConfigError

    try:
        return from_process(path)
    except ConfigError as error:
        _fail(str(error))


def _default(*, model: str | None, gpu: str | None, replicas: str | None) -> "Loaded":
    """The configuration of `weighbridge up` without a file."""
    from weighbridge.config import parse
    from weighbridge.config_errors import ConfigError

    low, colon, high = (replicas or "1:4").partition(":")
    if not low.isdigit() or (colon and not high.isdigit()):
        _fail(f"--replicas {replicas}: must be MIN:MAX, two whole numbers")
    name = model or "llama-3.1-8b"
    bounds = {"min": int(low), "max": int(high or low)}
    pool: dict[str, Any] = {"models": [name], "gpu": gpu or "L40S", "replicas": {"processes": bounds}}
    try:
        return parse(json.dumps({"pools": {"default": pool}}), {}, source="default configuration")
    except ConfigError as error:
        _fail(str(error))


def _with_ports(config: "Config", *, port: int | None, admin_port: int | None, workers: int | None) -> "Config":
    """The configuration with what the command line says; 0 becomes a free port."""
    from weighbridge.up import free_port

    section = config.gateway
    asked = {
        "port": free_port(section.host) if port == 0 else port,
        "admin_port": free_port(section.admin_host) if admin_port == 0 else admin_port,
        "workers": workers,
    }
    changed = section.model_copy(update={name: value for name, value in asked.items() if value is not None})
    if changed.port == changed.admin_port:
        _fail(f"--port and --admin-port must differ, both are {changed.port}")
    return config.model_copy(update={"gateway": changed})


def _spill_command(file: Path, config: "Config", log_level: str) -> tuple[str, ...]:
    """What starts the spill process; nothing where no pool spills. Ends the program where the SDK is missing."""
    from importlib.util import find_spec

    from weighbridge.wiring import command_line

    pool = next((name for name, pool in config.pools.items() if pool.spill is not None), None)
    if pool is None:
        return ()
    if find_spec("litellm") is None:
        _fail(f"pools.{pool}.spill needs LiteLLM's SDK: pip install 'weighbridge[litellm]'")
    return command_line("spill", "--config", str(file), "--log-level", log_level)


def _architecture(text: str) -> "str | Architecture":
    """A built-in name as it is; the content or the path of a `config.json` as the architecture. Raises ValueError."""
    from estimator.huggingface import architecture_from_config
    from weighbridge.model_file import is_path, read_model_file

    if not text.lstrip().startswith("{"):
        return architecture_from_config(read_model_file(Path(text)), "config") if is_path(text) else text
    try:
        return architecture_from_config(json.loads(text), "config")
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("architecture is not JSON") from None


def _start_logging(process: str, level: str, loaded: "Loaded") -> None:
    from weighbridge.config_report import log
    from weighbridge.logging import LEVELS, configure

    if level not in LEVELS:
        _fail(f"--log-level {level}: must be one of {', '.join(LEVELS)}")
    configure(process, level=level)
    log(loaded)


def _fail(message: str, *, status: int = BAD_INPUT) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(status)


def main() -> None:
    """Entry point of the console script."""
    from weighbridge.spill import command as spill_command

    spill_command.register(app)
    # The options of these commands live beside their code; a child process must not pay for loading it.
    if sys.argv[1:2] == ["autoscaler"]:
        from weighbridge import autoscaler_command

        autoscaler_command.register(autoscaler_app)
    if sys.argv[1:2] not in (["simulate"], ["gateway"], ["autoscaler"], ["up"], ["spill"]):
        from weighbridge import catalog_command, dashboard_command, plot_command, usage_command, weigh_command
        from weighbridge.calibrate import command as calibrate_command
        from weighbridge.doctor import command as doctor_command
        from weighbridge.replay import command as replay_command

        replay_command.register(app)
        usage_command.register(app)
        dashboard_command.register(app)
        weigh_command.register(app)
        plot_command.register(app)
        catalog_command.register(app)
        calibrate_command.register(app)
        doctor_command.register(app)
    app()


if __name__ == "__main__":
    main()
