"""The composite's verdicts: each says in numbers why."""

import numpy as np
import pytest

from eguard.estimators.beacon import BeaconOptions
from eguard.events import EventBatch
from eguard.mlops.beacon_pairs import pairs_from_events
from eguard.mlops.beacon_scores import lost_points, score_pairs, verdict

OPTIONS = BeaconOptions()


def pair(times, sizes=None, hosts=("h",)):
    n = len(times)
    sizes = np.full(n, 300) if sizes is None else np.asarray(sizes)
    return pairs_from_events(
        EventBatch(
            time_unix=np.tile(np.asarray(times, float), len(hosts)),
            host_id=[host for host in hosts for _ in range(n)],
            event_class=np.full(n * len(hosts), 3),
            destination_address=["192.0.2.1"] * n * len(hosts),
            destination_port=np.full(n * len(hosts), 443),
            sent_bytes=np.tile(sizes, len(hosts)),
        )
    )


def test_a_perfect_timer_is_a_beacon_and_loses_nothing():
    scored = score_pairs(pair(60.0 * np.arange(40)), OPTIONS, has_fleet=False)
    assert scored.score.tolist() == [1.0]
    assert sum(lost_points(scored, 0).values()) == 0.0
    word, reason = verdict(scored, 0, 0.5)
    assert word == "beacon"
    assert "timer 1.00" in reason


def test_too_few_observations_are_said_with_their_number():
    scored = score_pairs(pair(60.0 * np.arange(7)), OPTIONS, has_fleet=False)
    assert verdict(scored, 0, 0.5) == ("too_few_observations", "7 observations, 20 are needed")


def test_equal_times_do_not_count_as_observations():
    scored = score_pairs(pair(np.repeat(60.0 * np.arange(10), 3)), OPTIONS, has_fleet=False)
    word, reason = verdict(scored, 0, 0.5)
    assert word == "too_few_observations"
    assert "at distinct times" in reason


def test_a_short_span_is_said_with_its_length():
    scored = score_pairs(pair(2.0 * np.arange(40)), OPTIONS, has_fleet=False)
    assert verdict(scored, 0, 0.5) == ("span_too_short", "the observations span 78 s, 120 s are needed")


def test_a_common_destination_is_ordinary_because_of_its_rarity():
    scored = score_pairs(pair(60.0 * np.arange(40), hosts="abcd"), OPTIONS, has_fleet=True)
    assert scored.n_hosts_contacting.tolist() == [4, 4, 4, 4]
    assert scored.score.tolist() == [0.0] * 4
    word, reason = verdict(scored, 0, 0.5)
    assert word == "ordinary"
    assert "rarity costs 1.000" in reason
    assert reason.count("costs") == 1  # it alone explains the gap


def test_irregular_sizes_are_named_when_they_cost_the_alarm():
    rng = np.random.default_rng(3)
    scored = score_pairs(pair(60.0 * np.arange(40), rng.integers(100, 100_000, 40)), OPTIONS, has_fleet=False)
    word, reason = verdict(scored, 0, 0.95)
    assert word == "ordinary"
    assert "size regularity costs" in reason


def test_as_many_parts_are_named_as_it_takes_to_explain_the_gap():
    rng = np.random.default_rng(6)
    times = np.cumsum(rng.exponential(60.0, 80))
    scored = score_pairs(pair(times, rng.integers(1, 90_000, 80)), OPTIONS, has_fleet=False)
    losses = sorted(lost_points(scored, 0).values(), reverse=True)
    gap = 0.99 - scored.score[0]
    needed = int(np.searchsorted(np.cumsum(losses), gap)) + 1
    assert needed > 1
    assert verdict(scored, 0, 0.99)[1].count("costs") == needed


def test_what_is_lost_adds_up():
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.exponential(60.0, 80))
    scored = score_pairs(pair(times, rng.integers(1, 5000, 80), hosts="ab"), OPTIONS, has_fleet=True)
    for row in range(2):
        assert sum(lost_points(scored, row).values()) == pytest.approx(1.0 - scored.score[row], abs=1e-9)


def test_without_a_threshold_there_is_no_verdict():
    scored = score_pairs(pair(60.0 * np.arange(40)), OPTIONS, has_fleet=False)
    assert verdict(scored, 0, None)[0] == "uncalibrated"


def test_the_description_is_plain_json():
    description = score_pairs(pair(60.0 * np.arange(40)), OPTIONS, has_fleet=False).describe(0)
    assert description["period_seconds"] == pytest.approx(60.0)
    assert (description["host"], description["destination"]) == ("h", "192.0.2.1:443")
    few = score_pairs(pair([1.0, 2.0]), OPTIONS, has_fleet=False).describe(0)
    assert (few["period_seconds"], few["score"], few["is_scored"]) == (None, 0.0, False)
