"""A recording decided again, as people and programs read it."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from autoscaler.rerun import Again
from weighbridge.autoscaler_rerun import Reran, RerunFile
from weighbridge.terminal import width

MOST_ROWS = 40
"""Of a table; JSON has all."""


def print_rerun(file: RerunFile) -> None:
    """Per part: where the numbers change or part, and what it sums to."""
    console = Console(width=width(), highlight=False)
    for index, reran in enumerate(file.parts):
        if index:
            console.print()
        _print_part(console, reran)
    for note in file.notes:
        typer.echo(note, err=True)


def rerun_json(file: RerunFile) -> str:
    """Every decision, recorded and again, and the sums."""
    parts = [
        {
            "pool": reran.settings.pool,
            "decisions": len(reran.decisions),
            "other_number": _others(reran),
            "other_reason": sum(again.same_number and not again.same for again in reran.decisions),
            "recorded_replica_hours": reran.recorded_replica_hours,
            "replica_hours": reran.replica_hours,
            "ticks": [_tick(again) for again in reran.decisions],
        }
        for reran in file.parts
    ]
    return json.dumps({"parts": parts, "notes": list(file.notes)}, indent=2, ensure_ascii=False)


def rows(decisions: Sequence[Again]) -> Iterator[Again]:
    """Decisions at which either number changes, or at which they part or meet."""
    before = None
    for again in decisions:
        numbers = (again.tick.desired, again.decision.desired)
        if numbers != before:
            yield again
        before = numbers


def _print_part(console: Console, reran: Reran) -> None:
    decisions = reran.decisions
    if not decisions:
        console.print(f"{escape(reran.settings.pool)}: no decisions")
        return
    first_s, last_s = decisions[0].tick.now_s, decisions[-1].tick.now_s
    span = f"{_at(first_s, '%Y-%m-%d %H:%M:%S')} to {_at(last_s, '%Y-%m-%d %H:%M:%S')} UTC"
    table = Table(title=f"{escape(reran.settings.pool)}, {span}", title_justify="left", box=None, header_style="bold")
    table.add_column("time", no_wrap=True)
    table.add_column("recorded", justify="right")
    table.add_column("again", justify="right")
    table.add_column("step", no_wrap=True)
    table.add_column("reason", overflow="fold")
    shown = list(rows(decisions))
    for again in shown[:MOST_ROWS]:
        step = again.decision.binding
        table.add_row(
            _at(again.tick.now_s, "%H:%M:%S"),
            str(again.tick.desired),
            str(again.decision.desired),
            str(step.name),
            escape(step.reason),
            style=None if again.same_number else "bold",
        )
    console.print(table)
    if len(shown) > MOST_ROWS:
        console.print(f"… and {len(shown) - MOST_ROWS} more changes; --json has all")
    reasons = sum(again.same_number and not again.same for again in decisions)
    console.print(
        f"{len(decisions)} decisions, {_others(reran)} with another number of replicas, "
        f"{reasons} with the same number for another reason"
    )
    recorded, again_hours = reran.recorded_replica_hours, reran.replica_hours
    change = f" ({again_hours / recorded - 1:+.1%})" if recorded > 0 else ""
    console.print(f"replica-hours: {recorded:.2f} recorded, {again_hours:.2f} again{change}")


def _others(reran: Reran) -> int:
    return sum(not again.same_number for again in reran.decisions)


def _tick(again: Again) -> dict[str, object]:
    tick, decision = again.tick, again.decision
    return {
        "at_s": tick.now_s,
        "recorded": {
            "desired": tick.desired,
            "recommended": tick.recommended,
            "step": tick.step,
            "reason": tick.headline,
        },
        "again": {
            "desired": decision.desired,
            "recommended": decision.recommended,
            "step": str(decision.binding.name),
            "reason": decision.headline,
        },
    }


def _at(at_s: float, form: str) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime(form)
