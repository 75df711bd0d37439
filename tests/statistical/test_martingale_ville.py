"""The martingale's false alarms (Ville's bound), what voids it, and how fast it sees a shift."""

import math

import numpy as np
import pytest
from scipy.stats import binom, kstest

from eguard.estimators.conformal import conformal_p_values
from eguard.estimators.martingale import ConformalMartingale, simple_jumper_log_wealth

pytestmark = pytest.mark.slow

ALARM = math.log(100.0)


def test_wealth_from_independent_uniform_p_values_rarely_ever_reaches_a_hundred():
    """20,000 runs of 2,500 p-values; at most 1 in 100 may ever alarm."""
    rng = np.random.default_rng(30)
    alarmed = sum(
        int((simple_jumper_log_wealth(rng.random((4000, 2500))).max(axis=1) >= ALARM).sum()) for _ in range(5)
    )
    assert alarmed <= binom.ppf(0.99, 20_000, 0.01)


def test_online_p_values_of_exchangeable_scores_are_independent_and_uniform():
    """40,000 p-values of 40 runs, scores with ties: the premise of the bound."""
    rng = np.random.default_rng(31)
    rows = []
    for _ in range(40):
        martingale = ConformalMartingale(rng.poisson(3.0, size=100), rng)
        row = []
        for score in rng.poisson(3.0, size=1000):
            martingale.update(score)
            row.append(martingale.last_p_value)
        rows.append(row)
    p_values = np.array(rows)
    assert kstest(p_values.ravel(), "uniform").pvalue > 0.01
    lagged = np.corrcoef(p_values[:, 1:].ravel(), p_values[:, :-1].ravel())[0, 1]
    assert abs(lagged) < 3.0 / math.sqrt(p_values.size)


def test_the_class_itself_keeps_the_bound():
    """400 runs of 1,000 scores after 200 for calibration."""
    rng = np.random.default_rng(32)
    alarmed = 0
    for _ in range(400):
        martingale = ConformalMartingale(rng.normal(size=200), rng)
        for score in rng.normal(size=1000).tolist():
            martingale.update(score)
        alarmed += martingale.alarmed
    assert alarmed <= binom.ppf(0.99, 400, 0.01)


def test_p_values_against_a_fixed_calibration_set_void_the_bound():
    """Why the p-values are online: 300 calibration scores, 200 runs of 10,000 scores."""
    rng = np.random.default_rng(33)
    p_values = np.array([conformal_p_values(rng.normal(size=300), rng.normal(size=10_000), rng) for _ in range(200)])
    alarmed = (simple_jumper_log_wealth(p_values).max(axis=1) >= ALARM).mean()
    assert alarmed > 0.05


@pytest.mark.parametrize(("shift", "median", "found"), [(0.25, 600, 0.8), (0.5, 160, 0.98), (1.0, 75, 1.0)])
def test_a_shift_of_the_scores_is_found_in_time(shift, median, found):
    """1,000 calibration scores, a shift after 1,000 scores, 60 runs of 1,500 more. A small one is partly absorbed."""
    rng = np.random.default_rng(34)
    delays = []
    for _ in range(60):
        martingale = ConformalMartingale(rng.normal(size=1000), rng)
        for score in rng.normal(size=1000).tolist():
            martingale.update(score)
        scores = rng.normal(shift, size=1500).tolist()
        delays.append(next((i for i, score in enumerate(scores, 1) if martingale.update(score)), math.inf))
    assert np.median(delays) <= median
    assert np.isfinite(delays).mean() >= found
