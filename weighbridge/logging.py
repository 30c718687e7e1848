"""Structured logs of every process: a constant message and fields, one line each, secrets never among them."""

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED_FIELDS = frozenset(
    {
        "api_key", "authorization", "body", "content", "cookie", "headers", "key", "keys", "master_key", "messages",
        "password", "prompt", "replica_api_key", "secret", "token", "x-api-key",
    }
)  # fmt: skip
"""Fields whose value is replaced, whoever logs them: keys, and what clients sent."""

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace the values of `REDACTED_FIELDS`, in any spelling of case and at any depth of mappings."""
    return {name: _redacted(name, value) for name, value in event.items()}


def _redacted(name: str, value: object) -> object:
    if name.lower() in REDACTED_FIELDS:
        return "[redacted]"
    if isinstance(value, dict):
        return {inner: _redacted(str(inner), item) for inner, item in value.items()}
    return value


def configure(process: str, *, level: str = "info", stream: TextIO | None = None) -> None:
    """Set up structlog for this process. `process` becomes a field of every line.

    A terminal gets readable lines, anything else JSON. `level` is a key of `LEVELS`.
    """
    out = stream or sys.stderr
    human = out.isatty()
    last: list[Processor] = [structlog.dev.ConsoleRenderer(colors=human)] if human else []
    if not human:
        last = [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(process=process)
