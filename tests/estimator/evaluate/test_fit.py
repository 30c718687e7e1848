"""Factors of parts: exact where parts add up, and unmoved by a few odd points."""

import numpy as np
import pytest

from estimator.evaluate.fit import factors


def test_parts_that_add_up_are_found_exactly() -> None:
    parts = np.asarray([[1.0, 1.0], [2.0, 1.0], [5.0, 1.0]])
    assert factors(parts, parts @ np.asarray([3.0, 0.5])) == pytest.approx([3.0, 0.5], rel=1e-6)


def test_one_odd_point_in_five_does_not_move_a_scalar() -> None:
    parts = np.asarray([[1.0], [2.0], [3.0], [4.0], [5.0]])
    measured = np.asarray([2.0, 4.0, 6.0, 8.0, 100.0])
    assert factors(parts, measured) == pytest.approx([2.0], rel=1e-3)


def test_errors_are_relative_so_that_long_steps_count_as_much_as_short_ones() -> None:
    # Of 1, 1, 1 and 100, the constant with the least mean relative error is 1.
    assert factors(np.ones((4, 1)), np.asarray([1.0, 1.0, 1.0, 100.0])) == pytest.approx([1.0], rel=1e-3)


def test_what_is_known_is_added_as_it_is() -> None:
    parts, known = np.asarray([[1.0], [2.0], [4.0]]), np.asarray([0.5, 0.0, 3.0])
    assert factors(parts, 3.0 * parts[:, 0] + known, known) == pytest.approx([3.0], rel=1e-6)


def test_fewer_measurements_than_factors_are_refused() -> None:
    with pytest.raises(ValueError, match="1 measurements for 2 factors"):
        factors(np.ones((1, 2)), np.ones(1))
