"""The spill process: the SDK's imports and memory, away from everything that carries requests to replicas."""

import asyncio
import logging
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

import structlog
import uvicorn

from weighbridge.spill.sdk import Hosted, Sdk, SdkMissing, load
from weighbridge.spill.server import SpillApp

_log = structlog.get_logger()
DRAIN_S = 30
KEEP_ALIVE_S = 60
BAD_INPUT = 2


def run(hosted: Mapping[str, Hosted], path: Path) -> int:
    """Serve on a unix socket at `path` until SIGTERM. Returns the exit status: 2 for what cannot work."""
    try:
        sdk = Sdk(load())
    except SdkMissing as error:
        _log.error("cannot start", cause=str(error))
        return BAD_INPUT
    for pool, model in hosted.items():
        unknown = sdk.unknown_provider(model)
        if unknown is not None:
            _log.error("cannot start", cause=f"pools.{pool}.spill.model: {unknown}")
            return BAD_INPUT
        price = sdk.price(model)
        if price is None:
            _log.warning("hosted model has no known price", pool=pool, model=model.model)
        else:
            _log.info(
                "hosted model priced", pool=pool, model=model.model, input_per_mtok=price[0], output_per_mtok=price[1]
            )
    # What the server would say of a stream that was broken off is said by the application.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    listener = listen(path)
    config = uvicorn.Config(
        SpillApp(sdk, hosted),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=DRAIN_S,
        http="httptools",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    try:
        asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
    finally:
        path.unlink(missing_ok=True)
    return 0


def listen(path: Path) -> socket.socket:
    """A listening socket that only this user can reach. What is left at `path` by an earlier process goes."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    listener.listen(1024)
    listener.setblocking(False)
    return listener
