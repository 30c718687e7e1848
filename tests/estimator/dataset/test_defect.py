"""Each reason to drop a row, on rows just within and just beyond it; the first reason counts."""

import numpy as np

from estimator.dataset.defect import Reason, faster_than, fits_l2, invalid_latency, judge, repeated_shape


def test_a_latency_is_a_positive_number() -> None:
    latency_s = np.array([1e-9, 0.0, -1.0, np.nan, np.inf])
    assert invalid_latency(latency_s).tolist() == [False, True, True, True, True]


def test_the_first_of_equal_shapes_is_kept() -> None:
    shapes = np.array([[1, 2], [3, 4], [1, 2], [2, 1], [1, 2]])
    assert repeated_shape(shapes, np.ones(5, dtype=np.bool_)).tolist() == [False, False, True, False, True]
    usable = np.array([False, True, True, True, True])
    assert repeated_shape(shapes, usable).tolist() == [False, False, False, False, True]


def test_no_shapes_repeat_nothing() -> None:
    assert repeated_shape(np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.bool_)).tolist() == []


def test_a_cache_as_large_as_the_l2_fits() -> None:
    assert fits_l2(np.array([99.0, 100.0, 101.0]), 100.0).tolist() == [True, True, False]


def test_the_peak_itself_is_not_too_fast() -> None:
    assert faster_than(np.array([99.0, 100.0, 101.0]), np.array([2.0, 2.0, 2.0]), 50.0).tolist() == [False, False, True]


def test_peaks_may_differ_by_row() -> None:
    assert faster_than(np.array([3.0, 3.0]), np.array([1.0, 1.0]), np.array([2.0, 4.0])).tolist() == [True, False]


def test_an_invalid_latency_is_not_called_fast() -> None:
    assert not faster_than(np.full(3, 1e9), np.array([0.0, -1.0, np.nan]), 1.0).any()


def test_a_row_is_dropped_for_its_first_reason() -> None:
    verdict = judge(
        {
            Reason.FASTER_THAN_MEMORY: np.array([True, True, False, True]),
            Reason.FITS_L2: np.array([True, False, False, False]),
            Reason.INVALID_LATENCY: np.array([False, False, False, True]),
        }
    )
    assert verdict.kept.tolist() == [False, False, True, False]
    assert verdict.because(Reason.FITS_L2).tolist() == [True, False, False, False]
    assert dict(verdict.counts()) == {
        Reason.INVALID_LATENCY: 1,
        Reason.FITS_L2: 1,
        Reason.FASTER_THAN_MEMORY: 1,
    }


def test_reasons_without_rows_are_not_counted() -> None:
    verdict = judge({Reason.FITS_L2: np.array([False])})
    assert verdict.kept.all()
    assert dict(verdict.counts()) == {}
