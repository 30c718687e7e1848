"""From measurements to one table: medians, ranges, ratios to nginx and to the fastest router."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from rich.table import Table

from benchmarks.load import LATE_RATIO
from benchmarks.measurement import ROUTERS, Prompt, Streaming, TargetName, Throughput

FULL_CORE_RATIO = 0.93
"""A measured program that used less of its core than this was not at its own limit."""
FULL_LOAD_RATIO = 0.85
"""Above this, the core of load generator and backend was the limit."""
ROUTER_TARGET = 1.5
NGINX_TARGET = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number over all rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Figure | None":
        ordered = sorted(values)
        return cls(median=statistics.median(ordered), low=ordered[0], high=ordered[-1]) if ordered else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    throughput: Sequence[Throughput]
    streaming: Sequence[Streaming]

    def requests_per_s(self, target: TargetName, prompt: Prompt) -> Figure | None:
        return self._requests(target, prompt, lambda run: run.requests_per_s)

    def p99_ms(self, target: TargetName, prompt: Prompt) -> Figure | None:
        return self._requests(target, prompt, lambda run: run.p99_ms)

    def us_per_request(self, target: TargetName, prompt: Prompt) -> Figure | None:
        """None for the direct target, which is no program of its own."""
        return None if target is TargetName.DIRECT else self._requests(target, prompt, lambda run: run.us_per_request)

    def us_per_event(self, target: TargetName) -> Figure | None:
        """None for the direct target."""
        if target is TargetName.DIRECT:
            return None
        return Figure.of(run.us_per_event for run in self.streaming if run.target is target)

    def _requests(self, target: TargetName, prompt: Prompt, value: Callable[[Throughput], float]) -> Figure | None:
        return Figure.of(value(run) for run in self.throughput if run.target is target and run.prompt is prompt)

    @property
    def targets(self) -> list[TargetName]:
        """In the order in which they were first measured."""
        measured = [*(run.target for run in self.throughput), *(run.target for run in self.streaming)]
        return list(dict.fromkeys(measured))


def fastest(figures: Iterable[Figure | None], *, lower_is_better: bool = False) -> Figure | None:
    """The best median; None when nothing was measured."""
    known = [figure for figure in figures if figure is not None]
    if not known:
        return None
    return (min if lower_is_better else max)(known, key=lambda figure: figure.median)


def ratio(figure: Figure | None, reference: Figure | None, *, lower_is_better: bool = False) -> float | None:
    """How many times better than the reference: above 1 is better, for costs too. None when either is unknown or 0."""
    if figure is None or reference is None or not figure.median or not reference.median:
        return None
    return reference.median / figure.median if lower_is_better else figure.median / reference.median


def _median(figure: Figure | None) -> float:
    return figure.median if figure else 0.0


def _with_range(figure: Figure | None, unit: Callable[[float], str]) -> str:
    if figure is None:
        return "-"
    return f"{unit(figure.median)} [dim]({unit(figure.low)}-{unit(figure.high)})[/dim]"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _thousands(value: float) -> str:
    return f"{value / 1000:.1f}k"


def _decimals(value: float) -> str:
    """About three digits."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def rows(results: Results) -> list[tuple[str, list[str]]]:
    """(what, one cell for each target). Medians with their range over the rounds; of all ratios, higher is better."""
    lines: list[tuple[str, list[str]]] = []
    targets = results.targets

    def add(label: str, figure: Callable[[TargetName], Figure | None], unit: Callable[[float], str]) -> None:
        lines.append((label, [_with_range(figure(name), unit) for name in targets]))

    def add_ratios(figure: Callable[[TargetName], Figure | None], *, lower_is_better: bool = False) -> None:
        router = fastest((figure(name) for name in ROUTERS), lower_is_better=lower_is_better)
        for label, reference in (("  x nginx", figure(TargetName.NGINX)), ("  x fastest router", router)):
            cells = [_times(ratio(figure(name), reference, lower_is_better=lower_is_better)) for name in targets]
            lines.append((label, cells))

    for prompt in Prompt:
        speed = partial(results.requests_per_s, prompt=prompt)
        add(f"{prompt}: requests/s", speed, _thousands)
        add_ratios(speed)
        add("  p99, ms", partial(results.p99_ms, prompt=prompt), _decimals)
        add("  CPU, us/request", partial(results.us_per_request, prompt=prompt), _decimals)
    add("SSE: CPU, us/event", results.us_per_event, _decimals)
    add_ratios(results.us_per_event, lower_is_better=True)
    return lines


def render(results: Results) -> Table:
    """One column per target."""
    table = Table(title="One core each, the same backend. Ratios: higher is better", title_justify="left")
    table.add_column("")
    for target in results.targets:
        table.add_column(target.value, justify="right", style="bold" if target is TargetName.WEIGHBRIDGE else None)
    for label, cells in rows(results):
        if not label.startswith(" ") and table.row_count:
            table.add_section()
        table.add_row(label, *cells)
    return table


def notes(results: Results) -> list[str]:
    """What a reader must know so as not to misread the table."""
    lines = []
    for target in results.targets:
        for prompt in Prompt:
            runs = [run for run in results.throughput if run.target is target and run.prompt is prompt]
            if target is TargetName.DIRECT or not runs:
                continue
            busy = statistics.median(run.target_busy_ratio for run in runs)
            load = statistics.median(run.load_busy_ratio for run in runs)
            if busy < FULL_CORE_RATIO:
                why = (
                    f"load generator and backend were the limit ({load:.0%}), so requests/s is a floor: compare CPU"
                    if load > FULL_LOAD_RATIO
                    else f"neither was load generator and backend ({load:.0%}): the machine was not quiet"
                )
                lines.append(f"{target}, {prompt}: {busy:.0%} of its core used; {why}")
        late = [run.wall_s / run.ideal_s for run in results.streaming if run.target is target]
        if late and max(late) > LATE_RATIO:
            lines.append(f"{target}, SSE: streams took up to {max(late):.2f} x their time")
    return lines


def verdicts(results: Results) -> list[str]:
    """Our gateway against the project's own goals for each prompt size; empty when there is nothing to compare."""
    lines = []
    ours = TargetName.WEIGHBRIDGE
    for prompt in Prompt:
        speed = partial(results.requests_per_s, prompt=prompt)
        cost = partial(results.us_per_request, prompt=prompt)
        router = max((name for name in ROUTERS if speed(name)), key=lambda name: _median(speed(name)), default=None)
        for reference, goal in ((router, ROUTER_TARGET), (TargetName.NGINX, NGINX_TARGET)):
            value = ratio(speed(ours), speed(reference)) if reference else None
            if value is None or reference is None:
                continue
            by_cpu = _times(ratio(cost(ours), cost(reference), lower_is_better=True))
            verdict = "met" if value >= goal else "missed"
            lines.append(
                f"{prompt}: {value:.2f} x {reference} ({by_cpu} x by CPU per request); goal {goal} x: {verdict}"
            )
    return lines
