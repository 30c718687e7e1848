"""Request traces as values: Azure CSV (`TIMESTAMP,ContextTokens,GeneratedTokens`) and Mooncake JSON lines.

A bad line is an error, never a skipped request: a trace that silently loses lines measures another workload.
"""

import csv
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

BLOCK_TOKENS = 512
"""Tokens of one Mooncake prefix block; the last block of a prompt may be shorter."""

MOONCAKE_TICK_S = 3.0
"""Mooncake timestamps are multiples of this; arrivals are spread evenly at random inside their tick."""

_AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedRequest:
    """One request of a trace. `at_s` counts from the trace's first request.

    `prefix_blocks` are ids of 512-token blocks, in order: two requests share a prompt prefix exactly as far as their
    ids agree. Empty means that the prompt shares nothing with any other.
    """

    at_s: float
    input_tokens: int
    output_tokens: int
    prefix_blocks: tuple[int, ...] = ()


class BadTrace(ValueError):
    """A line of a trace breaks a rule. The message names file, line, column and rule."""

    def __init__(self, name: str, line: int, column: str, rule: str) -> None:
        super().__init__(f"{name}, line {line}, column {column}: {rule}")
        self.line = line
        self.column = column
        self.rule = rule


class _MooncakeLine(msgspec.Struct):
    timestamp: float
    input_length: int
    output_length: int
    hash_ids: list[int]


def load_trace(path: Path, *, rng: random.Random) -> list[TracedRequest]:
    """Requests of the file at `path`, in order of arrival; `.jsonl` is read as Mooncake, anything else as Azure CSV."""
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            if path.suffix == ".jsonl":
                return read_mooncake(lines, name=str(path), rng=rng)
            return read_azure(lines, name=str(path))
    except UnicodeDecodeError as error:
        raise BadTrace(str(path), 0, "-", f"must be UTF-8 text ({error.reason} at byte {error.start})") from error


def read_azure(lines: Iterable[str], *, name: str) -> list[TracedRequest]:
    """Requests of an Azure LLM inference trace. Raises `BadTrace` at the first line that breaks a rule."""
    rows = csv.reader(lines)
    header = next(rows, None)
    if header is None or tuple(column.strip() for column in header) != _AZURE_COLUMNS:
        raise BadTrace(name, 1, "-", f"the header must be {','.join(_AZURE_COLUMNS)}")
    requests = []
    for row in rows:
        if not row:
            continue
        if len(row) != len(_AZURE_COLUMNS):
            raise BadTrace(name, rows.line_num, "-", f"must have {len(_AZURE_COLUMNS)} columns, has {len(row)}")
        try:
            at = datetime.fromisoformat(row[0].strip())
        except ValueError:
            rule = f"must be an ISO date and time, is {row[0]!r}"
            raise BadTrace(name, rows.line_num, _AZURE_COLUMNS[0], rule) from None
        requests.append(
            TracedRequest(
                at_s=(at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp(),
                input_tokens=_tokens(row[1], name=name, line=rows.line_num, column=_AZURE_COLUMNS[1]),
                output_tokens=_tokens(row[2], name=name, line=rows.line_num, column=_AZURE_COLUMNS[2]),
            )
        )
    return _in_order(requests, name=name)


def read_mooncake(lines: Iterable[str], *, name: str, rng: random.Random) -> list[TracedRequest]:
    """Requests of a Mooncake trace: `timestamp` in ms, `input_length`, `output_length`, `hash_ids`.

    The order inside a 3 s tick is drawn from `rng`, so one seed gives one trace.
    """
    return _in_order(list(_mooncake(lines, name=name, rng=rng)), name=name)


def _mooncake(lines: Iterable[str], *, name: str, rng: random.Random) -> Iterator[TracedRequest]:
    decoder = msgspec.json.Decoder(_MooncakeLine)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            parsed = decoder.decode(line)
        except msgspec.ValidationError as error:
            rule, _, place = str(error).partition(" - at `$.")
            raise BadTrace(name, number, place.rstrip("`") or "-", rule) from None
        except msgspec.DecodeError as error:
            raise BadTrace(name, number, "-", f"must be one JSON object ({error})") from None
        if parsed.timestamp < 0:
            raise BadTrace(name, number, "timestamp", f"must be at least 0, is {parsed.timestamp:g}")
        for column, tokens in (("input_length", parsed.input_length), ("output_length", parsed.output_length)):
            if tokens < 1:
                raise BadTrace(name, number, column, f"must be at least 1, is {tokens}")
        blocks = -(-parsed.input_length // BLOCK_TOKENS)
        if len(parsed.hash_ids) != blocks:
            rule = f"must have one id per {BLOCK_TOKENS} input tokens ({blocks}), has {len(parsed.hash_ids)}"
            raise BadTrace(name, number, "hash_ids", rule)
        yield TracedRequest(
            at_s=parsed.timestamp / 1000 + rng.random() * MOONCAKE_TICK_S,
            input_tokens=parsed.input_length,
            output_tokens=parsed.output_length,
            prefix_blocks=tuple(parsed.hash_ids),
        )


def first_minutes(requests: list[TracedRequest], minutes: float) -> list[TracedRequest]:
    """Requests that arrive in the first `minutes` of trace time."""
    return [request for request in requests if request.at_s < minutes * 60]


def _tokens(text: str, *, name: str, line: int, column: str) -> int:
    try:
        tokens = int(text)
    except ValueError:
        raise BadTrace(name, line, column, f"must be a whole number, is {text!r}") from None
    if tokens < 1:
        raise BadTrace(name, line, column, f"must be at least 1, is {tokens}")
    return tokens


def _in_order(requests: list[TracedRequest], *, name: str) -> list[TracedRequest]:
    """The same requests sorted by arrival, with the first one at 0 s."""
    if not requests:
        raise BadTrace(name, 1, "-", "must have at least one request")
    requests.sort(key=lambda request: request.at_s)
    start_s = requests[0].at_s
    return [replace(request, at_s=request.at_s - start_s) for request in requests]
