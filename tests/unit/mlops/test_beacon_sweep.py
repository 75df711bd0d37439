"""The sweep's rates are counts over the right channels, and its curves fall with the threshold."""

import numpy as np
import pytest

from eguard.estimators.beacon import BeaconOptions
from eguard.events import EventBatch
from eguard.mlops.beacon_calibration import PairScores, hash_halves
from eguard.mlops.beacon_pairs import pairs_from_events
from eguard.mlops.beacon_peers import rita_scores
from eguard.mlops.beacon_scores import score_pairs
from eguard.mlops.beacon_sweep import BenignSide, curve, run_sweep
from eguard.mlops.beacon_synthetic import DAY_SECONDS, SweepParams


@pytest.fixture(scope="module")
def result():
    rng = np.random.default_rng(21)
    n, hosts = 12_000, 8
    events = EventBatch(
        time_unix=1e9 + rng.uniform(0.0, DAY_SECONDS, n),
        host_id=[f"10.0.0.{host}" for host in rng.integers(0, hosts, n)],
        event_class=np.full(n, 3),
        destination_address=[f"192.0.2.{site}" for site in np.minimum(rng.pareto(1.0, n) * 10, 200).astype(int)],
        destination_port=np.full(n, 443),
        sent_bytes=rng.integers(0, 5000, n),
    )
    scored = score_pairs(pairs_from_events(events), BeaconOptions(), has_fleet=True)
    side = BenignSide(scored, rita_scores(scored.pairs, min_observations=20).score, hash_halves(scored.pairs))
    params = SweepParams(
        jitter_fractions=(0.0, 0.5),
        missed_fractions=(0.0, 0.5),
        periods_seconds=(60.0,),
        size_noise_fractions=(0.0, 1.0),
    )
    return run_sweep(
        params,
        side,
        thresholds={"destination": 0.5, "scored_pair": 1.0},
        alphas=(0.01, 0.1),
        callers=(1, 8),
        rng=np.random.default_rng(0),
    )


def test_every_channel_is_in_one_cell_of_each_table(result):
    tables = result.report["by_reading"]["destination"]
    for name in ("by_jitter_and_missed", "by_period", "by_size_noise", "by_timer"):
        assert sum(row["of"] for row in tables[name]) == result.report["n_channels"] == 32
        assert sum(row["count"] for row in tables[name]) == tables["detection"]["count"]


def test_a_threshold_of_one_finds_nothing(result):
    assert result.report["by_reading"]["scored_pair"]["detection"]["count"] == 0


def test_a_destination_that_all_hosts_call_is_never_found(result):
    rows = result.report["by_reading"]["destination"]["by_hosts_contacting"]
    assert {row["count"] for row in rows if row["n_hosts_contacting"] == 8} == {0}
    perfect = [row for row in rows if row["n_hosts_contacting"] == 1 and row["embedding"] == "own"]
    assert perfect[0]["count"] > 0


def test_operating_points_trade_detection_for_false_alarms(result):
    points = [row for row in result.report["operating_points"] if row["method"] == "composite"]
    strict, loose = sorted(points, key=lambda row: row["alpha"])
    assert strict["threshold"] >= loose["threshold"]
    assert strict["detection"]["count"] <= loose["detection"]["count"]
    assert strict["false_alarms"]["count"] <= loose["false_alarms"]["count"]
    assert {row["method"] for row in result.report["operating_points"]} == {
        "composite",
        "composite_without_rarity",
        "rita_style",
        "rita_style_times_rarity",
    }


def test_curves_fall_with_the_threshold(result):
    for method in {point["method"] for point in result.curves}:
        points = [point for point in result.curves if point["method"] == method]
        rates = [(point["false_alarm_rate"], point["detection_rate"]) for point in points]
        assert rates == sorted(rates)


def test_a_curve_counts_destinations_pairs_and_channels():
    benign = PairScores(
        np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([0.2, 0.6, 0.0]), np.array([True, True, False])
    )
    points = {point["threshold"]: point for point in curve(benign, np.array([0.5, 0.9]))}
    assert points[0.5]["false_alarm_rate"] == 0.5
    assert points[0.5]["false_alarm_rate_of_scored_pairs"] == 0.5
    assert points[0.5]["detection_rate"] == 0.5
    assert points[0.6]["false_alarm_rate"] == 0.0


def test_repeated_days_are_checked_at_the_same_threshold(result):
    rows = result.report["by_reading"]["destination"]["false_alarms_on_repeated_days"]
    assert rows[0]["days"] == 1
    assert all(row["destinations"]["of"] == rows[0]["destinations"]["of"] for row in rows)


def test_the_control_is_counted_apart(result):
    rows = result.report["by_reading"]["destination"]["without_a_timer"]
    assert {(row["embedding"], row["size_noise"]) for row in rows} == {
        (embedding, noise) for embedding in ("own", "shared") for noise in (0.0, 1.0)
    }
    assert {row["of"] for row in rows} == {20}
