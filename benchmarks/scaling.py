"""`python -m benchmarks.scaling TRACES`: rules on a day of chat, and of chat with long prompts (docs/backtest.md).

TRACES is a folder with `azure2023_conv.csv` and `mooncake_conversation.jsonl`. One core, some 15 minutes.
"""

import random
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time

from estimator.engine import Engine
from gateway.settings import PoolSettings
from weighbridge.backtest.compare import HPA_TARGET, KEDA_TARGET, Comparison, Knob, Row, RuleName
from weighbridge.backtest.day import DAY
from weighbridge.backtest.pool import Arrival
from weighbridge.backtest.report import headline, knob_of
from weighbridge.backtest.scene import Scene, make_scene, with_cold_start
from weighbridge.backtest.workload import Workload, rate_of, sources_of
from weighbridge.replay.trace import TracedRequest, load_trace
from weighbridge.weigh_pool import accelerator_named, architecture_named, capacity_of, pool_of

MODEL, GPU = "llama-3.1-8b", "L40S"
CHAT, LONG = "azure2023_conv.csv", "mooncake_conversation.jsonl"
TPOT_S = 0.1
MAX_REPLICAS, COLD_START_S, SLOW_START_S = 24, 60.0, 180.0
SEEDS = (1, 2, 3)
BURST, BURST_AT_S = 20, 100.0
COLUMNS = (
    "rule",
    "knob",
    "replica-h",
    "both %",
    "TTFT %",
    "TTFT p50 / p95 / p99 s",
    "changes",
    "most",
    "waited > 30 s",
    "dropped",
)
PARTS = ("chat", "mix", "mix-tpot", "slow", "seeds", "zero")

Trace = Sequence[TracedRequest]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The traces and the pool."""

    chat: Trace
    long: Trace
    pool: PoolSettings
    hours: float

    def scene(self, name: str, *, seed: int = 0, cold_start_s: float = COLD_START_S, zero: bool = False) -> Scene:
        """A day of `chat`, or of `mix`: long prompts are 3 of 10 requests; `mix-tpot` has an objective for TPOT too."""
        traces, shares = ([self.chat], "1") if name == "chat" else ([self.chat, self.long], "7:3")
        tpot_slo_s = None if name == "mix" else TPOT_S
        return make_scene(
            sources_of(traces, shares),
            replace(self.pool, tpot_slo_s=tpot_slo_s),
            speed=None,
            natural_rate_per_s=sum(map(rate_of, traces)),
            length_s=self.hours * 3600,
            shape=DAY,
            min_replicas=0 if zero else 1,
            max_replicas=MAX_REPLICAS,
            cold_start_s=cold_start_s,
            start_replicas=0 if zero else None,
            judged_tpot_s=TPOT_S,
            goal_ratio=0.99,
            seed=seed,
        )


def load(folder: Path, hours: float) -> Bench:
    """Raises `OSError` where a trace is missing."""
    architecture, accelerator = architecture_named(MODEL), accelerator_named(GPU)
    pool = pool_of(
        architecture,
        accelerator,
        tensor_parallel=1,
        engine=Engine.VLLM,
        capacity=capacity_of(architecture, accelerator, 1),
    )
    return Bench(
        chat=load_trace(folder / CHAT, rng=random.Random(0)),
        long=load_trace(folder / LONG, rng=random.Random(0)),
        pool=pool,
        hours=hours,
    )


def day(comparison: Comparison) -> Iterator[Row]:
    """The rule that ships, and each of the others with its default knob and the best one."""
    yield comparison.row(RuleName.WEIGHBRIDGE, None, Knob.SHIPPED)
    yield comparison.tuned(RuleName.HPA)
    yield comparison.row(RuleName.HPA, HPA_TARGET, Knob.DEFAULT)
    yield comparison.row(RuleName.KEDA, KEDA_TARGET, Knob.DEFAULT)
    yield comparison.tuned(RuleName.KEDA)
    yield comparison.tuned(RuleName.STATIC)


def burst_at_zero(scene: Scene) -> Scene:
    """The first requests of a scene, all at one instant, on a pool without a replica."""
    arrivals = [Arrival(BURST_AT_S, *arrival[1:]) for arrival in scene.workload.arrivals[:BURST]]
    workload = Workload(arrivals=arrivals, length_s=scene.workload.length_s, offered_erlangs=0.0, left_out=0)
    return replace(scene, workload=workload)


def show(title: str, rows: Iterator[Row], scene: Scene) -> list[Row]:
    """A Markdown table, line by line as runs end. A goal that was missed is in italics."""
    print(f"\n### {title}\n\n{headline(scene, GPU)}\n")
    print(f"| {' | '.join(COLUMNS)} |")
    print("|" + "---|" * len(COLUMNS))
    shown = []
    for row in rows:
        result = row.result
        both, ttft = f"{100 * result.both_ratio:.2f}", f"{100 * result.ttft_ratio:.2f}"
        if not row.held:
            both, ttft = (f"*{both}*", ttft) if scene.judged_by_both else (both, f"*{ttft}*")
        knob = row.knob if row.value is None else f"{knob_of(row)}, {row.knob}"
        print(
            f"| {row.rule} | {knob} | {result.replica_hours:.1f} | {both} | {ttft} "
            f"| {result.ttft_p50_s:.2f} / {result.ttft_p95_s:.2f} / {result.ttft_p99_s:.2f} "
            f"| {result.changes} | {result.most_replicas} | {result.over_wait} | {result.dropped} |",
            flush=True,
        )
        shown.append(row)
    return shown


def main(arguments: list[str]) -> None:
    parser = ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("traces", type=Path)
    parser.add_argument("--hours", type=float, default=6.0)
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    chosen = parser.parse_args(arguments)
    bench, only = load(chosen.traces, chosen.hours), chosen.only.split(",")
    begun_s = process_time()
    targets: dict[str, float] = {}
    scenes: dict[str, Comparison] = {}
    for name in ("mix", "chat", "mix-tpot"):
        if name in only or "slow" in only:
            scenes[name] = Comparison(bench.scene(name))
        if name in only:
            for row in show(name, day(scenes[name]), scenes[name].scene):
                if row.rule is RuleName.HPA and row.knob is Knob.TUNED and row.value is not None:
                    targets[name] = row.value
    if "chat" in targets and "mix" in targets:
        rows = (scenes[name].row(RuleName.HPA, targets[other], Knob.GIVEN) for name, other in _swapped())
        show("HPA with the other day's knob: chat, then mix", rows, scenes["chat"].scene)
    if "slow" in only:
        for name in ("chat", "mix"):
            slow = Comparison(with_cold_start(scenes[name].scene, SLOW_START_S))
            show(f"{name}, cold start {SLOW_START_S:g} s", _pair(slow, targets.get(name)), slow.scene)
    if "seeds" in only:
        for seed in SEEDS:
            turned = Comparison(bench.scene("mix", seed=seed))
            show(f"mix, seed {seed}", _pair(turned, targets.get("mix")), turned.scene)
    if "zero" in only:
        zero = Comparison(burst_at_zero(replace(bench, hours=0.1).scene("chat", zero=True)))
        rules = (zero.row(RuleName.WEIGHBRIDGE, None, Knob.SHIPPED), zero.row(RuleName.KEDA, KEDA_TARGET, Knob.DEFAULT))
        show(f"{BURST} requests at once on a pool at zero", iter(rules), zero.scene)
    print(f"\n{process_time() - begun_s:.0f} CPU seconds")


def _swapped() -> Sequence[tuple[str, str]]:
    return (("chat", "mix"), ("mix", "chat"))


def _pair(comparison: Comparison, target: float | None) -> Iterator[Row]:
    yield comparison.row(RuleName.WEIGHBRIDGE, None, Knob.SHIPPED)
    if target is not None:
        yield comparison.row(RuleName.HPA, target, Knob.GIVEN)


if __name__ == "__main__":
    main(sys.argv[1:])
