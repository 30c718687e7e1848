import io

import pytest
from rich.console import Console

from benchmarks.measurement import Prompt, Streaming, TargetName, Throughput
from benchmarks.table import Figure, Results, fastest, notes, ratio, render, rows, verdicts


def throughput(target: TargetName, requests_per_s: int, *, busy: float = 1.0, load: float = 0.5) -> Throughput:
    return Throughput(
        target=target,
        prompt=Prompt.SMALL,
        requests=requests_per_s * 2,
        wall_s=2.0,
        p50_ms=1.0,
        p99_ms=3.0,
        target_cpu_s=busy * 2,
        load_cpu_s=load * 2,
    )


def streaming(target: TargetName, us_per_event: float, *, wall_s: float = 10.0) -> Streaming:
    return Streaming(
        target=target,
        events=100_000,
        expected_events=100_000,
        ideal_s=10.0,
        wall_s=wall_s,
        target_cpu_s=us_per_event / 10,
        load_cpu_s=3.0,
    )


def results(*runs: Throughput | Streaming) -> Results:
    return Results(
        throughput=[run for run in runs if isinstance(run, Throughput)],
        streaming=[run for run in runs if isinstance(run, Streaming)],
    )


FULL = results(
    throughput(TargetName.DIRECT, 60_000, busy=0.0),
    throughput(TargetName.NGINX, 40_000),
    throughput(TargetName.WEIGHBRIDGE, 29_000),
    throughput(TargetName.WEIGHBRIDGE, 31_000),
    throughput(TargetName.VLLM_ROUTER, 15_000),
    throughput(TargetName.SGLANG_ROUTER, 10_000),
    streaming(TargetName.DIRECT, 0.0),
    streaming(TargetName.NGINX, 10),
    streaming(TargetName.WEIGHBRIDGE, 12.5),
    streaming(TargetName.VLLM_ROUTER, 30),
    streaming(TargetName.SGLANG_ROUTER, 25),
)


def cells(label: str, *, after: str = "") -> dict[str, str]:
    """The first row with this label at or below the row `after`."""
    table = rows(FULL)
    start = next((at for at, (name, _) in enumerate(table) if name == after), 0)
    found = next(values for name, values in table[start:] if name == label)
    return dict(zip(FULL.targets, found, strict=True))


def test_a_figure_is_the_median_with_its_range() -> None:
    assert Figure.of([3.0, 1.0, 8.0]) == Figure(median=3.0, low=1.0, high=8.0)
    assert Figure.of([]) is None


def test_ratios_are_above_one_for_what_is_better() -> None:
    fast, slow = Figure.of([30.0]), Figure.of([10.0])
    assert ratio(fast, slow) == 3.0
    assert ratio(slow, fast, lower_is_better=True) == 3.0


@pytest.mark.parametrize("reference", [None, Figure.of([0.0])], ids=["not measured", "zero"])
def test_a_ratio_to_nothing_is_unknown(reference: Figure | None) -> None:
    assert ratio(Figure.of([1.0]), reference) is None


def test_the_fastest_has_the_best_median_in_either_direction() -> None:
    one, two = Figure.of([1.0]), Figure.of([2.0])
    assert fastest([one, None, two]) == two
    assert fastest([one, None, two], lower_is_better=True) == one
    assert fastest([None]) is None


def test_requests_are_compared_with_nginx_and_the_fastest_router() -> None:
    assert cells("1.3 KB: requests/s")[TargetName.WEIGHBRIDGE] == "30.0k [dim](29.0k-31.0k)[/dim]"
    assert cells("  x nginx")[TargetName.WEIGHBRIDGE] == "0.75"
    assert cells("  x fastest router")[TargetName.WEIGHBRIDGE] == "2.00"
    assert cells("  x fastest router")[TargetName.SGLANG_ROUTER] == "0.67"


def test_stream_costs_are_compared_with_the_cheapest_router_and_never_for_the_direct_target() -> None:
    assert cells("  x nginx", after="SSE: CPU, us/event")[TargetName.WEIGHBRIDGE] == "0.80"
    assert cells("  x fastest router", after="SSE: CPU, us/event")[TargetName.WEIGHBRIDGE] == "2.00"
    assert cells("SSE: CPU, us/event")[TargetName.DIRECT] == "-"


def test_what_was_not_measured_shows_as_a_dash() -> None:
    assert set(cells("34 KB: requests/s").values()) == {"-"}


def test_verdicts_name_the_goal_and_whether_it_is_met() -> None:
    assert [line for line in verdicts(FULL) if line.startswith("1.3 KB")] == [
        "1.3 KB: 2.00 x vllm-router (2.00 x by CPU per request); goal 1.5 x: met",
        "1.3 KB: 0.75 x nginx (0.75 x by CPU per request); goal 0.5 x: met",
    ]
    assert verdicts(results(throughput(TargetName.WEIGHBRIDGE, 1000))) == []


def test_a_target_that_did_not_fill_its_core_is_noted_with_the_cause() -> None:
    limited = throughput(TargetName.NGINX, 40_000, busy=0.7, load=0.99)
    disturbed = throughput(TargetName.VLLM_ROUTER, 9_000, busy=0.7, load=0.4)
    by_load, by_noise = notes(results(limited, disturbed))
    assert "70% of its core used" in by_load
    assert "floor" in by_load
    assert "not quiet" in by_noise
    assert notes(FULL) == []


def test_streams_that_took_too_long_are_noted() -> None:
    (line,) = notes(results(streaming(TargetName.VLLM_ROUTER, 30, wall_s=14.0)))
    assert line.startswith("vllm-router, SSE: streams took up to 1.40 x")


def test_the_table_has_a_column_for_each_target() -> None:
    text = io.StringIO()
    Console(file=text, width=140).print(render(FULL))
    assert all(target.value in text.getvalue() for target in TargetName)
