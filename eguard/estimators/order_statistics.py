"""Row kernels that robust location and aggregation share: everything is read from one sort or one partition.

Values to reduce lie along the *last* axis of a C-contiguous float64 array, the layout in which NumPy's vectorised
sort and quickselect run; :func:`reduce_columns` brings any array into it block by block, so that a block stays in
the processor's cache. Kernels reorder the rows that they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Values in one block, 4 MiB: few enough to stay in cache from one pass to the next, many enough that what is done
# once a block (the steps of a bisection over its rows) costs nothing beside the sort.
BLOCK_VALUES = 524_288
# Rows copied at a time while a block is transposed. The source is read in runs of a block's width and written in
# runs of this many values; without the tiling every value misses the cache twice.
TILE_ROWS = 512


def trim_count(n: int, alpha: float) -> int:
    """Return floor(alpha * n), with alpha taken as the decimal that it prints as.

    In binary, 0.29 * 100 is 28.999999999999996 and its floor 28; whoever writes 0.29 means 29.

    Examples
    --------
    >>> trim_count(100, 0.29), int(0.29 * 100)
    (29, 28)
    """
    return int(Fraction(repr(float(alpha))) * n)


def transpose_into(out: Array, x: Array) -> None:
    """Copy `x` of shape (n, m) into `out` of shape (m, n), tile by tile."""
    for start in range(0, x.shape[0], TILE_ROWS):
        out[:, start : start + TILE_ROWS] = x[start : start + TILE_ROWS].T


def column_slices(n: int, m: int, multiple: int = 1) -> Iterator[slice]:
    """Cut `m` columns of length `n` into slices of about ``BLOCK_VALUES`` values, a `multiple` of columns each."""
    width = max(multiple, BLOCK_VALUES // n // multiple * multiple)
    for start in range(0, m, width):
        yield slice(start, min(start + width, m))


def for_each(work: Callable[[slice], None], blocks: Iterator[slice], threads: int) -> None:
    """Run `work` on every block; NumPy's sort, partition and arithmetic release the interpreter's lock."""
    if threads <= 1:
        for block in blocks:
            work(block)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="estimators") as pool:
        for _ in pool.map(work, blocks):
            pass


def reduce_columns(
    x: Array, axis: int, kernel: Callable[[Array], tuple[Array, ...]], n_results: int, threads: int = 1
) -> tuple[Array, ...]:
    """Apply `kernel` to every one-dimensional slice of `x` along `axis`.

    Parameters
    ----------
    x : ndarray
        Left as it is; blocks are copies.
    axis : int
        The axis that the kernel reduces.
    kernel : callable
        Maps writable rows of shape (m, n) to `n_results` arrays of shape (m,).
    n_results : int
        Length of the kernel's result.
    threads : int, optional
        Threads to spread the blocks over. Columns are independent: the result is the same for any number.

    Returns
    -------
    tuple of ndarray
        Each of the shape of `x` without `axis`; NumPy scalars where `x` has one dimension.
    """
    moved = np.moveaxis(x, axis, 0)
    n, shape = moved.shape[0], moved.shape[1:]
    columns = moved.reshape(n, -1)
    results = np.empty((n_results, columns.shape[1]))

    def work(block: slice) -> None:
        rows = np.empty((block.stop - block.start, n))
        transpose_into(rows, columns[:, block])
        for result, values in zip(results, kernel(rows), strict=True):
            result[block] = values

    for_each(work, column_slices(n, columns.shape[1]), threads)
    return tuple(result.reshape(shape)[()] for result in results)


def partition_median(rows: Array) -> Array:
    """Return the median along the last axis by one quickselect; reorders `rows`.

    The lower of two middle values is the maximum of what the partition left below the upper one: that pass is
    cheaper than asking the partition for both.
    """
    n = rows.shape[-1]
    half = n // 2
    rows.partition(half, axis=-1)
    upper: Array = rows[..., half].copy()
    if n % 2 == 0:
        upper *= 0.5
        upper += 0.5 * rows[..., :half].max(axis=-1)
    return upper


def sorted_median(rows: Array) -> Array:
    """Return the median along the last axis of sorted `rows`."""
    n = rows.shape[-1]
    half = n // 2
    upper: Array = rows[..., half].copy()
    if n % 2 == 0:
        upper *= 0.5
        upper += 0.5 * rows[..., half - 1]
    return upper


def sorted_trimmed_mean(rows: Array, trim: int) -> Array:
    """Return the mean of sorted `rows` without `trim` values at each end."""
    mean: Array = rows[..., trim : rows.shape[-1] - trim].mean(axis=-1)
    return mean


def lower_bound(rows: Array, targets: Array, chosen: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return how many values are below targets (..., j) in j chosen ones of sorted rows (m, n).

    That is :func:`numpy.searchsorted` row by row; all rows bisect together.
    """
    n = rows.shape[1]
    flat, before_first = rows.reshape(-1), chosen * n - 1
    position = np.zeros(targets.shape, dtype=np.intp)
    step = 1 << (n.bit_length() - 1)
    while step:
        candidate = position + step
        below = flat[before_first + np.minimum(candidate, n)] < targets
        below &= candidate <= n
        position += step * below
        step >>= 1
    return position


def sorted_median_absolute_deviation(rows: Array, center: Array) -> Array:
    """Return median(abs(row - center)) of sorted rows of shape (m, n), in O(log n) a row.

    The j values nearest to the centre are neighbours in sorted order, so the j-th smallest deviation is the smallest,
    over windows of j neighbours, of the larger of the two end deviations. One end falls and the other rises as the
    window moves right: bisect for the crossing.
    """
    m, n = rows.shape
    j = (n + 1) // 2
    flat, first = rows.reshape(-1), np.arange(m) * n
    low = np.zeros(m, dtype=np.intp)
    high = np.full(m, n - j, dtype=np.intp)
    for _ in range((n - j).bit_length()):
        middle = (low + high) >> 1
        at = first + middle
        crossed = flat[at + (j - 1)] - center >= center - flat[at]
        high = np.where(crossed, middle, high)
        low = np.where(crossed, low, np.minimum(middle + 1, high))
    right_end = np.maximum(flat[first + low + (j - 1)] - center, center - flat[first + low])
    # One window further left, the left end is the larger deviation.
    left_end = np.where(low > 0, center - flat[first + np.maximum(low - 1, 0)], np.inf)
    nearest: Array = np.minimum(left_end, right_end)
    if n % 2:
        return nearest
    start = low - (left_end < right_end)
    before = np.where(start > 0, center - flat[first + np.maximum(start - 1, 0)], np.inf)
    after = np.where(start < n - j, flat[first + np.minimum(start + j, n - 1)] - center, np.inf)
    nearest *= 0.5
    nearest += 0.5 * np.minimum(before, after)
    return nearest
