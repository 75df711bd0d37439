"""The sweep: what it reports is what its parts say, and more liars do more harm."""

from dataclasses import replace

import numpy as np
import pytest

from eguard.estimators import aggregate_distributions
from eguard.mlops.poison_attacks import ATTACKS
from eguard.mlops.poison_bounds import AGGREGATORS
from eguard.mlops.poison_profiles import KeyProfiles
from eguard.mlops.poison_sweep import (
    WORST,
    aggregates,
    key_rows,
    mean_with_interval,
    median_against_mean,
    sweep_cohorts,
    sweep_rows,
)

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.49)
# Hosts that agree about as much as the shipped ones do: one loads modules, a few percent of the rest.
AGREEING = KeyProfiles(
    "a:b",
    ("h1", "h2", "h3"),
    np.array([[12, 3, 2, 1, 1, 181, 0, 0], [9, 5, 1, 1, 3, 201, 0, 0], [20, 6, 4, 1, 1, 320, 0, 0]]),
)
APART = KeyProfiles("c:d", ("h1", "h2", "h3"), np.diag([60, 50, 40, 0, 0, 0, 0, 0])[:3])


@pytest.fixture(scope="module")
def sweep():
    return sweep_cohorts([AGREEING], 40, SHARES, 6, np.random.default_rng(5))


@pytest.fixture(scope="module")
def rows(sweep):
    return {(row["share"], row["attack"], row["aggregator"]): row for row in sweep_rows(sweep)}


def test_every_share_attack_and_aggregator_has_a_row(rows):
    assert len(rows) == len(SHARES) * (len(ATTACKS) + 1) * len(AGGREGATORS)


def test_no_liar_moves_nothing(rows):
    for (share, _, _), row in rows.items():
        if share == 0.0:
            assert row["total_variation"]["value"] == row["js_nats"]["value"] == row["bound"] == 0.0
            assert row["n_liars"] == 0


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_the_worst_attack_grows_with_the_share_and_stays_within_the_bound(rows, aggregator):
    worst = [rows[share, WORST, aggregator] for share in SHARES]
    moved = [row["total_variation"]["value"] for row in worst]
    assert moved == sorted(moved)
    assert all(row["total_variation"]["value"] <= row["bound"] + 1e-9 for row in worst)
    assert all(row["is_within_bound"] for row in rows.values())


def test_the_worst_is_the_worst_of_each_cohort(sweep, rows):
    median = AGGREGATORS.index("trimmed_median")
    by_hand = sweep.shift[2, :, median, 0].max(axis=0).mean()
    assert rows[0.2, WORST, "trimmed_median"]["total_variation"]["value"] == pytest.approx(by_hand)


def test_one_hot_moves_the_mean_by_the_share_of_liars(rows):
    row = rows[0.2, "one-hot", "mean"]
    assert row["total_variation"]["value"] == pytest.approx(0.2, abs=1e-9)
    assert row["bound"] == pytest.approx(0.2, abs=1e-9)


def test_the_median_bears_one_hot_and_loses_to_the_mean_under_lie(rows, sweep):
    assert rows[0.1, "one-hot", "trimmed_median"]["total_variation"]["value"] < 0.02
    losses = {(row["share"], row["attack"]): row for row in median_against_mean(sweep)}
    assert losses[0.1, "lie"]["excess"]["interval"][0] > 0.0
    assert losses[0.1, "lie"]["keys_lost"] == 1
    assert losses[0.1, "one-hot"]["excess"]["interval"][1] < 0.0


def test_hosts_that_disagree_are_not_published_and_said_to_be_so():
    sweep = sweep_cohorts([APART], 30, (0.0, 0.2), 2, np.random.default_rng(0))
    rows = {(row["share"], row["attack"], row["aggregator"]): row for row in sweep_rows(sweep)}
    row = rows[0.2, "one-hot", "trimmed_median"]
    assert row["published_fraction"] == 0.0
    assert row["total_variation"] == {"value": None, "interval": None}
    assert row["bound"] == 1.0
    assert rows[0.2, "one-hot", "mean"]["published_fraction"] == 1.0


def test_key_rows_average_to_the_sweep(sweep, rows):
    for row in key_rows(sweep):
        assert row["process_key"] == "a:b"
        whole = rows[row["share"], WORST, row["aggregator"]]
        assert row["total_variation"]["value"] == pytest.approx(whole["total_variation"]["value"])


@pytest.mark.parametrize("aggregator", [name for name in AGGREGATORS if name != "mean"])
def test_cohorts_together_equal_each_alone(aggregator):
    votes = np.random.default_rng(1).dirichlet(np.full(8, 2.0), size=(15, 5))
    together = aggregates(votes, aggregator)
    for cohort in range(5):
        alone = aggregate_distributions(votes[:, cohort], method=aggregator).distribution
        np.testing.assert_allclose(together[cohort], alone, atol=1e-12)


def test_the_interval_is_students():
    # Mean 2, standard error 1/sqrt(3), t with 2 degrees of freedom at 97.5 %: 4.30265.
    found = mean_with_interval(np.array([0.4, 0.5, 0.6, np.nan]))
    assert found["value"] == 0.5
    np.testing.assert_allclose(found["interval"], 0.5 + 0.1 * 4.302652730 / 3**0.5 * np.array([-1, 1]), atol=1e-8)
    assert mean_with_interval(np.array([0.0, 0.9]))["interval"] == [0.0, 1.0]
    assert mean_with_interval(np.array([0.0, 0.9]), least=-1.0)["interval"] == [-1.0, 1.0]
    assert mean_with_interval(np.array([0.5])) == {"value": 0.5, "interval": None}


def test_a_single_cohort_beyond_its_bound_is_not_within(sweep):
    broken = replace(sweep, bound=sweep.bound.copy())
    broken.bound[2, AGGREGATORS.index("trimmed_median"), 0, 3] = 1e-6
    rows = {(row["share"], row["attack"], row["aggregator"]): row for row in sweep_rows(broken)}
    assert not rows[0.2, WORST, "trimmed_median"]["is_within_bound"]
    assert rows[0.3, WORST, "trimmed_median"]["is_within_bound"]


def test_the_same_seed_gives_the_same_sweep(sweep):
    again = sweep_cohorts([AGREEING], 40, SHARES, 6, np.random.default_rng(5))
    np.testing.assert_array_equal(again.shift, sweep.shift)
    np.testing.assert_array_equal(again.bound, sweep.bound)
