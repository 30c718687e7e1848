"""Write the reference pages that follow from code: `python -m docs.generate`. With `--check`, fail on differences.

What the pages say about a value stands beside the value (docstrings, help texts); only the meaning of an outcome stands
here, because an enum member has no docstring. A page is rewritten as a whole: edit code, not pages.
"""

import argparse
import difflib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

from autoscaler.settings import AutoscalerSettings
from backlog import keys, scripts
from backlog.account import Usage
from backlog.records import (
    DecisionRecord,
    InputRecord,
    Lease,
    PoolName,
    ReplicaRecord,
    ReplicaShare,
    StepRecord,
    WorkerId,
    WorkerReport,
)
from backlog.store import HEARTBEAT_S
from backlog.ticket import Ticket
from docs import chart
from docs.families import Family, autoscaler_families, families
from docs.source import documented_fields
from gateway.outcome import HTTP, Outcome
from gateway.settings import Limits, TenantLimits
from weighbridge.config_autoscaler import AutoscalerSection
from weighbridge.config_models import LimitsSection, TenantLimitsSection

HERE = Path(__file__).parent / "reference"
HEADER = "<!-- Written by `python -m docs.generate`. Edit the code that it reads, then run it. -->\n"

MEANINGS: Mapping[Outcome, str] = {
    Outcome.SERVED: "A replica answered with a status below 400, to the end.",
    Outcome.SPILLED: "The pool's [hosted model](../litellm/overflow.md) answered, to the end.",
    Outcome.REPLICA_REFUSED: "A replica answered 400 or above, other than 429, 500, 502, 503, 504; passed on as it is, "
    "or as an error event in a stream that was opened while it waited.",
    Outcome.BAD_REQUEST: "The body is not JSON or breaks a rule (`param` names it); too many pipelined requests.",
    Outcome.BAD_FRAMING: "Not HTTP/1.1, or its length can be read in two ways; the connection is closed.",
    Outcome.UNAUTHORIZED: "No key, or one that no tenant has.",
    Outcome.UNKNOWN_MODEL: "No pool serves the model. Never sent for a known model without replicas.",
    Outcome.UNKNOWN_ENDPOINT: "No such path.",
    Outcome.WRONG_METHOD: "The path exists, with another method.",
    Outcome.READ_TIMEOUT: "The request was not complete within `limits.request_read_s`; the connection is closed.",
    Outcome.BODY_TOO_LARGE: "The body is over `limits.max_body_bytes`, by its own word or by count.",
    Outcome.HEADERS_TOO_LARGE: "Headers or target are over `limits.max_header_bytes`; the connection is closed.",
    Outcome.RATE_LIMITED: "The tenant is below zero in `limits.gpu_s_per_minute`; `Retry-After`: until it is not.",
    Outcome.BUDGET_SPENT: "The tenant's day or month is spent; `Retry-After`: until the next one begins in UTC.",
    Outcome.BACKLOG_FULL: "`limits.max_waiting` requests of the pool wait in this worker already.",
    Outcome.WAIT_EXPIRED: "No replica had room within `limits.max_wait_s`.",
    Outcome.DRAINING: "The gateway stops before the request was sent to a replica.",
    Outcome.REPLICA_FAILED: "Failed on `limits.attempts` replicas before the first response byte.",
    Outcome.REPLICA_FULL: "Model servers said that they are full until the request's deadline.",
    Outcome.REPLICA_TIMEOUT: "No response byte within `limits.first_byte_s` of sending.",
    Outcome.REPLICA_BROKE: "The replica stopped after the first byte: a stream gets an error event, a body is cut. "
    "Or it answered with no events a stream that was opened while it waited, which gets an error event too.",
    Outcome.CLIENT_GONE: "The client closed the connection while it waited or was answered. Counted, never sent.",
    Outcome.GATEWAY_FAULT: "A bug in the gateway ended the request.",
}


def outcomes() -> str:
    """Every outcome with what the client sees."""
    rows = [
        (
            f"`{outcome.value}`",
            "the replica's" if outcome is Outcome.REPLICA_REFUSED else str(HTTP[outcome].status),
            HTTP[outcome].fault.value,
            f"`{HTTP[outcome].error_type}`" if HTTP[outcome].error_type else "",
            MEANINGS[outcome],
        )
        for outcome in Outcome
    ]
    return (
        "# Outcomes\n\n"
        "How a request can end. The value is the `x-weighbridge-outcome` header, the `outcome` label of "
        "`weighbridge_requests_total` and, with underscores, `error.code`. What to do about each: "
        "[operations](../operations.md#outcomes).\n\n"
        + _table(("outcome", "status", "fault", "`error.type`", "when"), rows)
        + "\nOutcomes whose fault is capacity carry `Retry-After` in whole seconds, from the pool's wait estimate, at "
        "most 600, or from the tenant's limit, without a bound. An error inside a stream that has begun is one `data:` "
        "event with the same body, then `data: [DONE]`.\n"
    )


def metrics() -> str:
    """Every family of the admin port, and of the autoscaler's."""
    return (
        "# Metrics\n\n"
        "`GET /metrics` on the admin port, in Prometheus text format. `worker` is the number of the gateway process: "
        "its counters start again at 0 when the process is replaced, so take rates before sums. Families without a "
        "`worker` label come from Redis and are absent while it is away.\n\n"
        + _family_table(families())
        + "\n`outcome` is one of the [outcomes](outcomes.md); `kind` of `weighbridge_gpu_seconds_total` is `prefill` "
        "or `decode`, of `weighbridge_autoscaler_replicas` it is `desired`, `recommended`, `ready`, `pending` or "
        "`draining`.\n" + "\n## Autoscaler\n\n"
        "`GET /metrics` on `controller.port` of each autoscaler. Each shows what it saw and decided itself: a "
        "follower's `desired` is what it would have done. Multiply by `weighbridge_autoscaler_leader` for the leader's "
        "alone.\n\n"
        + _family_table(autoscaler_families())
        + "\n`kind` of `weighbridge_autoscaler_pool_replicas` is `desired`, `recommended`, `present` (what the "
        "decision began with), `ready`, `pending`, `draining` or `unschedulable`; `source` is `work`, `offered-load` "
        "or `misses`; `step` is one of the [steps](../operations.md#why-there-are-this-many-replicas).\n"
    )


def _family_table(found: Sequence[Family]) -> str:
    rows = [
        (
            f"`{family.name}{'_total' if family.kind == 'counter' else ''}`",
            family.kind,
            ", ".join(f"`{label}`" for label in family.labels),
            family.help + (f". Buckets up to: {family.edges}" if family.edges else ""),
        )
        for family in found
    ]
    return _table(("metric", "type", "labels", "meaning"), rows)


def redis_keys() -> str:
    """Every key with its life time, the records inside, and the scripts."""
    pool, worker = PoolName("POOL"), WorkerId("WORKER")
    completed = {
        "line_stem": "BAND:TENANT",
        "band_stem": "BAND",
        "owned_stem": worker,
        "mail_stem": worker,
        "flying_stem": worker,
        "batch_stem": worker,
    }
    of_pool = [name for name in keys.POOL_KEYS if name is not keys.worker_key_stem]
    names = {
        "worker_key": keys.worker_key("wb", pool, worker),
        **{name.__name__: name("wb", pool) + completed.get(name.__name__, "") for name in of_pool},
        "decisions_key": keys.decisions_key("wb", pool),
        "usage_key": keys.usage_stem("wb") + "DAY",
        "spent_stem": keys.spent_stem("wb") + "PERIOD",
        "bucket_stem": keys.bucket_stem("wb") + "TENANT",
        "booked_key": keys.booked_key("wb", worker),
        "calibration_key": keys.calibration_key("wb", pool),
    }
    rows = [(f"`{name}`", _doc(getattr(keys, function))) for function, name in names.items()]
    parts = [
        "# Redis keys\n\n"
        "`wb` is `redis.prefix`. The braces are a cluster hash tag: all keys of one pool are in one slot. Records are "
        "JSON. Every key has a TTL; what a dead process leaves goes by itself. "
        f"`REPLICAS_TTL_S` is {keys.REPLICAS_TTL_S:g} s, `DECISION_TTL_S` {keys.DECISION_TTL_S:g} s, "
        f"`DECISION_HISTORY_TTL_S` {keys.DECISION_HISTORY_TTL_S:g} s, `USAGE_TTL_S` {keys.USAGE_TTL_S / 86400:g} days, "
        f"`SPENT_DAY_TTL_S` {keys.SPENT_DAY_TTL_S / 86400:g} days and `SPENT_MONTH_TTL_S` "
        f"{keys.SPENT_MONTH_TTL_S / 86400:g} days after the last change, `BOOKED_TTL_S` {keys.BOOKED_TTL_S:g} s, "
        f"`CALIBRATION_TTL_S` {keys.CALIBRATION_TTL_S / 86400:g} days; the "
        f"heartbeat limit is {HEARTBEAT_S:g} s, `QUEUE_TTL_S` {keys.QUEUE_TTL_S:g} s.\n\n",
        _table(("key", "content"), rows),
    ]
    for record in (
        WorkerReport,
        ReplicaShare,
        ReplicaRecord,
        DecisionRecord,
        StepRecord,
        InputRecord,
        Ticket,
        Lease,
        Usage,
    ):
        fields = [(f"`{field.name}`", f"`{field.kind}`", field.text) for field in documented_fields(record)]
        parts.append(f"\n## `{record.__name__}`\n\n{_doc(record)}\n\n" + _table(("field", "type", "meaning"), fields))
    listed = [(f"`{path.name}`", _first_comment(path)) for path in sorted(Path(scripts.__file__).parent.glob("*.lua"))]
    parts.append("\n## Scripts\n\nIn `backlog/scripts/`.\n\n" + _table(("script", "what it does"), listed))
    return "".join(parts)


def settings() -> str:
    """Settings whose meaning is documented in their dataclass."""
    parts = ["# Settings\n\nDefaults and meanings of sections of [the configuration file](../configuration.md).\n"]
    for heading, cls, section in (
        ("`autoscaler`", AutoscalerSettings, AutoscalerSection),
        ("`gateway.limits`", Limits, LimitsSection),
        ("`tenants.*.limits`", TenantLimits, TenantLimitsSection),
    ):
        rows = [
            (f"`{field.name}`", f"`{field.default}`", field.text)
            for field in documented_fields(cls)
            if field.name in section.model_fields
        ]
        parts.append(f"\n## {heading}\n\n" + _table(("setting", "default", "meaning"), rows))
    return "".join(parts)


PAGES: Mapping[str, Callable[[], str]] = {
    "metrics.md": metrics,
    "outcomes.md": outcomes,
    "redis-keys.md": redis_keys,
    "settings.md": settings,
}


def differences() -> str:
    """A unified diff from the pages on disk to what they should be; empty when they agree."""
    lines: list[str] = []
    for path, text in _contents().items():
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        lines += difflib.unified_diff(
            old.splitlines(keepends=True),
            text.splitlines(keepends=True),
            str(path.relative_to(HERE.parents[1])),
            "code",
        )
    return "".join(lines)


def _contents() -> dict[Path, str]:
    return {**{HERE / name: HEADER + page() for name, page in PAGES.items()}, **chart.pages()}


def main() -> int:
    """Write the pages, or with `--check` print what differs and return 1."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is not up to date")
    if parser.parse_args().check:
        diff = differences()
        sys.stdout.write(diff)
        return 1 if diff else 0
    HERE.mkdir(exist_ok=True)
    for path, text in _contents().items():
        path.write_text(text, encoding="utf-8")
    return 0


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _doc(documented: object) -> str:
    """A docstring as one paragraph."""
    return " ".join((inspect.getdoc(documented) or "").split())


def _first_comment(path: Path) -> str:
    """The comment that a script begins with."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return " ".join(line.removeprefix("--").strip() for line in takewhile(lambda line: line.startswith("--"), lines))


if __name__ == "__main__":
    sys.exit(main())
