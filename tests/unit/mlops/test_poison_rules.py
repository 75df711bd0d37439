"""Facts of the rule: counts have no weight, identities do."""

import numpy as np
import pytest

from eguard.mlops.poison_rules import sample_count_inflation, small_cohorts, sybil

HONEST = np.random.default_rng(0).dirichlet([0.5, 0.5, 0.5, 0.5, 0.5, 50, 0.5, 0.5], size=20)
LIE = np.eye(8)[7]


def test_an_inflated_sample_count_changes_nothing_but_a_weighted_mean():
    found = sample_count_inflation(HONEST, np.full(20, 100), LIE, 4)
    assert found["is_published_alike"]
    assert found["weighted_mean_total_variation"] > 0.9
    assert (found["n_agents"], found["n_liars"]) == (24, 4)


def test_one_attacker_with_as_many_identities_as_the_fleet_decides():
    found = sybil(HONEST, LIE)
    needed = list(found["identities_for_total_variation"].values())
    assert needed == sorted(needed)
    # A median of 20 honest and s equal votes is the lie from s = 21 on; at 20 it lies halfway.
    assert found["identities_to_decide"] == 21
    assert found["honest_agents"] == 20


@pytest.mark.parametrize(("max_colluders", "smallest"), [(1, 3), (2, 5), (5, 20)])
def test_a_key_needs_twice_its_colluders_and_one(max_colluders, smallest):
    rows = small_cohorts(3, max_colluders)
    published = [row["n_agents"] for row in rows if row["is_published"]]
    assert min(published) == smallest
    for row in rows:
        assert row["tolerated_faults"] < row["identities_to_decide"]
        if row["is_published"]:
            assert row["tolerated_faults"] >= max_colluders
