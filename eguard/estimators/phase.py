"""Phase statistics of event times: how far from a Poisson process, and at which period.

Three statistics see three kinds of timer. A fixed schedule with jitter and missed beats keeps the phase of its event
*times*; a sleep between beats lets jitter accumulate, which destroys that phase but leaves the *intervals* near
multiples of a period or, at least, unusually alike (*dispersion*).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Candidate periods of the interval phase, in units of the median interval: with half of the beats missed the median
# interval is between one and two periods.
CANDIDATES = np.linspace(0.3, 1.05, 48)
# Frequencies of the event phase, in half cycles of the observed span: from four cycles, so that a slow drift is no
# timer, to 2.6 an event, which reaches the period where up to 60 % of the beats are missed.
FIRST_HALF_CYCLE = 8
FREQUENCIES_PER_EVENT = 2.6
# A lower frequency with this share of the largest power is the fundamental and the largest its overtone.
FUNDAMENTAL_SHARE = 0.75
# The null distributions below were simulated this far; smaller p-values are extrapolated, and not further than this.
SMALLEST_TABLE_P = 1e-6

# Simulated under a Poisson process (100,000 runs at 20 and 32 intervals, 60,000, 40,000 and 24,000 at the others):
# quantiles at upper-tail probabilities 1 (0 by definition), .5, .1, .01 and .001. ln(48/p), the union bound over
# candidates, would not do for the interval phase: an exponential law folded on a period near its mean keeps a phase.
NULL_N = np.array([20.0, 32.0, 64.0, 128.0, 256.0])
NULL_LOG10_P = np.log10([1.0, 0.5, 0.1, 0.01, 0.001])
INTERVAL_PHASE_NULL = np.array(
    [
        [0.0, 3.440, 5.481, 7.758, 9.777],
        [0.0, 3.637, 5.855, 8.418, 10.655],
        [0.0, 4.089, 6.603, 9.608, 12.302],
        [0.0, 4.975, 7.957, 11.479, 14.559],
        [0.0, 6.599, 10.332, 14.436, 18.155],
    ]
)
REGULARITY_NULL = np.array(
    [
        [0.0, 0.3398, 0.5254, 0.6648, 0.7506],
        [0.0, 0.3270, 0.4755, 0.5914, 0.6711],
        [0.0, 0.3164, 0.4216, 0.5063, 0.5657],
        [0.0, 0.3106, 0.3858, 0.4482, 0.4911],
        [0.0, 0.3078, 0.3608, 0.4054, 0.4365],
    ]
)


class PhaseTest(NamedTuple):
    """A statistic that grows with periodicity, its p-value under a Poisson process, and the period it points to."""

    statistic: float
    p_value: float
    period_seconds: float


def event_phase(times: Array) -> PhaseTest:
    """Return the largest Rayleigh power of `times` (ascending, from 0) over all candidate frequencies.

    Notes
    -----
    First and last time span the observation; given them, the times between are uniform under a Poisson process, and
    what that alone contributes to the sum of phases is subtracted. The p-value F*exp(-Z) for F frequencies is an
    upper bound (union over frequencies).

    References
    ----------
    J. D. Scargle, "Studies in astronomical time series analysis II", Astrophysical Journal 263, 1982.
    """
    span = float(times[-1])
    cycles, power = _centred_power(times)
    best = float(power.max())
    fundamental = int(cycles[np.argmax(power >= FUNDAMENTAL_SHARE * best)])
    near = (fundamental + np.linspace(-1.0, 1.0, 33)) / (2.0 * span)
    sharpest = near[np.abs(np.exp(2j * np.pi * near[:, None] * times).sum(axis=1)).argmax()]
    return PhaseTest(best, min(1.0, cycles.size * math.exp(-best)), float(1.0 / sharpest))


def interval_phase(intervals: Array) -> tuple[PhaseTest, float]:
    """Return the phase test of `intervals` modulo candidate periods, and the coherence R in [0, 1] behind it.

    The statistic is n*R^2 for the best of 48 candidates. Which candidate is the *period* is asked with the phase
    held at 0: only there are intervals multiples of it.
    """
    n, median = intervals.size, float(np.median(intervals))
    phases = np.exp(2j * np.pi * (intervals / median) / CANDIDATES[:, None]).mean(axis=1)
    coherence = float(np.abs(phases).max())
    at_zero = phases.real
    candidate = median * float(CANDIDATES[np.flatnonzero(at_zero >= at_zero.max() - 0.05)[-1]])
    multiples = np.maximum(np.round(intervals / candidate), 1.0)
    period = float(multiples @ intervals / (multiples @ multiples))
    statistic = n * coherence**2
    return PhaseTest(statistic, _table_p_value(statistic, n, INTERVAL_PHASE_NULL), period), min(coherence, 1.0)


def dispersion(intervals: Array) -> PhaseTest:
    """Return 1 - MAD/median of `intervals`, not below 0, as a test of regularity; the period is the median."""
    median = float(np.median(intervals))
    regularity = max(0.0, 1.0 - float(np.median(np.abs(intervals - median))) / median)
    return PhaseTest(regularity, _table_p_value(regularity, intervals.size, REGULARITY_NULL), median)


def _centred_power(times: Array) -> tuple[NDArray[np.intp], Array]:
    """Return candidate frequencies in half cycles of the span, and the Rayleigh power at each without its null mean."""
    n = times.size
    last = int(2.0 * FREQUENCIES_PER_EVENT * (n - 1))
    cycles = np.arange(FIRST_HALF_CYCLE, last + 1)
    odd = cycles % 2
    expected = 2.0 * (1 - odd) + (n - 2) * odd * 2j / (np.pi * cycles)
    sums = _half_cycle_sums(times / times[-1], last)[FIRST_HALF_CYCLE:]
    power: Array = np.abs(sums - expected) ** 2 / (n - 2)
    return cycles, power


def _half_cycle_sums(u: Array, last: int) -> NDArray[np.complex128]:
    """Return sum(exp(i*pi*k*u)) for k = 0 .. last and u in [0, 1].

    With k = g + r, g a multiple of a stride near sqrt(last), the sums over u of exp(i*pi*g*u)*exp(i*pi*r*u) are one
    matrix product of two small tables: the number of exponentials falls from n*last to 2*n*sqrt(last).
    """
    stride = 1 << (last.bit_length() + 1) // 2
    giants = np.exp(1j * np.pi * np.arange(0, last + 1, stride)[:, None] * u)
    babies = np.exp(1j * np.pi * np.arange(stride)[:, None] * u)
    # einsum and not @: a threaded BLAS call costs more here than the product itself.
    sums: NDArray[np.complex128] = np.einsum("gi,ri->gr", giants, babies)
    return sums.ravel()[: last + 1]


def _table_p_value(statistic: float, n: int, table: Array) -> float:
    """Interpolate log10 p, linearly in the statistic and in log n; extrapolate beyond .001 down to 1e-6."""
    position = np.log2(NULL_N)
    at = min(max(math.log2(n), float(position[0])), float(position[-1]))
    quantiles = np.array([np.interp(at, position, column) for column in table.T])
    if statistic <= quantiles[-1]:
        return float(10.0 ** np.interp(statistic, quantiles, NULL_LOG10_P))
    decades_per_unit = 1.0 / (quantiles[-1] - quantiles[-2])
    log10_p = NULL_LOG10_P[-1] - (statistic - quantiles[-1]) * decades_per_unit
    return max(SMALLEST_TABLE_P, float(10.0**log10_p))
