"""ADWIN: a window over a stream that drops its old part when the old and the new part have different means.

The window is kept as an exponential histogram, buckets of 1, 2, 4, ... values with at most `max_buckets` of each size,
so it costs O(log W) memory and time, and every boundary between buckets is tried as a cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, Literal

from eguard.errors import EstimatorInputError
from eguard.estimators.validation import in_open_interval

Form = Literal["variance", "hoeffding"]
FORMS: Final = ("variance", "hoeffding")

#: Values seen, sum and squared deviations of the window, and its buckets: one row a size, sum and squares in turn.
AdwinState = tuple[int, float, float, list[list[float]]]


def _log_term(delta: float, width: float, form: str) -> float:
    """ln(2/delta') or ln(4/delta') with delta' = delta / ln W, the share of delta that each cut gets."""
    return math.log((2.0 if form == "variance" else 4.0) * math.log(width) / delta)


def _bound(inverse_m: float, log_term: float, variance: float, form: str) -> float:
    if form == "hoeffding":
        return math.sqrt(0.5 * inverse_m * log_term)
    return math.sqrt(2.0 * inverse_m * variance * log_term) + 2.0 / 3.0 * inverse_m * log_term


def adwin_epsilon(n0: float, n1: float, delta: float, form: Form = "hoeffding", variance: float | None = None) -> float:
    """Return the difference of means that ADWIN takes for a change between parts of `n0` and `n1` values in [0, 1].

    Parameters
    ----------
    n0, n1 : float
        Values in the old and in the new part, at least 1 each and more than 2 together.
    delta : float
        Confidence parameter in (0, 1): bound on the probability of a false cut.
    form : {"hoeffding", "variance"}
        Hoeffding's bound, or the one that uses the window's variance (Bernstein), much tighter when that is small.
    variance : float, optional
        Variance of the whole window; required by the second form.

    Returns
    -------
    float
        May exceed 1, the range of the values: then no shift whatever can be seen at this cut.

    Raises
    ------
    EstimatorInputError
        An argument is out of range, or `variance` is missing.

    Notes
    -----
    With m = 1/(1/n0 + 1/n1) and delta' = delta/ln(n0 + n1): ``sqrt(ln(4/delta') / (2m))``, and
    ``sqrt(2/m * variance * ln(2/delta')) + 2/(3m) * ln(2/delta')``.

    References
    ----------
    A. Bifet, R. Gavalda, Learning from time-changing data with adaptive windowing, SDM 2007, section 3.

    Examples
    --------
    >>> round(adwin_epsilon(97, 3, 0.002), 6)
    1.252357
    >>> round(adwin_epsilon(1000, 1000, 0.002, form="variance", variance=0.0025), 6)
    0.021368
    """
    if form not in FORMS:
        raise EstimatorInputError("form", f"must be one of {', '.join(FORMS)}, got {form!r}")
    in_open_interval("delta", delta, 0.0, 1.0)
    for name, n in (("n0", n0), ("n1", n1)):
        if not 1.0 <= n < math.inf:
            raise EstimatorInputError(name, f"must be at least 1, got {n!r}")
    if n0 + n1 <= 2.0:
        raise EstimatorInputError("n1", "the parts must hold more than two values together")
    if form == "variance" and (variance is None or not 0.0 <= variance < math.inf):
        raise EstimatorInputError("variance", f"must be finite and not negative in the variance form, got {variance!r}")
    return _bound(1.0 / n0 + 1.0 / n1, _log_term(delta, n0 + n1, form), variance or 0.0, form)


class Adwin:
    """Adaptive windowing on one stream of values in [0, 1].

    Parameters
    ----------
    delta : float
        Confidence parameter in (0, 1): bound on the probability of a false cut at one value.
    form : {"variance", "hoeffding"}
        Which bound decides, see :func:`adwin_epsilon`.
    max_buckets : int
        Buckets of each size; more are more exact and slower.
    min_window_length : int
        Fewest values in either part. They come off both counts in the bound (``n - min_window_length + 1``), which is
        the correction of the reference implementations.
    grace_period : int
        No test until the window is longer than this.
    clock : int
        Test after every `clock` values.

    Raises
    ------
    EstimatorInputError
        A parameter is out of range, or an updated value is not finite.

    Notes
    -----
    The false-alarm bound holds for values in [0, 1]; other finite values are accepted, without it.
    On a cut buckets are dropped from the old end until no cut is left, as in the paper. The implementation in river
    agrees up to the first alarm; after it, river throws the whole window away.

    ADWIN is sure, not fast: with 100 old values and three new ones the bound exceeds 1. And it is blind where the
    stream uses a sliver of [0, 1]; :class:`~eguard.estimators.running_moments.RankStandardiser` spreads it out.

    References
    ----------
    A. Bifet, R. Gavalda, Learning from time-changing data with adaptive windowing, SDM 2007.

    Examples
    --------
    >>> detector = Adwin()
    >>> alarms = [i for i in range(400) if detector.update(0.2 if i < 200 else 0.8)]
    >>> alarms[0], detector.width < 210, round(detector.mean, 2)
    (218, True, 0.78)
    """

    def __init__(
        self,
        delta: float = 0.002,
        form: Form = "variance",
        *,
        max_buckets: int = 5,
        min_window_length: int = 5,
        grace_period: int = 10,
        clock: int = 1,
    ) -> None:
        if form not in FORMS:
            raise EstimatorInputError("form", f"must be one of {', '.join(FORMS)}, got {form!r}")
        for name, value in (("max_buckets", max_buckets), ("min_window_length", min_window_length), ("clock", clock)):
            if value < 1:
                raise EstimatorInputError(name, f"must be at least 1, got {value!r}")
        if grace_period < 2:
            raise EstimatorInputError("grace_period", f"must be at least 2, got {grace_period!r}")
        self.delta = in_open_interval("delta", delta, 0.0, 1.0)
        self.form = form
        self.max_buckets = max_buckets
        self.min_window_length = min_window_length
        self.grace_period = grace_period
        self.clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        # One list a bucket size 1, 2, 4, ...; in each, (sum, sum of squared deviations) of a bucket, oldest first.
        self._rows: list[list[tuple[float, float]]] = [[]]
        self._ticks = 0
        self._total = 0.0
        self._squares = 0.0
        self.width = 0

    def state(self) -> AdwinState:
        """Return everything that it knows of the stream, for `restore`."""
        return self._ticks, self._total, self._squares, [[x for bucket in row for x in bucket] for row in self._rows]

    def restore(self, state: AdwinState) -> None:
        """Go on from a `state`, as if there had been no pause.

        Raises
        ------
        EstimatorInputError
            It is none: a row holds half a bucket, or more buckets than this window keeps.
        """
        self._ticks, self._total, self._squares, rows = state
        if not rows or any(len(row) % 2 or len(row) > 2 * self.max_buckets for row in rows):
            raise EstimatorInputError("state", f"must hold rows of at most {self.max_buckets} buckets")
        self._rows = [list(zip(row[::2], row[1::2], strict=True)) for row in rows]
        self.width = sum(len(row) << level for level, row in enumerate(self._rows))

    @property
    def mean(self) -> float:
        """Mean of the window; 0 when it is empty."""
        return self._total / self.width if self.width else 0.0

    @property
    def variance(self) -> float:
        """Variance of the window, divided by its width; 0 when it is empty."""
        return max(self._squares, 0.0) / self.width if self.width else 0.0

    def update(self, x: float) -> bool:
        """Take one value and return whether the window was cut."""
        value = float(x)
        if not math.isfinite(value):
            raise EstimatorInputError("x", f"must be finite, got {x!r}")
        self._insert(value)
        self._ticks += 1
        if self._ticks % self.clock or self.width <= self.grace_period:
            return False
        cut = False
        while self._has_cut():
            self._drop_oldest()
            cut = True
        return cut

    def _insert(self, value: float) -> None:
        if self.width:
            excess = value - self._total / self.width
            self._squares += self.width * excess * excess / (self.width + 1)
        self.width += 1
        self._total += value
        self._rows[0].append((value, 0.0))
        size = 1
        for level, row in enumerate(self._rows):
            if len(row) <= self.max_buckets:
                return
            (total0, squares0), (total1, squares1) = row[:2]
            del row[:2]
            gap = (total0 - total1) / size
            if level + 1 == len(self._rows):
                self._rows.append([])
            self._rows[level + 1].append((total0 + total1, squares0 + squares1 + 0.5 * size * gap * gap))
            size *= 2

    def _buckets(self) -> Iterator[tuple[int, float]]:
        """Size and sum of every bucket, oldest first."""
        for level in range(len(self._rows) - 1, -1, -1):
            size = 1 << level
            for total, _ in self._rows[level]:
                yield size, total

    def _has_cut(self) -> bool:
        form, variance, least = self.form, self.variance, self.min_window_length
        if self.width < max(2 * least, 3):
            return False
        log_term = _log_term(self.delta, self.width, form)
        n0, total0 = 0, 0.0
        for size, total in self._buckets():
            n0 += size
            total0 += total
            n1 = self.width - n0
            if n1 < least:
                return False
            if n0 >= least:
                inverse_m = 1.0 / (n0 - least + 1) + 1.0 / (n1 - least + 1)
                gap = abs(total0 / n0 - (self._total - total0) / n1)
                if gap > _bound(inverse_m, log_term, variance, form):
                    return True
        return False

    def _drop_oldest(self) -> None:
        row = self._rows[-1]
        size = 1 << (len(self._rows) - 1)
        total, squares = row.pop(0)
        self.width -= size
        self._total -= total
        gap = total / size - self._total / self.width
        self._squares -= squares + size * self.width * gap * gap / (size + self.width)
        while len(self._rows) > 1 and not self._rows[-1]:
            self._rows.pop()
