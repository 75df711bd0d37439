"""Whether scores still look like those that thresholds were set on: three views of it, one of which decides.

P-values against one calibration set share its error, so a test of their uniformity fires on healthy fleets nearly
always: it is reported beside the others and decides nothing. The two-sample test of Kolmogorov and Smirnov compares the
scores themselves. It takes values for independent, which events of one day and one fleet are not; so both samples count
for as many independent ones as they are worth, by how much days and hosts' days differ within the calibration set. The
martingale is a bet, score by score; its alarm at 100 holds for scores in exchangeable order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import kolmogorov

from eguard.estimators.clusters import effective_size, share_correlation
from eguard.estimators.conformal import conformal_p_values
from eguard.estimators.martingale import ConformalMartingale
from eguard.estimators.two_sample import two_sample_ks

#: Wealth of the martingale, log10, that calls the scores changed; ever, by chance, in one run of a hundred.
MARTINGALE_ALARM_LOG10: Final = 2.0
_TENTHS: Final = 10
_DAY_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class ScoredSample:
    """Scores, when each was received, and from which host: shape (n,) each."""

    scores: NDArray[np.float64]
    time_unix: NDArray[np.float64]
    hosts: NDArray[Any]

    @property
    def days(self) -> NDArray[np.int64]:
        """The day that each is of."""
        return np.floor(self.time_unix / _DAY_SECONDS).astype(np.int64)

    @property
    def host_days(self) -> NDArray[np.int64]:
        """Number of each one's host and day."""
        host = np.unique(self.hosts, return_inverse=True)[1]
        return host.astype(np.int64) * 1_000_000 + self.days


@dataclass(frozen=True, slots=True)
class Clustering:
    """How much of the variance of scores lies between the days of the fleet, and between the days of a host."""

    by_day: float
    by_host_day: float

    @classmethod
    def of(cls, sample: ScoredSample) -> Clustering:
        """Measure it on a calibration set of several days.

        Hosts differ, and stay as they are: what a host's days have in common counts for nothing here.
        """
        host = np.unique(sample.hosts, return_inverse=True)[1]
        mean = np.bincount(host, weights=sample.scores) / np.bincount(host)
        return cls(
            by_day=share_correlation(sample.scores, sample.days),
            by_host_day=share_correlation(sample.scores - mean[host], sample.host_days),
        )

    def effective_size(self, sample: ScoredSample) -> float:
        """Return how many independent scores a sample is worth."""
        return min(
            effective_size(sample.days, self.by_day), effective_size(sample.host_days, self.by_host_day)
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ScoreHealth:
    """What was found. `p_value` is that of the two-sample test, and decides.

    `histogram` counts smoothed p-values by tenths; it is flat where nothing changed. `uniform_p_value` is the manual's
    one-sample test, which calls healthy scores changed.
    """

    ks_statistic: float
    p_value: float
    effective_calibration: float
    effective_current: float
    uniform_statistic: float
    uniform_p_value: float
    martingale_log10: float
    histogram: tuple[int, ...]


def score_health(
    calibration: ScoredSample,
    current: ScoredSample,
    since: ScoredSample,
    clustering: Clustering,
    rng: np.random.Generator,
) -> ScoreHealth:
    """Compare a day's scores with the calibration set's.

    Parameters
    ----------
    calibration : ScoredSample
        What thresholds were set on.
    current : ScoredSample
        The day that is judged.
    since : ScoredSample
        Everything since the calibration set was made, in the order in which it came; the martingale bets on it.
    clustering : Clustering
        Of the calibration set.
    rng : numpy.random.Generator
        Breaks ties.

    Raises
    ------
    EstimatorInputError
        A sample is empty or not finite.
    """
    statistic, _ = two_sample_ks(calibration.scores, current.scores, method="asymptotic")
    worth = clustering.effective_size(calibration), clustering.effective_size(current)
    p_values = conformal_p_values(calibration.scores, current.scores, rng)
    uniform_statistic, uniform_p_value = uniform_ks(p_values)
    martingale = ConformalMartingale(calibration.scores, rng)
    for score in since.scores.tolist():
        martingale.update(score)
    tenth = np.minimum((p_values * _TENTHS).astype(np.intp), _TENTHS - 1)
    return ScoreHealth(
        ks_statistic=statistic,
        p_value=float(kolmogorov(math.sqrt(worth[0] * worth[1] / (worth[0] + worth[1])) * statistic)),
        effective_calibration=worth[0],
        effective_current=worth[1],
        uniform_statistic=uniform_statistic,
        uniform_p_value=uniform_p_value,
        martingale_log10=martingale.largest_log_wealth / math.log(10.0),
        histogram=tuple(np.bincount(tenth, minlength=_TENTHS).tolist()),
    )


def uniform_ks(p_values: ArrayLike) -> tuple[float, float]:
    """Return the one-sample Kolmogorov-Smirnov statistic against the uniform distribution and its asymptotic p-value.

    Examples
    --------
    >>> uniform_ks([0.1, 0.3, 0.5, 0.7, 0.9])[0]
    0.1
    """
    ordered = np.sort(np.asarray(p_values, np.float64))
    n = ordered.size
    above = np.arange(1, n + 1) / n - ordered
    below = ordered - np.arange(n) / n
    statistic = float(max(above.max(), below.max()))
    return round(statistic, 15), float(kolmogorov(math.sqrt(n) * statistic))
