import itertools
from math import factorial

import numpy as np
import pytest

from eguard.detection.trees import TreeEnsemble
from eguard.errors import ModelError

# x0 <= .5: (x1 <= .3: -2 | 1) ; else: (x0 <= .8: 3 | x2 <= .1: 4 | -1)
TREE = {
    "feature": [0, 1, -1, -1, 0, -1, 2, -1, -1],
    "threshold": [0.5, 0.3, 0, 0, 0.8, 0, 0.1, 0, 0],
    "left": [1, 2, 0, 0, 5, 0, 7, 0, 0],
    "right": [4, 3, 0, 0, 6, 0, 8, 0, 0],
    "value": [0, 0, -2.0, 1.0, 0, 3.0, 0, 4.0, -1.0],
    "cover": [100, 60, 20, 40, 40, 30, 10, 4, 6],
}
STUMP = {
    "feature": [1, -1, -1],
    "threshold": [0.6, 0, 0],
    "left": [1, 0, 0],
    "right": [2, 0, 0],
    "value": [0, 0.5, -0.5],
    "cover": [10, 5, 5],
}
ROWS = np.array([[0.5, 0.3, 0.0], [0.4, 0.31, 0.0], [0.8, 0.0, 0.0], [0.9, 0.7, 0.1], [0.9, 0.7, 0.11]])


def test_rows_reach_the_leaf_that_the_splits_say():
    trees = TreeEnsemble([TREE], baseline=0.0, n_features=3)
    assert trees.predict(ROWS).tolist() == [-2.0, 1.0, 3.0, 4.0, -1.0]


def test_trees_and_baseline_add_up():
    trees = TreeEnsemble([TREE, STUMP], baseline=10.0, n_features=3)
    assert trees.predict(ROWS).tolist() == [8.5, 11.5, 13.5, 13.5, 8.5]
    assert len(trees) == 2


def conditional_expectation(tree, row, known, node=0):
    """The value function of path-dependent Shapley values, by its definition."""
    feature = tree["feature"][node]
    if feature == -1:
        return tree["value"][node]
    left, right = tree["left"][node], tree["right"][node]
    if feature in known:
        return conditional_expectation(tree, row, known, left if row[feature] <= tree["threshold"][node] else right)
    covers = tree["cover"]
    return (
        covers[left] * conditional_expectation(tree, row, known, left)
        + covers[right] * conditional_expectation(tree, row, known, right)
    ) / covers[node]


def shapley_by_definition(tree, row, n):
    values = np.zeros(n)
    for feature in range(n):
        others = [other for other in range(n) if other != feature]
        for size in range(n):
            weight = factorial(size) * factorial(n - size - 1) / factorial(n)
            for known in itertools.combinations(others, size):
                with_it = conditional_expectation(tree, row, {*known, feature})
                values[feature] += weight * (with_it - conditional_expectation(tree, row, set(known)))
    return values


def test_contributions_are_shapley_values():
    trees = TreeEnsemble([TREE, STUMP], baseline=0.0, n_features=3)
    contributions, expected = trees.contributions(ROWS)
    for row, given in zip(ROWS, contributions, strict=True):
        wanted = shapley_by_definition(TREE, row, 3) + shapley_by_definition(STUMP, row, 3)
        np.testing.assert_allclose(given, wanted, atol=1e-12)
    assert expected == pytest.approx(conditional_expectation(TREE, ROWS[0], set()))


def test_contributions_sum_to_the_prediction():
    trees = TreeEnsemble([TREE, STUMP], baseline=-0.3, n_features=5)
    rows = np.random.default_rng(3).random((200, 5))
    contributions, expected = trees.contributions(rows)
    np.testing.assert_allclose(contributions.sum(axis=1) + expected, trees.predict(rows), atol=1e-12)
    assert not contributions[:, 3:].any()


def test_blocks_do_not_show():
    trees = TreeEnsemble([TREE], baseline=0.0, n_features=3)
    rows = np.random.default_rng(4).random((9000, 3))
    np.testing.assert_array_equal(trees.predict(rows), np.concatenate([trees.predict(row[None]) for row in rows]))


def grow(rng, n_leaves, n_features):
    """Return a random tree of `n_leaves` leaves; thresholds are coarse, so that they repeat and rows hit them."""
    tree = {name: [value] for name, value in zip(COLUMNS, (-1, 0, 0, 0, 0.0, n_leaves), strict=True)}
    while tree["feature"].count(-1) < n_leaves:
        splittable = [i for i, f in enumerate(tree["feature"]) if f == -1 and tree["cover"][i] > 1]
        node = int(rng.choice(splittable))
        left_cover = int(rng.integers(1, tree["cover"][node]))
        tree["feature"][node] = int(rng.integers(n_features))
        tree["threshold"][node] = float(rng.integers(1, 10)) / 10
        tree["left"][node], tree["right"][node] = len(tree["cover"]), len(tree["cover"]) + 1
        for cover in (left_cover, tree["cover"][node] - left_cover):
            for name, value in zip(COLUMNS, (-1, 0, 0, 0, float(rng.normal()), cover), strict=True):
                tree[name].append(value)
    return tree


COLUMNS = ("feature", "threshold", "left", "right", "value", "cover")


def walk(tree, row):
    node = 0
    while tree["feature"][node] != -1:
        goes_left = row[tree["feature"][node]] <= tree["threshold"][node]
        node = tree["left" if goes_left else "right"][node]
    return tree["value"][node]


@pytest.mark.parametrize("n_leaves", [1, 2, 17, 63, 64])
def test_scores_equal_a_walk_down_each_tree(n_leaves):
    rng = np.random.default_rng(n_leaves)
    grown = [grow(rng, n_leaves, 6) for _ in range(20)]
    rows = rng.integers(0, 11, (400, 6)) / 10
    scores = TreeEnsemble(grown, baseline=0.5, n_features=6).predict(rows)
    expected = [0.5 + sum(walk(tree, row) for tree in grown) for row in rows]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12)


def test_contributions_of_deep_trees_are_shapley_values():
    rng = np.random.default_rng(5)
    for _ in range(5):
        tree = grow(rng, 24, 7)
        rows = rng.integers(0, 11, (4, 7)) / 10
        contributions, _ = TreeEnsemble([tree], baseline=0.0, n_features=7).contributions(rows)
        expected = [shapley_by_definition(tree, row, 7) for row in rows]
        np.testing.assert_allclose(contributions, expected, rtol=0, atol=1e-12)


def test_more_leaves_than_bits_are_refused():
    with pytest.raises(ModelError, match="more than 64 leaves"):
        TreeEnsemble([grow(np.random.default_rng(1), 65, 3)], baseline=0.0, n_features=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"left": [0, 2, 0, 0, 5, 0, 7, 0, 0]}, "does not come after its parent"),
        ({"right": [99, 3, 0, 0, 6, 0, 8, 0, 0]}, "does not come after its parent"),
        ({"feature": [7, 1, -1, -1, 0, -1, 2, -1, -1]}, "feature that does not exist"),
        ({"feature": [-2, 1, -1, -1, 0, -1, 2, -1, -1]}, "feature that does not exist"),
        ({"value": [0, 0, float("nan"), 1.0, 0, 3.0, 0, 4.0, -1.0]}, "not finite"),
        ({"value": [0, 0]}, "lists of one length"),
        ({"value": None}, "cannot be read|lists of one length"),
        ({"value": "abc"}, "cannot be read"),
        ({"cover": [0, 60, 20, 40, 40, 30, 10, 4, 6]}, "no training row"),
        ({"cover": [100, 60, 20, 40, 40, 30, 10, 4, 7]}, "do not make up"),
        ({"cover": [100, 60, 0, 60, 40, 30, 10, 4, 6]}, "no training row"),
        ({"left": [1, 3, 0, 0, 5, 0, 7, 0, 0]}, "exactly one parent"),
        ({"right": [4, 8, 0, 0, 6, 0, 8, 0, 0]}, "exactly one parent"),
        ({"left": [1.5, 2, 0, 0, 5, 0, 7, 0, 0]}, "does not come after its parent"),
        ({"feature": [0.5, 1, -1, -1, 0, -1, 2, -1, -1]}, "feature that does not exist"),
    ],
)
def test_malformed_trees_are_refused(change, message):
    with pytest.raises(ModelError, match=message):
        TreeEnsemble([{**TREE, **change}], baseline=0.0, n_features=3)


def test_an_ensemble_needs_trees_and_a_number():
    with pytest.raises(ModelError, match="no trees"):
        TreeEnsemble([], baseline=0.0, n_features=3)
    with pytest.raises(ModelError, match="baseline"):
        TreeEnsemble([TREE], baseline=float("inf"), n_features=3)
