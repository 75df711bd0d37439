"""Row kernels against NumPy, on the shapes where off-by-one errors live."""

import numpy as np
import pytest

from eguard.estimators import order_statistics
from eguard.estimators.order_statistics import (
    column_slices,
    lower_bound,
    partition_median,
    reduce_columns,
    sorted_median,
    sorted_median_absolute_deviation,
    sorted_trimmed_mean,
    transpose_into,
    trim_count,
)

SIZES = [1, 2, 3, 4, 5, 8, 9, 64, 65, 1000]


@pytest.mark.parametrize(
    ("n", "alpha", "expected"), [(100, 0.05, 5), (19, 0.05, 0), (20, 0.05, 1), (100, 0.29, 29), (7, 0.499, 3)]
)
def test_trim_count_is_the_floor_in_decimal(n, alpha, expected):
    assert trim_count(n, alpha) == expected


@pytest.mark.parametrize("n", SIZES)
def test_both_medians_equal_numpy(n, rng):
    rows = rng.normal(size=(7, n)).round(1)
    expected = np.median(rows, axis=1)
    np.testing.assert_array_equal(sorted_median(np.sort(rows, axis=1)), expected)
    np.testing.assert_array_equal(partition_median(rows.copy()), expected)


@pytest.mark.parametrize("n", SIZES)
def test_median_absolute_deviation_equals_its_definition(n, rng):
    rows = np.sort(rng.standard_cauchy(size=(50, n)).round(1), axis=1)
    for center in (np.median(rows, axis=1), rows[:, 0] - 1.0, rng.normal(size=50)):
        expected = np.median(np.abs(rows - center[:, None]), axis=1)
        np.testing.assert_allclose(sorted_median_absolute_deviation(rows, center), expected, rtol=1e-15)


@pytest.mark.parametrize("n", SIZES)
def test_row_search_is_searchsorted_row_by_row(n, rng):
    rows = np.sort(rng.integers(-5, 5, size=(20, n)).astype(float), axis=1)
    targets = rng.integers(-6, 6, size=(3, 20)).astype(float)
    expected = [[np.searchsorted(row, target) for row, target in zip(rows, line, strict=True)] for line in targets]
    np.testing.assert_array_equal(lower_bound(rows, targets, np.arange(20)), expected)
    np.testing.assert_array_equal(lower_bound(rows, targets[:, 3:9], np.arange(3, 9)), np.array(expected)[:, 3:9])


def test_trimmed_mean_leaves_out_both_ends():
    rows = np.array([[-100.0, 1.0, 2.0, 6.0, 1000.0]])
    assert sorted_trimmed_mean(rows, 1).tolist() == [3.0]


def test_transpose_in_tiles_is_a_transpose(monkeypatch, rng):
    monkeypatch.setattr(order_statistics, "TILE_ROWS", 4)
    x = rng.normal(size=(11, 3))
    out = np.empty((3, 11))
    transpose_into(out, x)
    np.testing.assert_array_equal(out, x.T)


def test_column_slices_cover_everything_once_in_multiples(monkeypatch):
    monkeypatch.setattr(order_statistics, "BLOCK_VALUES", 100)
    slices = list(column_slices(n=10, m=50, multiple=8))
    assert [(s.start, s.stop) for s in slices] == [(0, 8), (8, 16), (16, 24), (24, 32), (32, 40), (40, 48), (48, 50)]
    assert [s.stop - s.start for s in column_slices(n=1000, m=3)] == [1, 1, 1]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_reduce_columns_keeps_shape_and_order(monkeypatch, rng, axis, threads):
    monkeypatch.setattr(order_statistics, "BLOCK_VALUES", 16)
    x = rng.normal(size=(5, 6, 7))
    before = x.copy()
    (total,) = reduce_columns(x, axis, lambda rows: (rows.sum(axis=1),), 1, threads)
    np.testing.assert_allclose(total, x.sum(axis=axis), rtol=1e-12)
    np.testing.assert_array_equal(x, before)


def test_an_error_in_a_thread_reaches_the_caller():
    def kernel(rows):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        reduce_columns(np.ones((4, 4)), 0, kernel, 1, threads=2)
