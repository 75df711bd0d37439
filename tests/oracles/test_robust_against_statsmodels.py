"""Robust location against independent solvers: statsmodels, scipy and plain reweighting; and the reference file."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import median_abs_deviation, trim_mean
from statsmodels.robust.norms import HuberT, estimate_location

from eguard.estimators import (
    aggregate_distributions,
    geometric_median,
    huber_location,
    robust_summary,
    trimmed_mean,
    trimmed_median,
)

REFERENCE = json.loads((Path(__file__).parents[2] / "data/raw/reference/robust_location.json").read_text())


def reweighted(x, k, scale):
    """The textbook iteration, centred so that it can reach 1e-13."""
    centered = (x - np.median(x)) / scale
    theta = 0.0
    for _ in range(100_000):
        distance = np.abs(centered - theta)
        weights = np.minimum(1.0, k / np.maximum(distance, 1e-300))
        moved = (weights * centered).sum() / weights.sum()
        if abs(moved - theta) < 1e-15:
            break
        theta = moved
    return np.median(x) + scale * theta


SAMPLES = {
    "normal": lambda rng: rng.normal(size=rng.integers(5, 200)),
    "cauchy": lambda rng: rng.standard_cauchy(size=rng.integers(5, 200)),
    "shares": lambda rng: rng.dirichlet(np.full(8, 0.5), size=rng.integers(5, 200))[:, 0],
    "a third at 1e15": lambda rng: np.where(rng.random(150) < 0.3, 1e15, rng.normal(size=150)),
    "tiny spread on a level": lambda rng: 1e6 + 1e-9 * rng.normal(size=50),
    "ties": lambda rng: rng.integers(0, 4, size=rng.integers(5, 60)).astype(float),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_huber_is_the_fixed_point_of_reweighting_to_1e_12_of_the_scale(name):
    rng = np.random.default_rng(11)
    for _ in range(60):
        x = SAMPLES[name](rng)
        location, scale = huber_location(x)
        if scale > 0.0:
            # Values above 1 cannot be resolved finer than their own last place.
            tolerance = 1e-12 * scale + 2.0 * np.spacing(abs(np.median(x)))
            assert abs(location - reweighted(x, 1.345, scale)) <= tolerance


@pytest.mark.parametrize("shape", [(7, 3), (200, 40), (501, 2)])
def test_huber_with_a_given_scale_equals_statsmodels(shape):
    x = np.random.default_rng(5).standard_t(3, size=shape)
    scale = median_abs_deviation(x, axis=0, scale="normal")
    oracle = estimate_location(x, scale, HuberT(1.345), axis=0, maxiter=500, tol=1e-12)
    np.testing.assert_allclose(huber_location(x, scale=scale)[0], oracle, atol=2e-11)
    location, used = huber_location(x)
    np.testing.assert_allclose(location, oracle, atol=2e-11)
    np.testing.assert_allclose(used, scale, rtol=1e-9)


@pytest.mark.parametrize("case", REFERENCE["cases"], ids=lambda case: case["name"][:20])
def test_reference_cases(case):
    x = np.array(case["x"], dtype=float)
    location, scale = huber_location(x)
    assert trimmed_median(x) == pytest.approx(case["median"], rel=1e-15)
    assert scale == pytest.approx(case["mad_normalised"], rel=1e-12)
    solved = case["huber_k1345_scale_mad"]
    # One stored solver stops at a millionth of the scale, the other, comparing function values, cannot resolve more
    # than the square root of the machine precision.
    tolerance = 1e-6 * float(scale) + 1.5e-8 * abs(float(location))
    for oracle in filter(None, (solved["theta_statsmodels"], solved["theta_scipy_minimize"])):
        assert location == pytest.approx(oracle, abs=tolerance)
    assert location == pytest.approx(reweighted(x, 1.345, scale), abs=1e-11 * max(1.0, abs(location)))


def test_reference_literal_scale_one_where_the_minimiser_is_unique():
    for case in REFERENCE["cases"]:
        x = np.array(case["x"], dtype=float)
        if x.size % 2 == 1 or np.ptp(x) < 30.0:
            oracle = case["huber_k1345_scale_1"]["theta_scipy_minimize"]
            assert huber_location(x, scale=1.0)[0] == pytest.approx(oracle, abs=1e-7)


def test_reference_fleet_of_21_hosts():
    fleet = REFERENCE["fleet_svchost"]
    counts = np.array(fleet["counts"], dtype=float)
    p = counts / counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(trimmed_median(p), fleet["coordinate_median"], atol=1e-15)
    np.testing.assert_allclose(trimmed_mean(p), fleet["coordinate_trimmed_mean_alpha005"], atol=1e-15)
    consensus = aggregate_distributions(p)
    np.testing.assert_allclose(consensus.distribution, fleet["coordinate_median_normalised"], atol=1e-15)
    assert consensus.mass == pytest.approx(sum(fleet["coordinate_median"]))
    assert consensus.tolerated_faults == 10


@pytest.mark.parametrize(("n", "alpha"), [(5, 0.05), (20, 0.05), (63, 0.1), (100, 0.25), (11, 0.45)])
def test_trimmed_mean_equals_scipy(n, alpha):
    x = np.random.default_rng(n).standard_cauchy(size=(n, 6))
    np.testing.assert_allclose(trimmed_mean(x, alpha), trim_mean(x, alpha, axis=0), rtol=1e-12)


def test_summary_scale_equals_scipy_on_three_dimensions():
    x = np.random.default_rng(8).gamma(0.5, size=(4, 31, 5))
    expected = median_abs_deviation(x, axis=1, scale="normal")
    np.testing.assert_allclose(robust_summary(x, axis=1).scale, expected, rtol=1e-9)


@pytest.mark.parametrize(("n", "d"), [(3, 2), (4, 3), (10, 8), (41, 8), (200, 12)])
def test_geometric_median_beats_a_general_minimiser(n, d):
    rng = np.random.default_rng(n + d)
    for concentration in (0.3, 5.0):
        rows = rng.dirichlet(np.full(d, concentration), size=n)

        def cost(y, rows=rows):
            return np.linalg.norm(rows - y, axis=1).sum()

        ours = geometric_median(rows)
        oracle = minimize(cost, rows.mean(axis=0), method="BFGS", options={"gtol": 1e-9})
        assert cost(ours) <= oracle.fun + 1e-10
        np.testing.assert_allclose(ours.sum(), 1.0, atol=1e-12)
