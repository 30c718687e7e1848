"""Kernels on held-out rows: what was held out is judged, baselines know less, sets that have no other side are left."""

from dataclasses import replace

import numpy as np
import pytest

from estimator.evaluate import baselines, kernels
from estimator.evaluate.mixed import KNOWN_ROWS, REPEATS, with_some_rows
from estimator.evaluate.unseen_gpu import corrected, others
from estimator.kernels.model import Op
from estimator.train.fitter import Fitter
from estimator.train.samples import SampleSet, join
from tests.estimator.train.products import QUICK, ROWS, AtOnce, samples

RECIPE = replace(QUICK, steps=400, physics_steps=400)


def no_progress() -> None:
    return None


@pytest.fixture(scope="module")
def fits() -> Fitter:
    return Fitter(AtOnce())


def with_contexts(one: SampleSet, tokens: list[int]) -> SampleSet:
    return replace(one, context_tokens=np.resize(np.asarray(tokens), len(one)))


def test_our_error_is_that_of_rows_held_out_and_below_the_baselines(fits: Fitter) -> None:
    one = samples()
    train = np.arange(ROWS) % 4 > 0
    (found,) = kernels.judged([one], [train], RECIPE, fits, no_progress)
    assert (found.subject, found.rows) == ("H100 vllm bfloat16", ROWS // 4)
    assert found.ours.mape < 0.1
    assert found.ours.mape < min(found.baselines[name].mape for name in (baselines.ROOFLINE, baselines.TOKENS))
    assert set(found.baselines) == {baselines.PHYSICS, baselines.NETWORK, baselines.TOKENS, baselines.ROOFLINE}


def test_rows_that_are_not_scored_are_not_judged(fits: Fitter) -> None:
    one = replace(samples(), scored=np.arange(ROWS) % 8 == 0)
    train = np.arange(ROWS) % 4 > 0
    (found,) = kernels.judged([one], [train], replace(RECIPE, steps=2, physics_steps=2), fits, no_progress)
    assert found.rows == int((~train & one.scored).sum()) == ROWS // 8


def test_a_line_in_tokens_is_fitted_to_the_rows_to_train_on() -> None:
    one = replace(samples(), latency_s=2e-6 + 1e-8 * samples().tokens)
    one.latency_s[-1] *= 100.0
    train = np.arange(ROWS) < ROWS - 1
    assert baselines.linear_s(one, train)[train] == pytest.approx(one.latency_s[train])


def test_sets_without_both_sides_are_left_out() -> None:
    both, short = with_contexts(samples(), [100, 9000]), with_contexts(samples(), [100])
    kept, train = kernels.by_context([short, both])
    assert kept == [both]
    assert (train[0] == (both.context_tokens <= kernels.LIMIT_TOKENS)).all()
    (kept, train), alone = kernels.by_shape([both]), replace(both, shapes=np.ones((ROWS, 2), dtype=np.int64))
    shapes = {side: {tuple(shape) for shape in both.shapes[train[0] == side].tolist()} for side in (True, False)}
    assert shapes[True]
    assert shapes[False]
    assert not shapes[True] & shapes[False]
    assert kernels.by_shape([alone]) == ([], [])


def test_figures_are_of_what_there_is(fits: Fitter) -> None:
    sets = [samples(), samples("RTX4090")]
    found = list(kernels.figures(sets, replace(RECIPE, steps=2, physics_steps=2), fits, no_progress))
    assert [figure.quantity for figure in found] == ["dense layers", "dense layers in bf16"]
    assert [line.subject for line in found[0].lines] == ["H100 vllm bfloat16"]


def test_some_rows_of_a_gpu_stand_beside_all_of_another() -> None:
    other = samples("RTX4090", seed=1)
    one = replace(samples("RTXPRO6000"), latency_s=1.0 + np.arange(ROWS))
    joined, train = with_some_rows(other, one, seed=0)
    assert joined.gpu == "RTXPRO6000"
    assert int(train.sum()) == KNOWN_ROWS * REPEATS + ROWS
    known, tested = set(joined.latency_s[: KNOWN_ROWS * REPEATS]), set(joined.latency_s[~train])
    assert len(known) == KNOWN_ROWS
    assert not known & tested


def test_a_gpu_left_out_is_not_trained_on_nor_its_die() -> None:
    sets = [replace(samples(gpu), op=Op.DECODE) for gpu in ("A100-80", "H100", "H200")]
    assert others(sets, "H100", same_die=True).source == "A100-80, H200"
    assert others(sets, "H200", same_die=False).source == "A100-80"
    with pytest.raises(ValueError, match="no other GPU than H100"):
        others(sets[1:], "H100", same_die=False)


def test_a_wrong_scale_is_made_up_for_by_points_of_each_shape() -> None:
    one = samples()
    shapes = np.stack([np.arange(ROWS) % 5, np.zeros(ROWS)], axis=1).astype(np.int64)
    one = replace(one, shapes=shapes, roofline_s=np.full(ROWS, 1e-9))
    scale = 1.0 + shapes[:, 0]
    said, measured = corrected(one.latency_s / scale, one, 4, seed=0)
    assert said == pytest.approx(measured)
    assert len(said) == ROWS - 5 * 4
    with pytest.raises(ValueError, match="no shape has 1000 rows"):
        corrected(one.latency_s, one, 500, seed=0)


def test_a_fixed_time_is_made_up_for_where_points_are_many() -> None:
    one = samples()
    one = replace(one, shapes=np.zeros((ROWS, 2), dtype=np.int64))
    estimated = np.maximum(one.latency_s - 2.9e-6, 1e-9)
    said, measured = corrected(estimated, one, 20, seed=0)
    assert float(np.median(np.abs(said / measured - 1.0))) < 1e-3


def test_joined_sets_keep_every_column() -> None:
    first, second = samples(), samples("A100-80", seed=1)
    joined = join([first, second])
    assert (joined.gpu, len(joined)) == ("H100", 2 * ROWS)
    for name in ("terms", "features", "shapes", "roofline_s", "tokens", "scored"):
        assert (getattr(joined, name)[ROWS:] == getattr(second, name)).all()
