"""Show a report as one table for people, and write it as JSON for machines."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
from rich.table import Table
from rich.text import Text

from weighbridge.replay.report import Percentiles, Report

_BARS = "▁▂▃▄▅▆▇█"
_LINE_WIDTH = 34
UNKNOWN = "unknown"

Row = tuple[str, str]


def write_json(report: Report, path: Path) -> None:
    """Write the whole report, indented, fields in the order of `Report`."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def table_of(report: Report) -> Table:
    """One table: what was measured, and its value or its percentiles."""
    table = Table(
        title=f"{report.requests} requests of {report.trace} to {report.model} at {report.speed:.3g}x speed",
        show_header=False,
        title_justify="left",
    )
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for rows in (_latencies(report), _results(report), _consumption(report), _surroundings(report)):
        for name, value in rows:
            table.add_row(name, Text(value))
        table.add_section()
    return table


def _latencies(report: Report) -> Iterator[Row]:
    yield "TTFT", _percentiles(report.ttft_s)
    yield "TPOT", _percentiles(report.tpot_s)
    yield "end to end", _percentiles(report.e2e_s)
    yield "queue wait", _percentiles(report.queue_s)
    if report.opened_early:
        yield "", f"without {report.opened_early} that waited so long that their streams were opened early"


def _results(report: Report) -> Iterator[Row]:
    yield "complete", f"{report.complete} of {report.requests}"
    if report.lost:
        yield "lost", f"{report.lost}: {_counts(report.endings)}"
        yield "first error", report.first_error or UNKNOWN
    if set(report.outcomes) != {"none"}:
        yield "outcomes", _counts(report.outcomes)
    limits = (
        ("TTFT", report.slo.ttft_s, report.attainment.ttft_ratio),
        ("TPOT", report.slo.tpot_s, report.attainment.tpot_ratio),
    )
    met = [f"{name} <= {limit:g} s: {_percent(ratio)}" for name, limit, ratio in limits if limit is not None]
    if met:
        yield "SLO met", f"{', '.join(met)}; all: {_percent(report.attainment.both_ratio)}"


def _consumption(report: Report) -> Iterator[Row]:
    tokens, work = report.tokens, report.work
    cached = "" if tokens.input_cached is None else f", {tokens.input_cached:,} of them from the KV cache"
    yield "input tokens", f"{tokens.input_asked:,} in the trace, {tokens.input_used:,} used{cached}"
    yield "output tokens", f"{tokens.output_asked:,} in the trace, {tokens.output_used:,} used"
    yield "GPU-seconds", f"{_gpu_s(work.predicted_gpu_s)} predicted, {_gpu_s(work.used_gpu_s)} used"
    yield "predicted / used", _ratios(work.error_ratio)
    yield "by the gateway", f"{_gpu_s(work.gateway_used_gpu_s)} used, {_gpu_s(work.reserved_gpu_s)} reserved"


def _surroundings(report: Report) -> Iterator[Row]:
    ready = [point.ready for point in report.fleet if point.ready is not None]
    waiting = [point.waiting for point in report.fleet if point.waiting is not None]
    yield "ready replicas", f"{sparkline(ready, _LINE_WIDTH)} {_range(ready)}".strip()
    yield "waiting", f"{sparkline(waiting, _LINE_WIDTH)} {_range(waiting)}".strip()
    client = report.client
    lateness = "lateness unknown" if client.lateness_s is None else f"p99 {_time(client.lateness_s.p99)} late"
    waited = f", {client.waited_for_connection} waited for a connection" if client.waited_for_connection else ""
    yield "client", f"{lateness}, {client.peak_open} requests open at most{waited}"
    if client.bottleneck:
        yield "", "THE CLIENT WAS THE BOTTLENECK: these latencies are not the gateway's"


def sparkline(values: Sequence[float], width: int) -> str:
    """The highest value of each of at most `width` equal spans, as bars from 0 to the maximum."""
    if not values:
        return ""
    spans = min(width, len(values))
    edges = [index * len(values) // spans for index in range(spans + 1)]
    peaks = [max(values[low:high]) for low, high in pairwise(edges)]
    top = max(peaks) or 1
    return "".join(_BARS[round(peak / top * (len(_BARS) - 1))] for peak in peaks)


def _range(values: Sequence[int]) -> str:
    return UNKNOWN if not values else f"min {min(values)}, max {max(values)}, last {values[-1]}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _percentiles(values: Percentiles | None) -> str:
    if values is None:
        return UNKNOWN
    return _spread(p50=_time(values.p50), p90=_time(values.p90), p99=_time(values.p99), max=_time(values.maximum))


def _ratios(values: Percentiles | None) -> str:
    if values is None:
        return UNKNOWN
    return _spread(p10=f"{values.p10:.2f}", p50=f"{values.p50:.2f}", p90=f"{values.p90:.2f}", p99=f"{values.p99:.2f}")


def _spread(**shown: str) -> str:
    return "  ".join(f"{name} {value:<8}" for name, value in shown.items()).rstrip()


def _time(value_s: float) -> str:
    return f"{value_s * 1000:.1f} ms" if value_s < 1 else f"{value_s:.2f} s"


def _percent(ratio: float | None) -> str:
    return UNKNOWN if ratio is None else f"{ratio:.1%}"


def _gpu_s(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.1f}"
