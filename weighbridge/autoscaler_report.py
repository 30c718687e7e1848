"""Pools and decisions as people and programs read them. What is not known is drawn as unknown, never as zero."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backlog.records import DecisionRecord, InputRecord, PoolView, StepRecord
from weighbridge.terminal import width

UNKNOWN = "unknown"
BINDING = "◀"


def binding_step(steps: Sequence[StepRecord]) -> int:
    """The index of the last step that changed the number; the first if none did."""
    changed = [index for index, step in enumerate(steps) if step.before != step.after]
    return changed[-1] if changed else 0


def print_status(views: Sequence[PoolView]) -> None:
    """One row per pool, and below it why: reasons are too long for a column."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("pool", "mode"):
        table.add_column(name, no_wrap=True)
    for name in ("ready", "pending", "draining", "desired", "offered load", "backlog GPU-s", "cold start", "decided"):
        table.add_column(name, justify="right")
    why = Table(box=None, pad_edge=False, show_header=False)
    why.add_column("pool", no_wrap=True)
    why.add_column("reason", overflow="fold")
    for view in views:
        decision = view.decision
        if decision is None:
            table.add_row(escape(view.pool), *[UNKNOWN] * 9)
            why.add_row(escape(view.pool), "no decision in the last hour: is the autoscaler running?")
            continue
        table.add_row(
            escape(view.pool),
            decision.mode,
            *(str(count) for count in (decision.ready, decision.pending, decision.draining, decision.desired)),
            _number(decision.offered_load, ".2f"),
            _number(decision.backlog_gpu_s, ".1f"),
            _seconds(decision.cold_start_s),
            f"{_seconds(max(0.0, view.read_at_s - decision.at_s))} ago",
        )
        why.add_row(escape(view.pool), escape(decision.headline))
    console = Console(width=width(), highlight=False)
    console.print(table)
    console.print()
    console.print(why)


def status_json(views: Sequence[PoolView]) -> str:
    """One object per pool: the decision, or null, and its age in seconds."""
    pools = [
        {
            "pool": view.pool,
            "decision": _plain(view.decision),
            "age_s": None if view.decision is None else max(0.0, view.read_at_s - view.decision.at_s),
        }
        for view in views
    ]
    return json.dumps(pools, indent=2, ensure_ascii=False)


def print_decisions(decisions: Sequence[DecisionRecord], *, read_at_s: float) -> None:
    """Each decision with its inputs and steps, the binding one marked."""
    console = Console(width=width(), highlight=False)
    for index, decision in enumerate(decisions):
        if index:
            console.print()
        _print_decision(console, decision, max(0.0, read_at_s - decision.at_s))


def decisions_json(decisions: Sequence[DecisionRecord]) -> str:
    """A list, newest first; `binding` is the index of the binding step."""
    plain = [{**_plain(decision), "binding": binding_step(decision.steps)} for decision in decisions]
    return json.dumps(plain, indent=2, ensure_ascii=False)


def _print_decision(console: Console, decision: DecisionRecord, age_s: float) -> None:
    at = datetime.fromtimestamp(decision.at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    console.print(
        f"[bold]{escape(decision.pool)}[/bold]: desired {decision.desired} ({decision.mode}), "
        f"recommended {decision.recommended}, decided {_seconds(age_s)} ago at {at}"
    )
    console.print(f"  {escape(decision.headline)}\n")
    inputs = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    for name in ("  input", "age", "value"):
        inputs.add_column(name, overflow="fold")
    for read in decision.inputs or _old_inputs(decision):
        value = read.value if read.value is not None else f"{UNKNOWN}: {read.cause}"
        inputs.add_row(f"  {escape(read.name)}", "" if read.age_s is None else _seconds(read.age_s), escape(value))
    steps = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    steps.add_column("  step", no_wrap=True)
    for name in ("before", "after", ""):
        steps.add_column(name, justify="right")
    steps.add_column("reason", overflow="fold")
    binding = binding_step(decision.steps)
    for index, step in enumerate(decision.steps):
        style = "bold" if index == binding else None
        mark = BINDING if index == binding else ""
        steps.add_row(
            f"  {escape(step.name)}", str(step.before), str(step.after), mark, escape(step.reason), style=style
        )
    console.print(inputs)
    console.print()
    console.print(steps)


def _old_inputs(decision: DecisionRecord) -> tuple[InputRecord, ...]:
    """The inputs of a record of a version that did not write them: what its other fields tell."""
    load = None if decision.offered_load is None else f"{decision.offered_load:.2f} erlangs"
    work = None if decision.backlog_gpu_s is None else f"{decision.backlog_gpu_s:.1f} GPU-s waiting"
    return (
        InputRecord(name="work", value=work, age_s=None, cause="not read"),
        InputRecord(name="offered load", value=load, age_s=None, cause="not read"),
    )


def _plain(decision: DecisionRecord | None) -> dict[str, object]:
    plain: dict[str, object] = msgspec.to_builtins(decision)
    return plain


def _number(value: float | None, spec: str) -> str:
    return UNKNOWN if value is None else format(value, spec)


def _seconds(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
