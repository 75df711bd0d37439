"""Page-Hinkley and ADWIN against river, and against change indices published by river and scikit-multiflow."""

import json
from pathlib import Path

import numpy as np
import pytest
from river import drift

from eguard.estimators.adwin import Adwin
from eguard.estimators.page_hinkley import PageHinkley

REFERENCE = json.loads(
    (Path(__file__).parents[2] / "data" / "raw" / "reference" / "drift.json").read_text(encoding="utf-8")
)
PUBLISHED = REFERENCE["published"]
# river's defaults, which are scikit-multiflow's too.
RIVER_DEFAULTS = {"delta": 0.005, "threshold": 50.0, "min_instances": 30, "forgetting": 1 - 1e-4}


def ours(detector, stream):
    return [i for i, x in enumerate(stream) if detector.update(x)]


def rivers(detector, stream):
    indices = []
    for i, x in enumerate(stream):
        detector.update(x)
        if detector.drift_detected:
            indices.append(i)
    return indices


def shifting_stream(seed, length=600):
    rng = np.random.default_rng(seed)
    levels = np.repeat(rng.choice([0.0, 1.0, 3.0], size=length // 100), 100)
    return levels + rng.normal(size=length)


@pytest.mark.parametrize("direction", ["up", "down", "both"])
@pytest.mark.parametrize("seed", range(8))
def test_page_hinkley_alarms_where_rivers_does(direction, seed):
    stream = shifting_stream(seed)
    theirs = drift.PageHinkley(min_instances=20, delta=0.2, threshold=15.0, alpha=1.0, mode=direction)
    assert ours(PageHinkley(0.2, 15.0, direction, 20), stream) == rivers(theirs, stream)


@pytest.mark.parametrize(
    ("name", "indices"),
    [
        ("river_doctest", REFERENCE["all_indices_river_doctest"]["page_hinkley"]),
        ("skmultiflow_tests", PUBLISHED["skmultiflow_tests"]["page_hinkley"]["indices"]),
    ],
)
def test_page_hinkley_finds_the_published_changes(name, indices):
    detector = PageHinkley(**RIVER_DEFAULTS)
    assert ours(detector, PUBLISHED[name]["stream"]) == indices


@pytest.mark.parametrize("network", sorted(REFERENCE["real_ait"]))
@pytest.mark.parametrize(
    ("delta", "threshold", "forgetting", "key"),
    [
        (0.005, 1.0, 0.9999, "min_instances=24,delta=0.005,threshold=1,alpha=0.9999,mode=up"),
        (0.05, 0.5, 1.0, "min_instances=24,delta=0.05,threshold=0.5,alpha=1,mode=up"),
    ],
)
def test_page_hinkley_agrees_on_hourly_divergences_of_real_networks(network, delta, threshold, forgetting, key):
    series = REFERENCE["real_ait"][network]
    detector = PageHinkley(delta, threshold, min_instances=24, forgetting=forgetting)
    assert ours(detector, series["hourly_js"]) == series["river_pagehinkley_indices"][key]


@pytest.mark.parametrize("network", sorted(REFERENCE["real_ait"]))
@pytest.mark.parametrize("delta", [0.002, 0.05])
def test_adwin_agrees_on_hourly_divergences_of_real_networks(network, delta):
    series = REFERENCE["real_ait"][network]
    detector = Adwin(delta, grace_period=5, min_window_length=3)
    key = f"delta={delta},clock=1,grace_period=5,min_window_length=3"
    assert ours(detector, series["hourly_js"]) == series["river_adwin_indices"][key]


@pytest.mark.parametrize("name", ["river_doctest", "skmultiflow_tests"])
def test_adwin_finds_the_published_first_change(name):
    published = PUBLISHED[name]["adwin"]
    first = published["first_change_index"] if name == "river_doctest" else published["indices"][0]
    assert ours(Adwin(clock=32), PUBLISHED[name]["stream"])[0] == first == 1023


def test_adwin_alarms_first_where_rivers_does_on_the_beta_stream():
    rng = np.random.default_rng(5)
    stream = np.r_[rng.beta(2, 18, 1000), rng.beta(6, 14, 1000)]
    assert ours(Adwin(), stream)[0] == rivers(drift.ADWIN(clock=1), stream)[0] == 1041


@pytest.mark.parametrize("seed", range(12))
def test_adwin_keeps_rivers_window_until_the_first_alarm(seed):
    """Over settings, value for value: width, mean and variance; then the alarm at the same index."""
    rng = np.random.default_rng(seed)
    settings = {
        "delta": float(rng.choice([0.002, 0.05, 0.3])),
        "max_buckets": int(rng.integers(2, 7)),
        "min_window_length": int(rng.integers(1, 8)),
        "grace_period": int(rng.integers(2, 30)),
        "clock": int(rng.integers(1, 5)),
    }
    stream = np.r_[rng.beta(2, 18, 300), rng.beta(3, 15, 300)]
    mine, theirs = Adwin(**settings), drift.ADWIN(**settings)
    for x in stream:
        alarm = mine.update(x)
        theirs.update(x)
        assert alarm == theirs.drift_detected
        assert mine.width == theirs.width
        assert mine.mean == pytest.approx(theirs.estimation, abs=1e-12)
        if alarm:
            break
        assert mine.variance == pytest.approx(theirs.variance / theirs.width, abs=1e-12)


def test_after_an_alarm_adwin_keeps_the_new_part_where_river_keeps_nothing():
    """So later alarms can only be compared on streams that start afresh."""
    stream = [0.0] * 300 + [1.0] * 60
    mine, theirs = Adwin(), drift.ADWIN(clock=1)
    first = ours(mine, stream)[0]
    assert rivers(theirs, stream)[0] == first
    assert theirs.width < mine.width
    restarted = stream[first + 1 :] + [0.0] * 100
    assert ours(Adwin(), restarted)[0] == rivers(drift.ADWIN(clock=1), restarted)[0]
