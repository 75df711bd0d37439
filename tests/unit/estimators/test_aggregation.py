"""Aggregation: golden vectors, the two forms, and every reason to refuse."""

import numpy as np
import pytest

from eguard.errors import EstimatorInputError
from eguard.estimators import aggregate_distributions, aggregate_many, geometric_median, order_statistics

VOTES = [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.65, 0.25, 0.1], [0.1, 0.1, 0.8], [0.2, 0.2, 0.6]]


def test_five_votes_give_their_medians_divided_by_their_sum():
    consensus = aggregate_distributions(VOTES)
    assert consensus.mass == pytest.approx(0.9, abs=1e-12)
    np.testing.assert_allclose(consensus.distribution, np.array([0.6, 0.2, 0.1]) / 0.9, atol=1e-12)
    assert consensus.tolerated_faults == 2


def test_three_one_hot_votes_are_not_published():
    consensus = aggregate_distributions(np.eye(3))
    assert consensus.distribution is None
    assert (consensus.mass, consensus.tolerated_faults) == (0.0, 1)


def test_medians_may_sum_to_more_than_one():
    consensus = aggregate_distributions([[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    assert consensus.mass == 1.5
    np.testing.assert_allclose(consensus.distribution, [1 / 3] * 3)


def test_the_minimum_mass_itself_is_published():
    votes = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    assert aggregate_distributions(votes).mass == 0.5
    assert aggregate_distributions(votes).distribution.tolist() == [1.0, 0.0, 0.0]
    assert aggregate_distributions(votes, min_mass=0.500001).distribution is None


@pytest.mark.parametrize(("k", "faults"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (200, 99)])
def test_a_median_tolerates_every_minority(k, faults):
    assert aggregate_distributions([[0.5, 0.5]] * k).tolerated_faults == faults


def test_a_trimmed_mean_tolerates_only_what_it_trims():
    votes = [[0.25, 0.75]] * 36 + [[1.0, 0.0]] * 4
    consensus = aggregate_distributions(votes, alpha=0.1, method="trimmed_mean")
    np.testing.assert_allclose(consensus.distribution, [0.25, 0.75])
    assert consensus.tolerated_faults == 4


def test_the_geometric_median_keeps_mass_one():
    consensus = aggregate_distributions(VOTES, method="geometric_median")
    assert consensus.mass == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(consensus.distribution, geometric_median(VOTES), atol=1e-12)
    assert consensus.tolerated_faults == 2


def cohorts(rng, sizes, d=8):
    return [rng.dirichlet(np.full(d, 0.4), size=size) for size in sizes]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("method", ["trimmed_median", "trimmed_mean", "geometric_median"])
def test_ragged_cohorts_equal_one_key_at_a_time(monkeypatch, rng, method, threads):
    monkeypatch.setattr(order_statistics, "BLOCK_VALUES", 256)
    votes = cohorts(rng, [3, 1, 70, 3, 40, 3, 70, 2, 65])
    offsets = np.cumsum([0] + [len(v) for v in votes])
    fleet = aggregate_many(np.concatenate(votes), offsets, method=method, min_mass=0.8, threads=threads)
    assert len(fleet) == len(votes)
    assert fleet.n_agents.tolist() == [len(v) for v in votes]
    for index, one in enumerate(votes):
        single = aggregate_distributions(one, method=method, min_mass=0.8)
        assert fleet[index].mass == single.mass
        assert fleet[index].tolerated_faults == single.tolerated_faults
        assert fleet.published[index] == (single.distribution is not None)
        if single.distribution is None:
            assert fleet[index].distribution is None
            assert np.isnan(fleet.distributions[index]).all()
        else:
            np.testing.assert_array_equal(fleet[index].distribution, single.distribution)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_dense_form_equals_the_ragged_one(monkeypatch, rng, threads):
    monkeypatch.setattr(order_statistics, "BLOCK_VALUES", 512)
    votes = rng.dirichlet(np.ones(8), size=(30, 13))
    dense = aggregate_many(votes, threads=threads)
    ragged = aggregate_many(votes.transpose(1, 0, 2).reshape(-1, 8), np.arange(0, 13 * 30 + 1, 30))
    np.testing.assert_array_equal(dense.distributions, ragged.distributions)
    np.testing.assert_array_equal(dense.mass, ragged.mass)
    assert dense.n_agents.tolist() == [30] * 13


def test_aggregation_leaves_its_input_alone(rng):
    votes = rng.dirichlet(np.ones(4), size=9)
    before = votes.copy()
    aggregate_distributions(votes)
    aggregate_many(votes, [0, 4, 9], method="trimmed_mean")
    np.testing.assert_array_equal(votes, before)


def test_published_rows_sum_to_one(rng):
    fleet = aggregate_many(rng.dirichlet(np.ones(8), size=(21, 50)))
    assert fleet.published.all()
    np.testing.assert_allclose(fleet.distributions.sum(axis=1), 1.0, atol=1e-12)


@pytest.mark.parametrize("bad", [[0.5, 0.6], [1.5, -0.5], [np.nan, 1.0], [np.inf, 0.0], [np.inf, -np.inf], [0.0, 0.0]])
def test_the_message_names_key_and_vote(bad):
    votes = np.full((7, 2), 0.5)
    votes[5] = bad
    with pytest.raises(EstimatorInputError, match="vote 2 on key 1 is not a distribution") as caught:
        aggregate_many(votes, [0, 3, 7])
    assert caught.value.context == {"key": 1, "vote": 2}
    dense = np.full((6, 4, 2), 0.5)
    dense[4, 3] = bad
    with pytest.raises(EstimatorInputError, match="vote 4 on key 3"):
        aggregate_many(dense, threads=2)


@pytest.mark.parametrize(
    "offsets", [[0], [0, 2], [1, 4], [0, 5], [0, 2, 2, 4], [0, 3, 2, 4], [0.0, 4.0], [[0, 4]], ["0", "4"]]
)
def test_offsets_that_do_not_partition_the_votes_are_refused(offsets):
    with pytest.raises(EstimatorInputError) as caught:
        aggregate_many(np.full((4, 2), 0.5), offsets)
    assert caught.value.argument == "offsets"


@pytest.mark.parametrize(
    ("p", "arguments", "name"),
    [
        ([], {}, "p"),
        ([0.5, 0.5], {}, "p"),
        ([["a", "b"]], {}, "p"),
        ([[0.5, 0.5]], {"alpha": 0.5}, "alpha"),
        ([[0.5, 0.5]], {"min_mass": 0.0}, "min_mass"),
        ([[0.5, 0.5]], {"method": "mean"}, "method"),
    ],
)
def test_other_arguments_are_refused_by_name(p, arguments, name):
    with pytest.raises(EstimatorInputError) as caught:
        aggregate_distributions(p, **arguments)
    assert caught.value.argument == name


@pytest.mark.parametrize("shape", [(3, 2), (0, 2, 2), (2, 0, 2)])
def test_the_dense_form_needs_three_full_dimensions(shape):
    with pytest.raises(EstimatorInputError, match=r"\(n_agents, n_keys, d\)"):
        aggregate_many(np.full(shape, 0.5))


def test_text_votes_are_refused_in_the_dense_form():
    with pytest.raises(EstimatorInputError, match="real numbers"):
        aggregate_many([[["a"]]])
