"""Design effects: by hand, by properties and by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eguard.errors import EstimatorInputError
from eguard.estimators.clusters import effective_size, intraclass_correlation, share_correlation


def test_the_correlation_by_hand():
    """Groups 1 2 | 3 5: means 1.5 and 4, between 6.25, within (0.5 + 2) / 2 = 1.25, size 2: 5 / 7.5."""
    assert intraclass_correlation([1.0, 2.0, 3.0, 5.0], [0, 0, 1, 1]) == pytest.approx(5.0 / 7.5)


def test_uneven_groups_by_hand():
    """Groups 0 2 | 4: means 1 and 4, overall 2; between 2 + 4 = 6, within 2; size (3 - 5/3) = 4/3."""
    assert intraclass_correlation([0.0, 2.0, 4.0], ["a", "a", "b"]) == pytest.approx((6.0 - 2.0) / (6.0 + 2.0 / 3.0))


@pytest.mark.parametrize(
    ("values", "clusters"),
    [([1.0], [0]), ([1.0, 2.0], [0, 0]), ([1.0, 2.0], [0, 1]), ([3.0, 3.0, 3.0, 3.0], [0, 0, 1, 1])],
)
def test_what_shows_no_correlation_has_none(values, clusters):
    assert intraclass_correlation(values, clusters) == 0.0
    assert share_correlation(values, clusters) == 0.0


@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(0, 4)), min_size=1, max_size=60),
    st.randoms(use_true_random=False),
)
def test_order_and_names_do_not_matter(pairs, random):
    values, clusters = zip(*pairs, strict=True)
    shuffled = list(pairs)
    random.shuffle(shuffled)
    other = [value for value, _ in shuffled], [f"name {9 - cluster}" for _, cluster in shuffled]
    found = intraclass_correlation(values, clusters)
    assert 0.0 <= found <= 1.0
    assert intraclass_correlation(*other) == pytest.approx(found, abs=1e-9)


def test_the_correlation_of_a_simulation_is_found():
    """300 clusters of 20, a third of the variance between them."""
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(300), 20)
    values = np.sqrt(0.5) * rng.normal(size=300)[clusters] + rng.normal(size=6000)
    assert intraclass_correlation(values, clusters) == pytest.approx(1 / 3, abs=0.04)
    assert 0.1 < share_correlation(values, clusters) < 0.3  # less of it is left when values are cut in two


def test_a_clustered_sample_is_worth_its_variance():
    """The variance of a share over 2,000 simulated samples of 10 clusters of 30."""
    rng = np.random.default_rng(2)
    clusters = np.repeat(np.arange(10), 30)
    values = rng.normal(size=(2000, 10))[:, clusters] + rng.normal(size=(2000, 300))
    shares = np.mean(values <= 0.0, axis=1)
    correlation = np.mean([intraclass_correlation((row <= 0.0).astype(float), clusters) for row in values[:300]])
    assert 0.25 / np.var(shares) == pytest.approx(effective_size(clusters, float(correlation)), rel=0.15)


def test_bad_input_is_named():
    with pytest.raises(EstimatorInputError, match="clusters"):
        intraclass_correlation([1.0, 2.0], [0])
    with pytest.raises(EstimatorInputError, match="values"):
        share_correlation([], [])
    with pytest.raises(EstimatorInputError, match="clusters"):
        effective_size([], 0.5)
    with pytest.raises(EstimatorInputError, match="correlation"):
        effective_size([0, 1], 1.5)
