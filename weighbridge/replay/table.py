"""Show a report as one table for people, and write it as JSON for machines."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
from rich.table import Table

from weighbridge.replay.report import Percentiles, Report

_BARS = "▁▂▃▄▅▆▇█"
_LINE_WIDTH = 60
UNKNOWN = "unknown"


def write_json(report: Report, path: Path) -> None:
    """Write the whole report, indented, fields in the order of `Report`."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def table_of(report: Report) -> Table:
    """One table: latencies by percentile, then one line per fact."""
    table = Table(title=f"{report.requests} requests of {report.trace} to {report.model} at {report.speed:g}x speed")
    for heading in ("", "p50", "p90", "p99", "max"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_row("TTFT", *_times(report.ttft_s))
    table.add_row("TPOT", *_times(report.tpot_s))
    table.add_row("end to end", *_times(report.e2e_s))
    table.add_row("queue wait", *_times(report.queue_s))
    table.add_row("predicted / used GPU-seconds", *_ratios(report.work.error_ratio), end_section=True)
    table.caption = "\n".join(lines_of(report))
    table.caption_justify = "left"
    table.caption_style = ""
    return table


def lines_of(report: Report) -> Iterable[str]:
    """The facts under the percentiles, one line each."""
    yield f"complete      {report.complete} of {report.requests}; " + _counts(report.endings)
    if set(report.outcomes) != {"none"}:
        yield f"outcomes      {_counts(report.outcomes)}"
    if report.first_error is not None:
        yield f"first error   {report.first_error}"
    slo = [
        f"{name} <= {limit:g} s: {_percent(ratio)}"
        for name, limit, ratio in (
            ("TTFT", report.slo.ttft_s, report.attainment.ttft_ratio),
            ("TPOT", report.slo.tpot_s, report.attainment.tpot_ratio),
        )
        if limit is not None
    ]
    if slo:
        yield f"SLO met       {', '.join(slo)}, all: {_percent(report.attainment.both_ratio)}"
    tokens, work = report.tokens, report.work
    yield f"input tokens  {tokens.input_asked:,} in the trace, {tokens.input_used:,} used" + (
        "" if tokens.input_cached is None else f" ({tokens.input_cached:,} from the KV cache)"
    )
    yield f"output tokens {tokens.output_asked:,} in the trace, {tokens.output_used:,} used"
    yield (
        f"GPU-seconds   {_gpu_s(work.predicted_gpu_s)} predicted, {_gpu_s(work.used_gpu_s)} used "
        f"({_gpu_s(work.gateway_used_gpu_s)} by the gateway's own count)"
    )
    ready = [point.ready for point in report.fleet if point.ready is not None]
    yield f"replicas      {sparkline(ready, _LINE_WIDTH)} {_range(ready)}"
    waiting = [point.waiting for point in report.fleet if point.waiting is not None]
    yield f"waiting       {sparkline(waiting, _LINE_WIDTH)} {_range(waiting)}"
    late = report.client.lateness_s
    lateness = UNKNOWN if late is None else f"p99 {_time(late.p99)} late"
    yield (
        f"client        {lateness}, {report.client.peak_open} requests open at most"
        + (f", {report.client.waited_for_connection} waited" if report.client.waited_for_connection else "")
        + ("; THE CLIENT WAS THE BOTTLENECK: these latencies are not the gateway's" if report.client.bottleneck else "")
    )


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
    return UNKNOWN if not values else f"min {min(values)}, max {max(values)}, at the end {values[-1]}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _times(values: Percentiles | None) -> tuple[str, str, str, str]:
    if values is None:
        return (UNKNOWN, "", "", "")
    return (_time(values.p50), _time(values.p90), _time(values.p99), _time(values.maximum))


def _ratios(values: Percentiles | None) -> tuple[str, str, str, str]:
    if values is None:
        return (UNKNOWN, "", "", "")
    return (f"{values.p50:.2f}", f"{values.p90:.2f}", f"{values.p99:.2f}", f"{values.maximum:.2f}")


def _time(value_s: float) -> str:
    return f"{value_s * 1000:.1f} ms" if value_s < 1 else f"{value_s:.2f} s"


def _percent(ratio: float | None) -> str:
    return UNKNOWN if ratio is None else f"{ratio:.1%}"


def _gpu_s(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.1f}"
