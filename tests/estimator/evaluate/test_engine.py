"""Which decode steps of whole engines are judged, and what each number of factors can make up for."""

from pathlib import Path

import pytest

from estimator.accelerator import ACCELERATORS
from estimator.choice import choose_step
from estimator.evaluate.engine import (
    ANALYTIC,
    CONSTANT,
    FIXED,
    LINEAR,
    SCALAR,
    SEQUENCE,
    alone,
    figures,
    judge,
    lines,
)
from estimator.evaluate.engine_steps import SHAPES, STEPS, Deployment, deployments, loads, times_s, usable
from tests.estimator.dataset.tables import steps

DATA = Path(__file__).parents[4] / "shared/data"
LLAMA = Deployment("llama-7b", "A100", 1)


def test_steps_that_prefill_wait_or_are_a_few_milliseconds_are_left_out() -> None:
    table = steps(
        [0.020, 0.021, 0.022, 0.045, 0.090, 0.009],
        prefills=[0, 0, 0, 0, 1, 0],
        sequences=[2, 2, 2, 2, 2, 1],
    )
    # The median of the four that decode two sequences is 21.5 ms, and 45 ms is more than twice that.
    assert usable(table).tolist() == [True, True, True, False, False, False]


def test_a_step_is_slow_only_beside_those_with_as_many_clients_and_sequences() -> None:
    table = steps([0.020, 0.020, 0.050, 0.050], users=[1, 1, 64, 64], sequences=[1, 1, 40, 40])
    assert usable(table).all()


def test_models_with_an_encoder_and_gpus_that_are_not_registered_are_passed_over() -> None:
    table = steps(
        [0.02] * 4, model=["llama-7b", "google/flan-t5-xl", "llama-7b", "llama-7b"], gpu=["A100", "A100", "T4", "A100"],
        gpus=[2, 1, 1, 1],
    )  # fmt: skip
    assert [(deployment, len(rows)) for deployment, rows in deployments(table)] == [
        (LLAMA, 1),
        (LLAMA._replace(gpus=2), 1),
    ]


@pytest.mark.parametrize(
    ("per_gpu_second", "per_step_s", "per_sequence_s", "exact"),
    [(1.5, 0.0, 0.0, SCALAR), (1.5, 0.02, 0.0, FIXED), (1.5, 0.0, 0.001, SEQUENCE)],
    ids=["slower", "slower and a fixed time", "slower and a time per sequence"],
)
def test_each_fit_is_exact_for_engines_of_its_kind(
    per_gpu_second: float, per_step_s: float, per_sequence_s: float, exact: str
) -> None:
    users = [users for users in (1, 2, 4, 8, 16, 32, 64, 128) for _ in range(4)]
    sequences = [max(1, users // 2 + number) for users, number in zip(users, [0, 1, 2, 3] * 8, strict=True)]
    made = steps([1.0] * 32, users=users, sequences=sequences, kv_tokens=[900.0 * count for count in sequences])
    learned = times_s(choose_step(SHAPES["llama-7b"], ACCELERATORS["A100-40"]).step, made)
    measured = per_gpu_second * learned + per_step_s + per_sequence_s * made.sequences
    table = steps(measured.tolist(), users=users, sequences=sequences, kv_tokens=made.kv_tokens.tolist())
    judged = judge(loads(LLAMA, table))
    assert len(judged.measured) == 16
    (line,) = lines([judged], exact, (ANALYTIC, CONSTANT, LINEAR))
    assert line.ours.mape < 1e-3
    assert all(line.baselines[name].mape > 0.005 for name in (ANALYTIC, CONSTANT))
    for fewer in {SCALAR, CONSTANT} - {exact}:
        assert lines([judged], fewer)[0].ours.mape > 0.02


def test_steps_of_one_sequence_are_judged_as_they_are_on_one_a100_only() -> None:
    shape = SHAPES["llama-7b"]
    alone_s = choose_step(shape, ACCELERATORS["A100-40"]).step.time_s(
        prefill_tokens=0, prefill_pairs=0.0, decode_sequences=1, decode_kv_tokens=100
    )
    table = steps([1.25 * alone_s] * 2 + [1.0] * 2, gpus=[1, 1, 2, 1], sequences=[1, 1, 1, 5], users=[1, 2, 1, 8])
    (line,) = alone(table)
    assert (line.subject, line.rows) == ("llama-7b", 2)
    assert line.ours.mape == pytest.approx(0.2)


@pytest.mark.skipif(not (DATA / STEPS).is_file(), reason=f"no steps of engines below {DATA}")
def test_of_real_engines_a_time_per_sequence_is_missing_and_one_sequence_needs_none() -> None:
    engine, scalar, fixed, sequence, one = figures(DATA)
    assert len(scalar.lines) == len(SHAPES)
    assert sequence.value < 0.09 < 0.11 < fixed.value < scalar.value
    assert scalar.value < scalar.baselines[CONSTANT]
    # One scalar does nearly as well as two factors, once the engine's time is known from other models.
    assert sequence.value < engine.value < 0.11 < fixed.value
    assert engine.value < engine.baselines["the scalar on the whole step"]
    assert one.value < 0.07 < one.baselines["analytic"]
