"""The bounds, by hand and by exhaustion."""

import itertools

import numpy as np
import pytest

from eguard.errors import ConfigError
from eguard.mlops.poison_bounds import (
    AGGREGATORS,
    aggregator_named,
    clean_aggregate,
    max_liars,
    order_statistics_reached,
    shift_bound,
)


def test_the_median_of_five_with_one_liar_by_hand():
    # Honest first coordinates .1 .2 .3 .4: with one liar at 0 the median is .2, at 1 it is .3; clean .25.
    first = np.array([0.1, 0.2, 0.3, 0.4])
    honest = np.column_stack([first, 1 - first])
    low, high = order_statistics_reached(honest, 1)
    np.testing.assert_allclose(low, [0.2, 0.7])
    np.testing.assert_allclose(high, [0.3, 0.8])
    # The corner (.3, .7) moves by .05, and so does (.2, .8).
    assert shift_bound(honest, 1, "trimmed_median") == pytest.approx(0.05)


def test_the_mean_moves_by_its_share_of_liars_at_most():
    honest = np.array([[0.7, 0.3, 0.0], [0.8, 0.2, 0.0], [0.6, 0.4, 0.0]])
    assert shift_bound(honest, 1, "mean") == pytest.approx(0.25)
    worst = np.vstack([honest, [0.0, 0.0, 1.0]]).mean(axis=0)
    assert 0.5 * np.abs(worst - honest.mean(axis=0)).sum() == pytest.approx(0.25)


def test_the_corner_is_the_worst_point_of_the_box():
    rng = np.random.default_rng(0)
    honest = rng.dirichlet([5, 3, 2, 1], size=11)
    low, high = order_statistics_reached(honest, 4)
    clean = clean_aggregate(honest, "trimmed_median")
    corners = np.array(list(itertools.product(*zip(low, high, strict=True))))
    inside = np.vstack([corners, rng.uniform(low, high, size=(20_000, 4))])
    moved = 0.5 * np.abs(inside / inside.sum(axis=1, keepdims=True) - clean).sum(axis=1)
    assert shift_bound(honest, 4, "trimmed_median") == pytest.approx(moved.max())
    assert moved.argmax() < len(corners)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_no_liar_moves_nothing(aggregator):
    assert shift_bound(np.full((5, 8), 0.125), 0, aggregator) == 0.0


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_more_liars_have_more_room(aggregator):
    honest = np.random.default_rng(3).dirichlet([9, 5, 3, 1, 1, 1, 0.5, 0.5], size=30)
    bounds = [shift_bound(honest, liars, aggregator) for liars in range(15)]
    assert bounds == sorted(bounds)
    assert 0.0 < bounds[1] < 1.0


def test_a_unanimous_minority_proof_fleet_does_not_move():
    same = np.tile([0.5, 0.25, 0.25], (7, 1))
    assert shift_bound(same, 3, "trimmed_median") == pytest.approx(0.0)
    assert shift_bound(same, 3, "geometric_median") == 0.0
    assert shift_bound(same, 3, "mean") == pytest.approx(0.3 * 0.75)


def test_votes_without_a_common_ground_have_no_bound():
    apart = np.eye(8)
    assert clean_aggregate(apart, "trimmed_median") is None
    assert shift_bound(apart, 1, "trimmed_median") == 1.0


@pytest.mark.parametrize(
    ("agents", "share", "liars"), [(20, 0.49, 9), (20, 0.5, 9), (3, 0.3, 1), (200, 0.05, 10), (9, 0, 0)]
)
def test_liars_are_a_minority(agents, share, liars):
    assert max_liars(agents, share) == liars
    assert 2 * liars < agents


def test_an_unknown_aggregator_is_told_the_known_ones():
    with pytest.raises(ConfigError, match="no aggregator") as error:
        aggregator_named("mode")
    assert "geometric_median" in error.value.remedy
    assert [aggregator_named(name) for name in AGGREGATORS] == list(AGGREGATORS)
