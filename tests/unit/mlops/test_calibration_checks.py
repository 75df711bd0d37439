import numpy as np
import pytest

from eguard.mlops.calibration_checks import coverage_by_simulation, log10_wealth, transfer_check


def test_simulated_coverage_keeps_the_promise():
    rng = np.random.default_rng(8)
    result = coverage_by_simulation(rng.normal(size=2000), 0.05, rng, 400)
    assert result["mean_rate"] == pytest.approx(result["beta_mean"], abs=0.004)
    assert result["rate_95_percent_point"] == pytest.approx(result["beta_95_percent_point"], abs=0.012)


def test_ties_keep_the_rate_below_the_promise():
    rng = np.random.default_rng(8)
    result = coverage_by_simulation(rng.integers(0, 4, 2000).astype(float), 0.05, rng, 100)
    assert result["mean_rate"] == 0.0


def test_too_few_scores_are_said_to_be_too_few():
    result = coverage_by_simulation(np.arange(30.0), 0.01, np.random.default_rng(0), 10)
    assert result == {"status": "insufficient_calibration", "n_calibration": 15}


def test_hosts_that_differ_break_the_transfer():
    half = np.arange(2000) % 2 == 0
    scores = np.random.default_rng(1).normal(np.where(half, 0.0, 1.5), 1.0)
    low, high = (check["false_positive_rate"] for check in transfer_check(scores, half, 0.05, "marginal"))
    assert low > 0.2
    assert high < 0.01


def test_the_martingale_grows_on_a_shift_alone():
    rng = np.random.default_rng(3)
    calibration = rng.normal(size=500)
    assert log10_wealth(calibration, rng.normal(size=1500), np.random.default_rng(0)) < 2.0
    assert log10_wealth(calibration, rng.normal(1.0, 1.0, 1500), np.random.default_rng(0)) > 4.0
