"""The geometric median where its answer is known."""

import math

import numpy as np
import pytest

from eguard.errors import EstimatorInputError
from eguard.estimators import geometric_median, geometric_medians
from eguard.estimators.geometric_median import _vardi_zhang_step


def test_the_centre_of_a_square_is_its_geometric_median():
    np.testing.assert_allclose(geometric_median([[0, 0], [0, 1], [1, 0], [1, 1]]), [0.5, 0.5], atol=1e-9)


def test_an_obtuse_triangle_ends_at_the_obtuse_corner():
    # With an angle of 120 degrees or more the Fermat point is that corner.
    np.testing.assert_array_equal(geometric_median([[0.0, 0.0], [10.0, 0.1], [-10.0, 0.1]]), [0.0, 0.0])


def test_the_fermat_point_sees_all_sides_at_120_degrees():
    corners = np.array([[0.0, 0.0], [4.0, 0.0], [1.0, 3.0]])
    arms = corners - geometric_median(corners)
    arms /= np.linalg.norm(arms, axis=1)[:, None]
    np.testing.assert_allclose([arms[0] @ arms[1], arms[1] @ arms[2], arms[2] @ arms[0]], -0.5, atol=1e-8)


def test_it_is_the_median_on_a_line():
    np.testing.assert_allclose(geometric_median([[1.0], [2.0], [3.0], [4.0], [100.0]]), [3.0], atol=1e-9)


def test_a_majority_at_one_point_decides():
    rows = [[0.2, 0.8]] * 4 + [[1.0, 0.0]] * 3
    assert geometric_median(rows).tolist() == [0.2, 0.8]


def test_a_start_on_a_point_that_is_not_the_answer_moves_on():
    # The mean of these rows is the first row, and the answer is not.
    rows = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.2], [1.0, -0.2], [-3.0, 0.0]])
    answer = geometric_median(rows)
    cost = np.linalg.norm(rows - answer, axis=1).sum()
    nudges = 1e-4 * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    for other in np.vstack([rows, answer + nudges]):
        assert cost <= np.linalg.norm(rows - other, axis=1).sum() + 1e-12


def test_three_one_hot_votes_meet_in_the_middle_of_the_simplex():
    np.testing.assert_allclose(geometric_median(np.eye(3)), [1 / 3] * 3, atol=1e-9)


def test_the_step_from_a_point_is_shortened_by_that_points_own_weight():
    points = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    step = _vardi_zhang_step(points[None], points[:1], np.linalg.norm(points, axis=1)[None])[0]
    # Weights 1/2, 1/2, 1/sqrt(8); the pull is (1 + 1/sqrt(2)) in both coordinates.
    target = (1.0 + 2.0 / math.sqrt(8.0)) / (1.0 + 1.0 / math.sqrt(8.0))
    pull = math.sqrt(2.0) * (1.0 + 1.0 / math.sqrt(2.0))
    np.testing.assert_allclose(step, (1.0 - 1.0 / pull) * target, rtol=1e-14)


def test_many_samples_together_equal_each_alone():
    rng = np.random.default_rng(4)
    samples = rng.dirichlet(np.full(8, 0.7), size=(30, 21))
    samples[3, :12] = samples[3, 0]  # a majority at one point
    samples[5, :10] = np.eye(8)[7]  # a large minority there
    together = geometric_medians(samples)
    for sample, median in zip(samples, together, strict=True):
        np.testing.assert_array_equal(geometric_median(sample), median)


def test_a_batch_of_single_samples_is_refused():
    with pytest.raises(EstimatorInputError):
        geometric_medians([[0.5, 0.5]])


@pytest.mark.parametrize("x", [[], [1.0, 2.0], [[np.nan, 1.0]], [[[1.0]]]])
def test_bad_input_is_refused(x):
    with pytest.raises(EstimatorInputError):
        geometric_median(x)
