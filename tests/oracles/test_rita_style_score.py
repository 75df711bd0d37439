"""The RITA-style score against RITA's own test vectors and the scores that it publishes for the shipped captures."""

import json
from pathlib import Path

import numpy as np
import pytest

from eguard.events import EventBatch
from eguard.events.parsers import read_batches
from eguard.mlops.beacon_pairs import PAIR_COLUMNS, pairs_from_events
from eguard.mlops.beacon_peers import (
    histogram_score,
    plain_information_bits,
    rita_scores,
    size_score,
    timing_score,
)

RAW = Path(__file__).parents[2] / "data" / "raw"
REFERENCE = json.loads((RAW / "reference" / "beacon_mi.json").read_text())
VECTORS = REFERENCE["rita_unit_vectors"]


def pairs_of(*names):
    batches = [batch for name in names for batch in read_batches(RAW / name)]
    lean = [EventBatch(**{column: getattr(batch, column) for column in PAIR_COLUMNS}) for batch in batches]
    return pairs_from_events(EventBatch.concatenate(lean))


@pytest.fixture(scope="module")
def three_days():
    return pairs_of(*(f"net-rita-3days/conn.2024-04-{day}.log.gz" for day in (19, 20, 21)))


@pytest.mark.parametrize("vector", VECTORS["timestamps"], ids=lambda vector: str(vector["score"]))
def test_timing_vectors(vector):
    assert timing_score(np.array(vector["t"], float)) == vector["score"]


@pytest.mark.parametrize("vector", VECTORS["sizes"], ids=lambda vector: str(vector["score"]))
def test_size_vectors(vector):
    assert size_score(np.array(vector["x"], float)) == vector["score"]


def test_published_score_of_the_three_day_beacon(three_days):
    published = REFERENCE["rita_published_on_this_data"][0]
    row = three_days.find(published["src"], f"{published['dst']}:80")
    end = float(three_days.times_seconds.max())
    scores = rita_scores(three_days.take(np.array([row])), min_observations=20, end_seconds=end)
    assert scores.timing[0] == published["recomputed_here"]["ts_score"]
    assert (scores.size[0], scores.histogram[0], scores.duration[0]) == (1.0, 1.0, 1.0)
    assert round(float(scores.score[0]), 3) == published["beacon_score"]


def test_published_parts_of_the_weather_tile():
    published = REFERENCE["rita_published_on_this_data"][1]
    pairs = pairs_of("net-rita-http24h/http.log.gz")
    row = pairs.find(published["src"], published["fqdn"])
    assert pairs.n_observations[row] == published["count"]
    scores = rita_scores(pairs, min_observations=20)
    # The size part needs bytes with headers, which an HTTP log does not have.
    for name, part in (("ts", scores.timing), ("hist", scores.histogram), ("dur", scores.duration)):
        assert part[row] == pytest.approx(published[name], abs=0.05)


def test_plain_information_of_the_reference_pairs(three_days):
    checked = 0
    for entry in REFERENCE["pairs"]:
        if entry["source"] != "net-rita-3days" or entry["n"] > 2000:
            continue
        source, address, port = entry["pair"]
        row = three_days.find(source, f"{address}:{port}")
        one = three_days.take(np.array([row]))
        bits = plain_information_bits(one, min_observations=20, max_observations=10**6)
        assert bits[0] == pytest.approx(entry["mi_bits_plugin"], abs=1e-9)
        checked += 1
    assert checked == 4


def test_two_heights_describe_a_beacon_that_changes_its_pace():
    bars = np.array([60] * 12 + [6] * 12)
    assert histogram_score(bars) == 1.0
    assert histogram_score(np.zeros(24, int)) == 0.0
    assert histogram_score(np.array([500] + [0] * 23)) == 0.0
