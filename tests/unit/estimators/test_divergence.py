"""Golden vectors, the drift that consecutive divergence cannot see, and refused input."""

import math

import numpy as np
import pytest

from eguard.errors import EstimatorInputError
from eguard.estimators import jensen_shannon_bias_nats, jensen_shannon_nats, kl_divergence_bits


@pytest.mark.parametrize(
    ("p", "q", "nats"),
    [
        ([0.5, 0.3, 0.2], [0.2, 0.3, 0.5], 0.066414314),
        ([0.9, 0.1], [0.5, 0.5], 0.101749225),
        ([0.7, 0.2, 0.1], [0.1, 0.2, 0.7], 0.253101615),
        ([1.0, 0.0], [0.0, 1.0], 0.693147181),
        ([0.25, 0.75], [0.25, 0.75], 0.0),
    ],
)
def test_jensen_shannon_golden_vectors(p, q, nats):
    assert round(float(jensen_shannon_nats(p, q)), 9) == nats
    assert jensen_shannon_nats(p, q) == jensen_shannon_nats(q, p)


def test_jensen_shannon_keeps_its_digits_where_distributions_nearly_agree():
    # To second order JS = sum (p - q)^2 / (8 p).
    step = 1e-9
    measured = float(jensen_shannon_nats([0.5 + step, 0.5 - step], [0.5, 0.5]))
    assert measured == pytest.approx(step**2 / 2.0, rel=1e-6)


def test_jensen_shannon_never_exceeds_ln_2_by_rounding():
    p = np.array([[1.0, 0.0, 0.0], [1.0 - 1e-17, 1e-300, 0.0], [1.0 + 9e-7, 0.0, 0.0]])
    assert (jensen_shannon_nats(p, [0.0, 0.0, 1.0]) <= math.log(2.0)).all()


def test_jensen_shannon_broadcasts_and_takes_an_axis():
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
    q = np.array([0.1, 0.2, 0.7])
    rows = jensen_shannon_nats(p, q)
    assert rows.shape == (2,)
    assert rows[1] == 0.0
    np.testing.assert_array_equal(jensen_shannon_nats(p.T, q[:, None], axis=0), rows)


def test_consecutive_divergence_is_blind_to_slow_drift_and_a_pinned_reference_is_not():
    share = np.linspace(0.0, 1.0, 101)[:, None]
    path = (1.0 - share) * np.array([0.7, 0.2, 0.1]) + share * np.array([0.1, 0.2, 0.7])
    assert float(f"{jensen_shannon_nats(path[1:], path[:-1]).max():.1e}") == 5.0e-5
    to_start = jensen_shannon_nats(path, path[0])
    assert int(np.flatnonzero(to_start > 0.1)[0]) == 62


def test_bias_grows_with_classes_and_falls_with_events():
    assert jensen_shannon_bias_nats(100, 100, 9) == pytest.approx(0.02)
    assert jensen_shannon_bias_nats(100, 100, 1) == 0.0
    np.testing.assert_allclose(jensen_shannon_bias_nats([100, 200], [100, 50], 9), [0.02, 0.025])


@pytest.mark.parametrize(
    ("arguments", "name"), [((0, 1, 2), "n_p"), ((1, -1, 2), "n_q"), ((1, 1, 0), "d"), ((1, np.inf, 2), "n_q")]
)
def test_bias_refuses_impossible_sizes(arguments, name):
    with pytest.raises(EstimatorInputError) as caught:
        jensen_shannon_bias_nats(*arguments)
    assert caught.value.argument == name


def test_kl_smooths_counts_and_not_probabilities():
    counts, baseline = [100, 28, 0, 0], [790, 210, 0, 0]
    q = (np.array(baseline) + 0.5) / (1000 + 0.5 * 4)
    p = np.array(counts) / 128
    expected = sum(p[i] * math.log2(p[i] / q[i]) for i in range(2))
    measured = float(kl_divergence_bits(counts, baseline))
    assert measured == pytest.approx(expected, abs=1e-14)
    assert measured < 0.01


def test_kl_is_finite_where_the_baseline_never_saw_the_class():
    assert kl_divergence_bits([0, 128], [1000, 0]) == pytest.approx(math.log2(1001 / 0.5))


def test_kl_of_an_empty_baseline_is_the_distance_from_uniform():
    assert kl_divergence_bits([8, 0, 0, 0], [0, 0, 0, 0]) == pytest.approx(2.0)


def test_kl_is_zero_for_the_smoothed_baseline_itself():
    assert kl_divergence_bits([1.5, 2.5], [1.0, 2.0]) == pytest.approx(0.0, abs=1e-15)


def test_kl_batch_equals_single():
    windows = np.random.default_rng(3).integers(1, 50, size=(4, 5, 8))
    baselines = np.random.default_rng(4).integers(0, 500, size=(5, 8))
    batch = kl_divergence_bits(windows, baselines)
    assert batch.shape == (4, 5)
    assert batch[2, 3] == kl_divergence_bits(windows[2, 3], baselines[3])


@pytest.mark.parametrize(
    ("counts", "baseline", "smoothing", "name"),
    [
        ([0, 0], [1, 1], 0.5, "counts"),
        ([-1, 2], [1, 1], 0.5, "counts"),
        ([1, 1], [1, -1], 0.5, "baseline_counts"),
        ([1, 1], [1, 1, 1], 0.5, "baseline_counts"),
        ([[1, 1], [1, 1]], [[1, 1], [1, 1], [1, 1]], 0.5, "baseline_counts"),
        (3, [1, 1], 0.5, "baseline_counts"),
        ([1, 1], [1, 1], 0.0, "smoothing"),
    ],
)
def test_kl_refuses_by_name(counts, baseline, smoothing, name):
    with pytest.raises(EstimatorInputError) as caught:
        kl_divergence_bits(counts, baseline, smoothing)
    assert caught.value.argument == name


@pytest.mark.parametrize(
    ("p", "q", "axis", "name"),
    [
        ([0.5, 0.6], [0.5, 0.5], -1, "p"),
        ([0.5, 0.5], [0.5, 0.4], -1, "q"),
        ([0.5, 0.5], [0.5, 0.25, 0.25], -1, "q"),
        ([[0.5, 0.5]] * 2, [[0.5, 0.5]] * 3, -1, "q"),
        ([0.5, 0.5], [0.5, 0.5], 1, "axis"),
    ],
)
def test_jensen_shannon_refuses_by_name(p, q, axis, name):
    with pytest.raises(EstimatorInputError) as caught:
        jensen_shannon_nats(p, q, axis=axis)
    assert caught.value.argument == name
