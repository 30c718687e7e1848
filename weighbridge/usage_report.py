"""Usage as people and programs read it: a table by tenant and model, CSV and JSON by day."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import asdict
from rich.markup import escape
from rich.table import Table

from backlog.account import NO_USAGE, Usage, UsageRow

NAMES = ("day", "tenant", "pool", "model")
NUMBERS = Usage.__struct_fields__
TOTAL = "total"
_COLUMNS = ("requests", "input tokens", "cached", "output tokens", "prefill GPU-s", "decode GPU-s", "money")
_SPILLED = ("spilled", "spilled tokens", "spilled money")


def to_csv(rows: Iterable[UsageRow]) -> str:
    """A header and one line per day, tenant and model."""
    text = io.StringIO()
    writer = csv.DictWriter(text, (*NAMES, *NUMBERS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_plain, rows))
    return text.getvalue()


def to_json(rows: Iterable[UsageRow]) -> str:
    """A list with the objects that are the lines of `to_csv`."""
    return json.dumps([_plain(row) for row in rows], indent=2, ensure_ascii=False) + "\n"


def totals(rows: Iterable[UsageRow]) -> dict[str, dict[str, Usage]]:
    """Usage by tenant and model over all days and pools, in the order of their names."""
    found: dict[str, dict[str, Usage]] = {}
    for row in rows:
        models = found.setdefault(row.key.tenant, {})
        models[row.key.model] = models.get(row.key.model, NO_USAGE) + row.usage
    return {tenant: dict(sorted(found[tenant].items())) for tenant in sorted(found)}


def table_of(rows: Sequence[UsageRow], *, title: str) -> Table:
    """One row per tenant and model, one per tenant with several models, and one of all tenants.

    What hosted models answered has columns of its own, where there is any.
    """
    table = Table(title=title, title_justify="left")
    for name in ("tenant", "model"):
        table.add_column(name, overflow="fold")
    spilled = any(row.usage.spilled_requests for row in rows)
    for name in (*_COLUMNS, *(_SPILLED if spilled else ())):
        table.add_column(name, justify="right", no_wrap=True)
    tenants = totals(rows)
    for tenant, models in tenants.items():
        for model, usage in models.items():
            table.add_row(escape(tenant), escape(model), *_cells(usage, spilled=spilled))
        if len(models) > 1:
            table.add_row(escape(tenant), TOTAL, *_cells(_sum(models), spilled=spilled), style="bold")
        table.add_section()
    if len(tenants) > 1:
        everything = sum((row.usage for row in rows), start=NO_USAGE)
        table.add_row(TOTAL, "", *_cells(everything, spilled=spilled), style="bold")
    return table


def _sum(models: Mapping[str, Usage]) -> Usage:
    return sum(models.values(), start=NO_USAGE)


def _cells(usage: Usage, *, spilled: bool) -> tuple[str, ...]:
    counts = (usage.requests, usage.input_tokens, usage.cached_tokens, usage.output_tokens)
    seconds = (usage.prefill_gpu_s, usage.decode_gpu_s)
    return (
        *(f"{count:,}" for count in counts),
        *(f"{value:,.2f}" for value in seconds),
        f"{usage.money:,.4f}",
        *(_spilled_cells(usage) if spilled else ()),
    )


def _spilled_cells(usage: Usage) -> tuple[str, ...]:
    tokens = usage.spilled_input_tokens + usage.spilled_output_tokens
    return f"{usage.spilled_requests:,}", f"{tokens:,}", f"{usage.spilled_money:,.4f}"


def _plain(row: UsageRow) -> dict[str, str | int | float]:
    return {"day": row.day.isoformat(), **row.key._asdict(), **asdict(row.usage)}
