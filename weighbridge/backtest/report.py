"""A comparison as a table for people and as one JSON object for machines."""

from collections.abc import Sequence
from dataclasses import asdict

import msgspec
from rich.table import Table

from weighbridge.backtest.compare import Row, RuleName
from weighbridge.backtest.scene import Scene

_KNOBS = {
    RuleName.HPA: "concurrency {:g}",
    RuleName.KEDA: "waiting {:g}",
    RuleName.STATIC: "{:g} replicas",
}


def headline(scene: Scene, name: str) -> str:
    """What was run, in one line."""
    workload, scaling = scene.workload, scene.scaling
    return (
        f"{name}: {len(workload.arrivals):,} requests in {workload.length_s / 3600:g} h, "
        f"{workload.offered_erlangs:.2f} replicas' work on average, {scaling.min_replicas} to {scaling.max_replicas} "
        f"replicas, {scene.start_replicas} at first, cold start {scene.model.cold_start_s:g} s"
    )


def table_of(rows: Sequence[Row], scene: Scene) -> Table:
    """One line per rule and knob. A goal that was missed is marked."""
    table = Table()
    for column in ("rule", "knob"):
        table.add_column(column, no_wrap=True)
    for column in ("replica-h", "both %", "TTFT %", "TTFT p50 s", "p95 s", "p99 s", "changes", "most", "waited >30 s"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("dropped", justify="right")
    for row in rows:
        result = row.result
        missed = "" if row.held else "*"
        both, ttft = f"{result.both_ratio:.2%}"[:-1], f"{result.ttft_ratio:.2%}"[:-1]
        table.add_row(
            row.rule,
            f"{knob_of(row)} ({row.knob})",
            f"{result.replica_hours:.1f}",
            both + (missed if scene.judged_by_both else ""),
            ttft + ("" if scene.judged_by_both else missed),
            f"{result.ttft_p50_s:.2f}",
            f"{result.ttft_p95_s:.2f}",
            f"{result.ttft_p99_s:.2f}",
            str(result.changes),
            str(result.most_replicas),
            str(result.over_wait),
            str(result.dropped),
        )
    return table


def footnote(scene: Scene) -> str:
    judged = "both limits" if scene.judged_by_both else "the TTFT limit"
    return f"* less than {scene.goal_ratio:.1%} of requests within {judged}"


def knob_of(row: Row) -> str:
    return "one setting" if row.value is None else _KNOBS[row.rule].format(row.value)


def to_json(rows: Sequence[Row], scene: Scene, name: str) -> str:
    """One object, indented. What is infinite is null."""
    workload, scaling = scene.workload, scene.scaling
    document = {
        "workload": {
            "name": name,
            "requests": len(workload.arrivals),
            "left_out": workload.left_out,
            "length_s": workload.length_s,
            "offered_erlangs": workload.offered_erlangs,
        },
        "min_replicas": scaling.min_replicas,
        "max_replicas": scaling.max_replicas,
        "start_replicas": scene.start_replicas,
        "cold_start_s": scene.model.cold_start_s,
        "goal_ratio": scene.goal_ratio,
        "judged_by_both": scene.judged_by_both,
        "rows": [asdict(row) for row in rows],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"
