"""What a human is told once about how a configuration was read: lines for `check-config`, log lines at a start."""

from collections.abc import Iterable, Iterator
from typing import Any

import structlog

from weighbridge.config import Loaded
from weighbridge.config_errors import dotted
from weighbridge.config_merge import DEFAULT_GPU
from weighbridge.config_wildcard import Wildcard


def lines(loaded: Loaded) -> Iterator[str]:
    """For a terminal."""
    if loaded.not_needed:
        yield f"LiteLLM keys not needed here: {', '.join(loaded.not_needed)}"
    if loaded.missed:
        yield f"LiteLLM keys WITHOUT EFFECT here: {', '.join(loaded.missed)}"
    for entry in loaded.elsewhere:
        yield f"not served here: {entry.model} ({dotted(entry.path)} {entry.why})"
    for problem in loaded.unpriced:
        yield f"not served here: {problem}"
    for wildcard in loaded.wildcards:
        yield f"wildcard {wildcard.pattern}: {'; '.join(_covers(wildcard))}"
    if loaded.redis_named_by:
        yield f"Redis from {loaded.redis_named_by}"
    if loaded.assumed_gpu:
        yield f"gpu assumed to be {DEFAULT_GPU} for: {', '.join(loaded.assumed_gpu)} (say otherwise under pools)"


def _covers(wildcard: Wildcard) -> Iterator[str]:
    yield "every name that matches" if wildcard.every else f"covers {_some(wildcard.names)}"
    if wildcard.unpriced:
        yield f"no architecture is known for {_some(wildcard.unpriced)}"
    if wildcard.silent:
        yield f"no list of models from {_some(wildcard.silent)}"


def _some(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"


def log(loaded: Loaded) -> None:
    """For the log of a process that starts."""
    logger: Any = structlog.get_logger("weighbridge")
    if loaded.not_needed:
        logger.info("LiteLLM keys not needed", keys=list(loaded.not_needed))
    if loaded.missed:
        logger.warning("LiteLLM keys without effect", keys=list(loaded.missed))
    if loaded.elsewhere:
        logger.warning("models not served here", models=sorted({entry.model for entry in loaded.elsewhere}))
    if loaded.redis_named_by:
        logger.info("redis named by LiteLLM's keys", key=loaded.redis_named_by)
    log_prices(loaded)


def log_prices(loaded: Loaded) -> None:
    """What has no price, or one that was assumed: also inside LiteLLM, which heeds its own keys itself."""
    logger: Any = structlog.get_logger("weighbridge")
    for problem in loaded.unpriced:
        logger.warning("model without an architecture", key=problem.path, rule=problem.rule)
    for wildcard in loaded.wildcards:
        logger.info(
            "wildcard read",
            pattern=wildcard.pattern,
            names="all" if wildcard.every else list(wildcard.names),
        )
        if wildcard.unpriced or wildcard.silent or not (wildcard.every or wildcard.names):
            logger.warning(
                "wildcard covers less than it matches",
                pattern=wildcard.pattern,
                unpriced=list(wildcard.unpriced),
                silent=list(wildcard.silent),
            )
    if loaded.assumed_gpu:
        logger.warning("GPU assumed", gpu=DEFAULT_GPU, pools=list(loaded.assumed_gpu))
