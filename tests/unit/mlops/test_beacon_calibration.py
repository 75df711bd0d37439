"""The beacon threshold: what counts as one of a hundred, who calibrates, and what the check counts."""

import numpy as np
import pytest

from eguard.estimators.beacon import BeaconOptions
from eguard.events import EventBatch
from eguard.mlops.beacon_calibration import (
    READINGS,
    SCORED_PAIR,
    PairScores,
    calibration_of,
    check_random_halves,
    check_transfer,
    false_alarms,
    hash_halves,
    threshold_json,
    threshold_of,
)
from eguard.mlops.beacon_pairs import pairs_from_events


def scores_of(rows):
    """Rows of (host, destination, score or None where not scored)."""
    host, destination, score = zip(*rows, strict=True)
    return PairScores(
        np.array(host),
        np.array(destination),
        np.array([value or 0.0 for value in score]),
        np.array([value is not None for value in score]),
    )


def test_a_destination_has_the_largest_score_that_any_host_gives_it():
    scores = scores_of([(0, 0, 0.3), (1, 0, 0.8), (1, 1, None), (2, 2, 0.5), (2, 1, 0.1)])
    assert scores.by_destination().tolist() == [0.8, 0.1, 0.5]
    assert scores.by_destination(scored_only=True).tolist() == [0.8, 0.1, 0.5]


def test_destinations_that_cannot_be_scored_count_in_one_reading_only():
    scores = scores_of([(0, name, None) for name in range(98)] + [(0, 98, 0.4), (1, 98, 0.9)])
    every, scored = threshold_of(scores, 0.01), threshold_of(scores, 0.01, "scored_destination")
    assert (every.n, every.rank, every.threshold) == (99, 99, 0.9)
    assert (scored.n, scored.status) == (1, "insufficient_calibration")
    assert threshold_json(scored)["threshold"] is None


def test_readings_rise_in_strictness():
    rng = np.random.default_rng(0)
    rows = [(host, name, rng.random() if name % 3 == 0 else None) for host in range(5) for name in range(600)]
    scores = scores_of(rows)
    levels = {name: threshold_of(scores, 0.01, name).threshold for name in READINGS}
    assert levels["pair"] <= levels["scored_pair"] <= levels["scored_destination"]
    assert levels["pair"] <= levels["destination"] <= levels["scored_destination"]


def test_nothing_to_calibrate_on_alarms_never():
    empty = scores_of([(0, 0, None)]).take(np.array([False]))
    assert threshold_of(empty, 0.01).threshold == np.inf
    assert threshold_of(scores_of([(0, 0, None)]), 0.01, SCORED_PAIR).status == "insufficient_calibration"


def test_false_alarms_are_counted_by_destination_and_by_pair():
    scores = scores_of([(0, 0, 0.9), (1, 0, 0.8), (0, 1, 0.2), (1, 2, None)])
    counts = false_alarms(scores, 0.5)
    assert (counts["destinations"]["count"], counts["destinations"]["of"]) == (1, 3)
    assert (counts["scored_destinations"]["count"], counts["scored_destinations"]["of"]) == (1, 2)
    assert (counts["scored_pairs"]["count"], counts["scored_pairs"]["of"]) == (2, 3)
    low, high = counts["destinations"]["interval"]
    assert low < 1 / 3 < high


def test_the_check_counts_the_other_hosts_and_their_new_destinations():
    calibrating = [(0, name, 0.1) for name in range(99)]
    checking = [(1, 0, 0.9), (1, 200, 0.9), (1, 201, None)]
    scores = scores_of(calibrating + checking)
    checked = check_transfer(scores, scores.host == 0, 0.01, "destination")
    assert (checked["threshold"], checked["n"]) == (0.1, 99)
    assert (checked["n_hosts_calibrating"], checked["n_hosts_checking"]) == (1, 1)
    assert (checked["false_alarms"]["destinations"]["count"], checked["false_alarms"]["destinations"]["of"]) == (2, 3)
    new = checked["false_alarms_at_new_destinations"]
    assert (new["count"], new["of"]) == (1, 2)


def test_exchangeable_destinations_keep_the_promise_on_average():
    rng = np.random.default_rng(5)
    rows = [(host, 1000 * host + name, rng.random()) for host in range(10) for name in range(200)]
    spread = check_random_halves(scores_of(rows), 0.05, "destination", rng, 40)
    assert spread["n_insufficient"] == 0
    assert spread["false_alarm_rate_mean"] == pytest.approx(0.05, abs=0.012)
    assert spread["threshold_min_median_max"][0] <= spread["threshold_min_median_max"][2]


def events_of(hosts):
    return EventBatch(
        time_unix=np.arange(len(hosts), dtype=float),
        host_id=list(hosts),
        event_class=np.full(len(hosts), 3),
        destination_address=["192.0.2.1"] * len(hosts),
        destination_port=np.full(len(hosts), 443),
    )


def test_halves_depend_on_the_names_of_the_hosts_alone():
    hosts = [f"10.0.0.{last}" for last in range(1, 14)]
    pairs, reversed_pairs = pairs_from_events(events_of(hosts)), pairs_from_events(events_of(hosts[::-1] * 2))
    chosen = {pairs.hosts[pairs.host[row]] for row in np.flatnonzero(hash_halves(pairs))}
    again = {reversed_pairs.hosts[reversed_pairs.host[row]] for row in np.flatnonzero(hash_halves(reversed_pairs))}
    assert chosen == again
    assert len(chosen) == 7


def test_the_shipped_file_says_when_it_promises_nothing():
    options = BeaconOptions()
    few = calibration_of(threshold_of(scores_of([(0, 0, 0.5)]), 0.01), 1, options).to_json()
    assert (few["threshold"], few["insufficient_calibration"]) == (None, True)
    enough = calibration_of(threshold_of(scores_of([(0, n, n / 100) for n in range(99)]), 0.01), 99, options).to_json()
    assert (enough["threshold"], enough["insufficient_calibration"], enough["n_destinations"]) == (0.98, False, 99)
    assert enough["unit"] == "destination"
    assert enough["options"]["min_observations"] == options.min_observations
