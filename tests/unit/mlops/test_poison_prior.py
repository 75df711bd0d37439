"""A poisoned seed hides windows from a new agent, and nothing from one that has learned."""

import numpy as np
import pytest

from eguard.estimators import predictive_kl_thresholds, smoothed_prior_mean
from eguard.mlops.poison_prior import MIXTURES, hidden_by

CLEAN = np.array([0.05, 0.02, 0.01, 0, 0, 0.92, 0, 0])
TARGET = np.array([0, 0, 0.1, 0.7, 0.2, 0, 0, 0])


@pytest.fixture(scope="module")
def rows():
    poisoned = 0.85 * CLEAN + 0.15 * TARGET
    found = hidden_by(CLEAN, poisoned, TARGET, local_events=(0, 100, 1000), windows=400, rng=np.random.default_rng(0))
    return {row["local_events"]: row for row in found}


def test_the_divergence_of_the_implants_window_is_as_computed_by_hand(rows):
    """No own events: q = (0.5 + 100 m)/104; the mean over windows of KL is KL of the target plus its sampling bias."""
    q = (0.5 + 100 * smoothed_prior_mean(CLEAN)) / 104
    used = TARGET > 0
    exact = float((TARGET[used] * np.log2(TARGET[used] / q[used])).sum())
    bias = (used.sum() - 1) / (2 * 128 * np.log(2))
    assert rows[0]["clean"]["kl_bits"][-1] == pytest.approx(exact - bias, abs=0.1)


def test_the_threshold_is_that_of_the_window_test(rows):
    exact = predictive_kl_thresholds(
        100 * CLEAN, 128, (1e-3,), prior_mean=smoothed_prior_mean(CLEAN), kappa=90.0
    )  # 100 events leave the seed a weight of 90
    assert rows[100]["seed_events"] == 90.0
    assert rows[100]["clean"]["threshold_bits"] == pytest.approx(exact[0])


def test_a_poisoned_seed_hides_bits_and_windows(rows):
    assert rows[0]["hidden_bits"] > 1.0
    clean, poisoned = rows[0]["clean"], rows[0]["poisoned"]
    assert poisoned["smallest_found_mixture"] > clean["smallest_found_mixture"]
    of_an_implant = MIXTURES.index(0.1)
    flagged = np.array([poisoned["flagged_fraction"], clean["flagged_fraction"]])[:, of_an_implant:]
    assert (flagged[0] <= flagged[1]).all()
    assert (flagged[0] < flagged[1] - 0.1).any()


def test_it_hides_less_from_an_agent_with_a_past_and_nothing_after_a_thousand_events(rows):
    assert rows[0]["hidden_bits"] > rows[100]["hidden_bits"] > 0.0
    assert rows[1000]["hidden_bits"] == 0.0
    assert rows[1000]["clean"] == rows[1000]["poisoned"]
    assert rows[1000]["seed_events"] == 0.0


def test_ordinary_windows_are_hardly_ever_flagged(rows):
    for row in rows.values():
        assert row["clean"]["flagged_fraction"][MIXTURES.index(0.0)] <= 0.01


def test_an_unpoisoned_seed_hides_nothing():
    (row,) = hidden_by(CLEAN, CLEAN, TARGET, local_events=(30,), windows=100, rng=np.random.default_rng(1))
    assert row["hidden_bits"] == 0.0
