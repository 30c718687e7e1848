"""Results as text: one aligned table each."""

from benchmarks.order.result import Cell, Result


def render(result: Result) -> str:
    """Title, table, notes."""
    columns = list(result.rows[0])
    cells = [columns, *([_text(row[column]) for column in columns] for row in result.rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    lines = [f"{result.name}: {result.title}"]
    for row in cells:
        first = row[0].ljust(widths[0])
        lines.append("  ".join([first, *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]))
    return "\n".join([*lines, *(f"  {note}" for note in result.notes)])


def _text(cell: Cell) -> str:
    """About three digits; '-' for what is unknown or never happened."""
    if cell is None:
        return "-"
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:.3f}" if abs(cell) < 1 else f"{cell:.2f}" if abs(cell) < 100 else f"{cell:,.0f}"
