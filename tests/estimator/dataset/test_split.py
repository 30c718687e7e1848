"""Splits are disjoint, deterministic, and keep whole shapes, contexts and GPUs on one side."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator.dataset.columns import Labels
from estimator.dataset.split import EmptySideError, longer_contexts, one_gpu_left_out, unseen_shapes
from tests.estimator.dataset.tables import attention

shapes_of = st.lists(st.tuples(st.integers(1, 128), st.integers(1, 16), st.just(128)), min_size=1, max_size=40)
# For every seed below 6, half of the shapes drawn puts one of these on each side.
BOTH_SIDES = [(number, number, 128) for number in range(200, 204)]


@given(shapes_of, st.integers(0, 5))
def test_a_shape_is_wholly_on_one_side_and_always_the_same(shapes: list[tuple[int, ...]], seed: int) -> None:
    shapes = [*shapes, *BOTH_SIDES]
    split = unseen_shapes(np.array(shapes), test_ratio=0.5, seed=seed)
    tested = {shape for shape, test in zip(shapes, split.test, strict=True) if test}
    trained = {shape for shape, train in zip(shapes, split.train, strict=True) if train}
    assert not tested & trained
    assert tested | trained == set(shapes)
    for shape in shapes:
        among_others = unseen_shapes(np.array([shape, *BOTH_SIDES]), test_ratio=0.5, seed=seed)
        assert bool(among_others.test[0]) is (shape in tested)


def test_the_part_that_is_tested_is_near_the_ratio() -> None:
    shapes = np.array([[heads, kv_heads] for heads in range(100) for kv_heads in range(20)])
    assert unseen_shapes(shapes, test_ratio=0.2).test.mean() == pytest.approx(0.2, abs=0.03)


def test_seeds_draw_different_shapes() -> None:
    shapes = np.arange(100).reshape(100, 1)
    assert unseen_shapes(shapes, seed=0).test.tolist() != unseen_shapes(shapes, seed=1).test.tolist()


def test_a_drawn_side_does_not_change_between_runs() -> None:
    assert np.flatnonzero(unseen_shapes(np.arange(20).reshape(20, 1), seed=0).test).tolist() == [3, 4, 5, 10, 14, 16]


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.1])
def test_a_ratio_leaves_something_on_both_sides(ratio: float) -> None:
    with pytest.raises(ValueError, match="test_ratio must be"):
        unseen_shapes(np.array([[1]]), test_ratio=ratio)


# Of the numbers below 20, 3 and 4 are drawn for tests with seed 0, and 0 to 2 are not.
@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        pytest.param([0, 1, 2], "3 shapes.*: no rows to test on, of 3", id="all drawn to train on"),
        pytest.param([3, 3, 4], "2 shapes.*: no rows to train on, of 3", id="all drawn to test on"),
    ],
)
def test_few_shapes_may_all_be_drawn_for_one_side_which_is_an_error(numbers: list[int], message: str) -> None:
    with pytest.raises(EmptySideError, match=message):
        unseen_shapes(np.array(numbers).reshape(-1, 1), seed=0)


@pytest.mark.parametrize(
    ("contexts", "message"),
    [
        pytest.param([1, 4096], "contexts up to 4096 tokens.*: no rows to test on, of 2", id="all short"),
        pytest.param([4097], "contexts up to 4096 tokens.*: no rows to train on, of 1", id="all long"),
        pytest.param([], "no rows to test on, of 0", id="no rows at all"),
    ],
)
def test_contexts_on_one_side_of_the_limit_are_an_error(contexts: list[int], message: str) -> None:
    with pytest.raises(EmptySideError, match=message):
        longer_contexts(np.array(contexts, dtype=np.int64))


def test_contexts_beyond_the_limit_are_tested() -> None:
    split = longer_contexts(np.array([1, 4096, 4097]))
    assert split.test.tolist() == [False, False, True]
    assert split.train.tolist() == [True, True, False]
    assert longer_contexts(np.array([1, 2]), limit_tokens=1).test.tolist() == [False, True]


def test_a_table_of_attention_splits_by_its_heads_and_by_its_contexts() -> None:
    table = attention([1.0, 1.0, 1.0], heads=[32, 64, 32], cached_tokens=[4095, 4096, 99])
    shapes = table.head_shapes()
    assert shapes.tolist() == [[32, 8, 128], [64, 8, 128], [32, 8, 128]]
    assert unseen_shapes(shapes, 0.5, seed=3).test.tolist() == [False, True, False]
    assert longer_contexts(table.context_tokens()).test.tolist() == [False, True, False]


def test_the_gpu_left_out_is_tested() -> None:
    assert one_gpu_left_out(Labels.of(["H100", "B200", "H100"]), "B200").test.tolist() == [False, True, False]


def test_a_gpu_that_is_not_there_cannot_be_left_out() -> None:
    with pytest.raises(EmptySideError, match="A100 and other GPUs: no rows to test on"):
        one_gpu_left_out(Labels.of(["H100"]), "A100")


def test_a_gpu_that_is_alone_cannot_be_left_out() -> None:
    with pytest.raises(EmptySideError, match="H100 and other GPUs: no rows to train on"):
        one_gpu_left_out(Labels.of(["H100"]), "H100")
