"""The metrics agree with scikit-learn and SciPy, weighted and unweighted, with and without ties."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as peer

from eguard.mlops import metrics


@pytest.fixture(params=["continuous", "tied", "two values"])
def rows(request):
    rng = np.random.default_rng(7)
    n = 3000
    labels = (rng.random(n) < 0.2).astype(int)
    scores = np.clip(rng.normal(0.3 + 0.2 * labels, 0.15), 0.001, 0.999)
    if request.param == "tied":
        scores = np.round(scores, 2)
    if request.param == "two values":
        scores = np.where(scores > 0.4, 0.9, 0.1)
    return labels, scores, rng.gamma(1.0, 3.0, n)


PEERS = [
    (metrics.average_precision, peer.average_precision_score),
    (metrics.roc_auc, peer.roc_auc_score),
    (metrics.brier_score, peer.brier_score_loss),
    (metrics.log_loss, peer.log_loss),
]


@pytest.mark.parametrize(("ours", "theirs"), PEERS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("is_weighted", [False, True])
def test_a_metric_equals_scikit_learns(rows, ours, theirs, is_weighted):
    labels, scores, weights = rows
    given = weights if is_weighted else None
    assert float(ours(metrics.tally(labels, scores, given))) == pytest.approx(
        theirs(labels, scores, sample_weight=given), abs=1e-12
    )


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.2])
def test_recall_at_a_false_positive_rate_is_a_point_of_scikit_learns_curve(rows, rate):
    labels, scores, weights = rows
    false_positive_rate, recall, _ = peer.roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    expected = recall[false_positive_rate <= rate].max()
    found = metrics.recall_at_false_positive_rate(metrics.tally(labels, scores, weights), rate)
    assert float(found) == pytest.approx(expected, abs=1e-12)


def test_precision_and_recall_at_a_threshold_equal_scikit_learns(rows):
    labels, scores, weights = rows
    counts = metrics.tally(labels, scores, weights)
    flagged = scores >= 0.4
    assert float(metrics.precision_at(counts, 0.4)) == pytest.approx(
        peer.precision_score(labels, flagged, sample_weight=weights), abs=1e-12
    )
    assert float(metrics.recall_at(counts, 0.4)) == pytest.approx(
        peer.recall_score(labels, flagged, sample_weight=weights), abs=1e-12
    )


def test_equal_mass_bins_are_those_of_scikit_learns_calibration_curve():
    rng = np.random.default_rng(3)
    scores = rng.random(1500)
    labels = (rng.random(1500) < scores**2).astype(int)
    from sklearn.calibration import calibration_curve

    observed, predicted = calibration_curve(labels, scores, n_bins=15, strategy="quantile")
    counts = metrics.tally(labels, scores)
    ours_predicted, ours_observed, mass = metrics.reliability(counts, metrics.equal_mass_bins(counts))
    assert mass.tolist() == [100.0] * 15
    assert ours_predicted == pytest.approx(predicted, abs=1e-3)
    assert ours_observed == pytest.approx(observed, abs=0.011)  # quantile edges may put one row in the next bin


@pytest.mark.parametrize("split", [(0, 0), (1, 0), (9, 1), (12, 12), (3, 20), (24, 0)])
def test_mcnemar_is_the_binomial_test_below_25(split):
    first_only, second_only = split
    first = np.array([True] * first_only + [False] * second_only + [True] * 50)
    second = np.array([False] * first_only + [True] * second_only + [True] * 50)
    result = metrics.mcnemar(first, second)
    expected = binomtest(first_only, first_only + second_only).pvalue if sum(split) else 1.0
    assert result["method"] == "exact"
    assert result["p_value"] == pytest.approx(expected, abs=1e-12)


def test_mcnemar_agrees_with_statsmodels_from_25_on():
    from statsmodels.stats.contingency_tables import mcnemar

    first = np.array([True] * 30 + [False] * 15 + [True] * 50)
    second = np.array([False] * 30 + [True] * 15 + [True] * 50)
    expected = mcnemar([[50, 30], [15, 0]], exact=False, correction=True)
    assert metrics.mcnemar(first, second)["p_value"] == pytest.approx(expected.pvalue, abs=1e-12)
