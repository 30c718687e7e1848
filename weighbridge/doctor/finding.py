"""What a check found, what to change, and the exit status that follows. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    OK = "ok"
    UNKNOWN = "unknown"
    """Nothing said how it is. Not a fault, and not its absence."""
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`what` is the state in one line; `change` is the YAML or the command that mends it, empty where nothing must."""

    check: str
    severity: Severity
    what: str
    change: str = ""


def fine(check: str, what: str) -> Finding:
    return Finding(check=check, severity=Severity.OK, what=what)


def unknown(check: str, what: str, change: str = "") -> Finding:
    return Finding(check=check, severity=Severity.UNKNOWN, what=what, change=change)


def warning(check: str, what: str, change: str) -> Finding:
    return Finding(check=check, severity=Severity.WARNING, what=what, change=change)


def error(check: str, what: str, change: str) -> Finding:
    return Finding(check=check, severity=Severity.ERROR, what=what, change=change)


def count(findings: Iterable[Finding], severity: Severity) -> int:
    return sum(finding.severity is severity for finding in findings)


def status_of(findings: Iterable[Finding], *, strict: bool) -> int:
    """0: fine. 1: something must change; with `strict` also for a warning. What is unknown changes nothing."""
    failing = {Severity.ERROR, Severity.WARNING} if strict else {Severity.ERROR}
    return int(any(finding.severity in failing for finding in findings))
