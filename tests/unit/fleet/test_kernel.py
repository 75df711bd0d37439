"""The kernel: a shard in one go equals its keys one by one, each through the plain estimators."""

import math

import numpy as np
import pytest

from eguard.errors import ConfigError
from eguard.estimators import aggregate_distributions, huber_location
from eguard.fleet.kernel import BELOW_COHORT, BELOW_MIN_MASS, AggregationRules, Votes, aggregate_votes


def votes_of(cohorts, samples=None, interarrival=None):
    """Lay the votes of several keys, one array of shape (voters, 8) each, end to end."""
    sizes = [len(cohort) for cohort in cohorts]
    total = sum(sizes)
    return Votes(
        keys=[f"p{number:03d}:init" for number in range(len(cohorts))],
        starts=np.cumsum([0, *sizes[:-1]]),
        probabilities=np.concatenate(cohorts),
        samples=np.full(total, 100) if samples is None else np.asarray(samples),
        interarrival=np.full(total, np.nan) if interarrival is None else np.asarray(interarrival),
        payload=np.full(total, np.nan),
    )


def random_cohorts(seed, sizes):
    rng = np.random.default_rng(seed)
    return [rng.dirichlet(np.full(8, 2.0), size) for size in sizes]


def test_a_shard_equals_its_keys_one_by_one():
    rng = np.random.default_rng(1)
    cohorts = random_cohorts(1, rng.integers(1, 40, 60).tolist())
    result = aggregate_votes(votes_of(cohorts), AggregationRules())
    by_key = {aggregate.process_key: aggregate for aggregate in result.aggregates}
    for number, cohort in enumerate(cohorts):
        key = f"p{number:03d}:init"
        alone = aggregate_distributions(cohort)
        if len(cohort) < 3:
            assert result.withheld[key] == BELOW_COHORT
        elif alone.distribution is None:
            assert result.withheld[key] == BELOW_MIN_MASS
        else:
            assert np.allclose(by_key[key].distribution, alone.distribution, rtol=0, atol=1e-15)
            assert by_key[key].tolerated_faults == (len(cohort) - 1) // 2
            assert by_key[key].agent_count == len(cohort)
            assert math.isclose(by_key[key].pre_norm_mass, alone.mass, rel_tol=1e-14)
    assert len(by_key) + len(result.withheld) == len(cohorts)
    assert list(by_key) == sorted(by_key)


def test_spread_is_the_deviation_of_the_voters_divergences_in_bits():
    cohort = np.array([[0.5, 0.5, 0, 0, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0, 0, 0, 0], [0.9, 0.1, 0, 0, 0, 0, 0, 0]])
    (aggregate,) = aggregate_votes(votes_of([cohort]), AggregationRules()).aggregates
    smoothed = (np.array([150.0, 150, 0, 0, 0, 0, 0, 0]) + 0.5) / 304.0
    divergences = [sum(p * math.log2(p / q) for p, q in zip(vote, smoothed, strict=True) if p > 0) for vote in cohort]
    assert math.isclose(aggregate.stddev_kl, float(np.std(divergences)), rel_tol=1e-12)


def test_voters_that_agree_have_no_spread():
    cohort = np.tile([0.2, 0.8, 0, 0, 0, 0, 0, 0], (5, 1))
    (aggregate,) = aggregate_votes(votes_of([cohort]), AggregationRules()).aggregates
    assert aggregate.stddev_kl < 1e-12


def test_a_boastful_sample_count_weighs_nothing():
    cohort = random_cohorts(4, [5])[0]
    modest = aggregate_votes(votes_of([cohort]), AggregationRules()).aggregates[0]
    boastful = aggregate_votes(votes_of([cohort], samples=[100, 2**53 - 1, 100, 100, 2**53 - 1]), AggregationRules())
    assert np.array_equal(boastful.aggregates[0].distribution, modest.distribution)
    assert boastful.aggregates[0].voter_samples == 100


def test_votes_below_min_samples_are_counted_and_dropped():
    cohorts = random_cohorts(5, [4, 3])
    result = aggregate_votes(votes_of(cohorts, samples=[30, 30, 29, 30, 30, 30, 1]), AggregationRules())
    assert [aggregate.agent_count for aggregate in result.aggregates] == [3]
    assert result.withheld == {"p001:init": BELOW_COHORT}
    assert result.votes_below_min_samples == 2


def test_continuous_features_are_huber_on_log1p():
    cohorts = random_cohorts(6, [7, 4, 5])
    means = [0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 50.0, 1.0, 1.0, np.nan, np.nan, 2.0, 2.0, 2.0, 2.0, np.nan]
    first, second, third = aggregate_votes(votes_of(cohorts, interarrival=means), AggregationRules()).aggregates
    location, scale = huber_location(means[:7])
    assert math.isclose(first.interarrival.location, math.expm1(location), rel_tol=1e-12)
    assert math.isclose(first.interarrival.scale, math.exp(location) * scale, rel_tol=1e-12)
    assert second.interarrival is None  # two agents are no cohort
    assert (third.interarrival.agent_count, third.interarrival.scale) == (4, 0.0)
    assert math.isclose(third.interarrival.location, math.expm1(2.0))
    assert first.payload is None


def test_nothing_to_publish():
    result = aggregate_votes(votes_of(random_cohorts(7, [1, 2])), AggregationRules())
    assert result.aggregates == []
    assert set(result.withheld.values()) == {BELOW_COHORT}


@pytest.mark.parametrize(("min_agents", "max_colluders", "cohort"), [(3, 1, 3), (3, 2, 5), (10, 2, 10), (1, 0, 1)])
def test_smallest_cohort(min_agents, max_colluders, cohort):
    assert AggregationRules(min_agents=min_agents, max_colluders=max_colluders).smallest_cohort == cohort


@pytest.mark.parametrize(
    "wrong", [{"alpha": 0.5}, {"min_mass": 1.0}, {"min_agent_age_seconds": -1.0}, {"min_agents": 0}]
)
def test_rules_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError) as caught:
        AggregationRules(**wrong)
    assert caught.value.context["parameter"] in wrong


def test_votes_beyond_a_tokens_share_are_counted_and_dropped():
    """Ten names by one token beside five machines: one vote of theirs stays, and the key keeps its cohort."""
    honest, forged = np.tile([0.9, 0.1, 0, 0, 0, 0, 0, 0], (5, 1)), np.tile([0, 0, 0, 0, 0, 0, 0, 1.0], (10, 1))
    votes = votes_of([np.concatenate([honest, forged]), np.tile([0.5, 0.5, 0, 0, 0, 0, 0, 0], (4, 1))])
    tokens = np.array([-1] * 5 + [7] * 10 + [7] * 4)
    result = aggregate_votes(votes._replace(tokens=tokens), AggregationRules(max_token_share=0.1))
    (aggregate,) = result.aggregates
    assert aggregate.agent_count == 6
    assert aggregate.distribution[0] > 0.85
    first, second = result.tallies
    assert (first.votes, first.votes_beyond_token_share, first.withheld) == (6, 9, None)
    assert (second.votes, second.votes_beyond_token_share, second.withheld) == (1, 3, BELOW_COHORT)
    assert len(aggregate_votes(votes._replace(tokens=tokens), AggregationRules(max_token_share=1.0)).aggregates) == 2
