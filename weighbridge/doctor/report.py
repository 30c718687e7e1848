"""Findings as a table, as JSON, and the line that ends either."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from weighbridge.doctor.finding import Finding, Severity, count

if TYPE_CHECKING:
    from rich.table import Table

STYLES = {Severity.OK: "green", Severity.UNKNOWN: "dim", Severity.WARNING: "yellow", Severity.ERROR: "bold red"}


def table_of(findings: Sequence[Finding]) -> "Table":
    """One row per finding; what to change is below what is, by an arrow."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "check"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what is, and what to change", overflow="fold")
    for finding in findings:
        text = Text(finding.what)
        if finding.severity is not Severity.OK:
            for number, line in enumerate(finding.change.splitlines()):
                text.append(f"\n{'->' if number == 0 else '  '} {line}", style="bold")
        table.add_row(Text(finding.severity.value, style=STYLES[finding.severity]), finding.check, text)
    return table


def last_line(findings: Sequence[Finding]) -> str:
    """How many of each kind."""
    warnings, unknown = count(findings, Severity.WARNING), count(findings, Severity.UNKNOWN)
    line = f"{count(findings, Severity.ERROR)} to change, {warnings} warning{'' if warnings == 1 else 's'}"
    return f"{line}, {unknown} unknown" if unknown else line


def to_json(findings: Sequence[Finding]) -> str:
    """The same as one object."""
    return json.dumps(
        {
            "findings": [
                {"check": each.check, "severity": each.severity.value, "what": each.what, "change": each.change or None}
                for each in findings
            ],
            "to_change": count(findings, Severity.ERROR),
            "warnings": count(findings, Severity.WARNING),
            "unknown": count(findings, Severity.UNKNOWN),
        },
        indent=2,
    )
