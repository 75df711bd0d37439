import numpy as np
import pytest

from eguard.mlops import metrics
from eguard.mlops.metrics import Tally, tally


def test_average_precision_by_hand():
    # Ranked 1 0 1 0 with ties broken by nothing: precision 1/1 at the first attack, 2/3 at the second.
    assert float(metrics.average_precision(tally([1, 0, 1, 0], [4, 3, 2, 1]))) == pytest.approx((1 + 2 / 3) / 2)
    # All tied: precision is the base rate at the only threshold.
    assert float(metrics.average_precision(tally([1, 0, 0, 0], [1, 1, 1, 1]))) == 0.25


def test_a_weight_is_that_many_rows():
    labels, scores, weights = [1, 0, 1, 0, 0], [0.9, 0.7, 0.7, 0.4, 0.1], [2, 3, 1, 4, 1]
    copies = np.repeat(np.arange(5), weights)
    weighted = tally(labels, scores, weights)
    repeated = tally(np.array(labels)[copies], np.array(scores)[copies])
    bins = metrics.equal_mass_bins(weighted)
    for name, value in metrics.all_metrics(weighted, threshold=0.5, bins=bins).items():
        assert float(value) == pytest.approx(float(metrics.all_metrics(repeated, threshold=0.5, bins=bins)[name])), name


def test_leading_axes_are_resamplings():
    rng = np.random.default_rng(2)
    scores = np.sort(rng.random(40))[::-1]
    attacks, others = rng.integers(0, 3, (5, 40)).astype(float), rng.integers(0, 3, (5, 40)).astype(float)
    together = Tally(scores, attacks, others)
    bins = metrics.equal_mass_bins(Tally(scores, attacks.sum(axis=0), others.sum(axis=0)))
    all_at_once = metrics.all_metrics(together, threshold=0.5, bins=bins)
    for row in range(5):
        alone = metrics.all_metrics(Tally(scores, attacks[row], others[row]), threshold=0.5, bins=bins)
        for name, value in alone.items():
            assert all_at_once[name][row] == pytest.approx(float(value), nan_ok=True), name


def test_without_attacks_there_is_no_answer():
    counts = tally([0, 0], [0.2, 0.3])
    assert np.isnan(metrics.average_precision(counts))
    assert np.isnan(metrics.roc_auc(counts))
    assert np.isnan(metrics.recall_at_false_positive_rate(counts, 0.1))
    assert float(metrics.brier_score(counts)) == pytest.approx((0.04 + 0.09) / 2)


def test_recall_at_a_rate_never_flags_more_than_the_rate():
    # 100 others; the best attack outranks all, the second ties with the top other.
    labels = [1, 1, 0] + [0] * 99
    scores = [3.0, 2.0, 2.0] + [1.0] * 99
    counts = tally(labels, scores)
    assert float(metrics.recall_at_false_positive_rate(counts, 0.009)) == 0.5
    assert float(metrics.recall_at_false_positive_rate(counts, 0.01)) == 1.0


def test_calibration_error_of_a_known_miscalibration():
    labels = np.tile([1, 0, 0, 0], 150)
    assert float(metrics.expected_calibration_error(tally(labels, np.full(600, 0.25)))) == pytest.approx(0.0)
    assert float(metrics.expected_calibration_error(tally(labels, np.full(600, 0.65)))) == pytest.approx(0.4)


def test_mcnemar_changes_method_at_25_discordant_rows():
    first = np.array([True] * 24)
    assert metrics.mcnemar(first, ~first)["method"] == "exact"
    first = np.array([True] * 25)
    assert metrics.mcnemar(first, ~first)["method"] == "chi2"


def test_mcnemar_without_a_difference_finds_none():
    same = np.array([True, False, True])
    assert metrics.mcnemar(same, same)["p_value"] == 1.0
