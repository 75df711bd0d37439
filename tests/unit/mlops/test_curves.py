import numpy as np
import pytest

from eguard.mlops.curves import MAX_POINTS, precision_recall_points, reliability_points, roc_points
from eguard.mlops.intervals import HostSample


@pytest.fixture
def sample():
    rng = np.random.default_rng(2)
    scores = rng.random(5000)
    labels = (rng.random(5000) < scores).astype(np.int8)
    return HostSample(labels, scores, np.ones(5000), np.zeros(5000, np.intp))


def test_curves_are_short_and_keep_their_ends(sample):
    for points, axis in (
        (precision_recall_points(sample, "n"), "recall"),
        (roc_points(sample, "n"), "true_positive_rate"),
    ):
        assert 50 < len(points) <= MAX_POINTS + 2
        values = [point[axis] for point in points]
        assert values == sorted(values)
        assert values[-1] == 1.0


def test_the_area_under_the_thinned_curve_is_that_of_all_points(sample):
    from sklearn.metrics import roc_auc_score

    points = roc_points(sample, "n")
    area = np.trapezoid([p["true_positive_rate"] for p in points], [p["false_positive_rate"] for p in points])
    assert area == pytest.approx(roc_auc_score(sample.labels, sample.scores), abs=0.002)


def test_honest_probabilities_lie_on_the_diagonal(sample):
    points = reliability_points(sample, "n")
    assert len(points) == 15
    assert sum(point["alerts"] for point in points) == 5000
    for point in points:
        assert point["observed"] == pytest.approx(point["predicted"], abs=0.1)
