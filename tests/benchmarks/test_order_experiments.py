import json
import random
from pathlib import Path

import pytest

from backlog.order import Order
from benchmarks.order import __main__ as command
from benchmarks.order.bound import bound
from benchmarks.order.flood import FloodCase, calm, flooding, setup_of, window_of
from benchmarks.order.mix import mix
from benchmarks.order.prices import prices
from benchmarks.order.result import Experiment, Result, p95, quantile, ratio
from benchmarks.order.setup import hardware
from benchmarks.order.speed import speed
from benchmarks.order.table import render
from benchmarks.order.weights import weights
from benchmarks.order.workloads import Sources, arrivals, drawn, load_sources, offered_gpu_s

HARDWARE = hardware()


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return load_sources(tmp_path_factory.mktemp("empty"))


@pytest.fixture
def tiny(generated: Sources) -> Experiment:
    return Experiment(hardware=HARDWARE, sources=generated, replicas=1, scale=0.01)


def test_without_trace_files_the_workloads_are_generated_and_equal_for_equal_seeds(
    generated: Sources, tmp_path: Path
) -> None:
    assert not generated.recorded
    assert load_sources(tmp_path) == generated
    assert load_sources(tmp_path, seed=1) != generated


def test_generated_long_prompts_have_the_size_of_the_recorded_ones(generated: Sources) -> None:
    tokens = sorted(request.input_tokens for request in generated.long)
    assert 5_000 < tokens[len(tokens) // 2] < 9_000
    assert tokens[-1] <= 126_000


def test_arrivals_offer_the_asked_work_in_the_window(generated: Sources) -> None:
    made = arrivals(generated.chat, "t", HARDWARE.price, gpu_s_per_s=2.0, from_s=10.0, to_s=40.0, skip=6_500)
    assert (made[0].at_s, made[-1].at_s) == pytest.approx((10.0, 40.0))
    assert [job.at_s for job in made] == sorted(job.at_s for job in made)
    assert len({job.id for job in made}) == len(made)
    assert offered_gpu_s(made, HARDWARE.price) == pytest.approx(60.0, abs=2.0)
    assert arrivals(generated.chat, "t", HARDWARE.price, gpu_s_per_s=0.0, from_s=0.0, to_s=1.0) == []


def test_drawn_requests_are_the_same_ones_at_even_times(generated: Sources) -> None:
    mixed = drawn(generated.chat, random.Random(0))
    assert sorted(one.input_tokens for one in mixed) == sorted(one.input_tokens for one in generated.chat)
    assert [one.at_s for one in mixed[:3]] == [0.0, 1.0, 2.0]


def test_a_flood_comes_only_from_the_flooder_and_only_in_its_window(tiny: Experiment) -> None:
    from_s, to_s = window_of(tiny)
    assert {job.tenant for job in flooding(tiny)} == {"t2"}
    assert all(from_s <= job.at_s <= to_s + 1e-9 for job in flooding(tiny))
    assert {job.tenant for job in calm(tiny, FloodCase(order=Order.FAIR))} == {"t0", "t1", "t2"}
    assert setup_of(tiny, FloodCase(order=Order.FAIR, pace=0.5)).tenants["t2"].prefill_pace == 0.5


@pytest.mark.parametrize(
    ("experiment", "rows"),
    [(weights, 5), (mix, 9), (prices, 6), (bound, 5), (speed, 6)],
)
def test_an_experiment_gives_a_full_table(tiny: Experiment, experiment: object, rows: int) -> None:
    result: Result = experiment(tiny)  # type: ignore[operator]
    assert len(result.rows) == rows
    assert len({tuple(row) for row in result.rows}) == 1
    assert len(render(result).splitlines()) == rows + 2 + len(result.notes)


def test_the_command_prints_its_tables_and_writes_their_values(
    tiny: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "load_sources", lambda: tiny.sources)
    output = tmp_path / "deep" / "order.json"
    assert command.main(["--quick", "--only", "speed"], output=output) == 0
    assert "tickets/s" in capsys.readouterr().out
    written = json.loads(output.read_text())
    assert [result["name"] for result in written["results"]] == ["speed"]
    assert len(written["results"][0]["rows"]) == 6


def test_every_experiment_has_a_name_of_its_own() -> None:
    assert list(command.EXPERIMENTS) == ["weights", "flood", "mix", "prices", "bound", "speed"]


def test_what_never_happened_is_later_than_everything() -> None:
    assert quantile([3.0, 1.0, 2.0, None], 0.5) == 2.0
    assert p95([1.0, None]) is None
    assert quantile([], 0.5) is None


def test_a_ratio_to_nothing_is_unknown() -> None:
    assert (ratio(1.0, 0.0), ratio(None, 1.0), ratio(1.0, None), ratio(3.0, 2.0)) == (None, None, None, 1.5)


def test_a_table_aligns_its_cells_and_marks_what_is_unknown() -> None:
    rows: tuple[dict[str, str | float | int | None], ...] = (
        {"what": "a", "s": 0.5, "n": 3},
        {"what": "longer", "s": None, "n": 1234},
        {"what": "c", "s": 12.345, "n": 5},
        {"what": "d", "s": 1234.5, "n": 5},
    )
    text = render(Result(name="x", title="y", rows=rows, notes=("why",)))
    assert text.splitlines() == [
        "x: y",
        "what        s     n",
        "a       0.500     3",
        "longer      -  1234",
        "c       12.35     5",
        "d       1,234     5",
        "  why",
    ]
