"""Labelled channels: read, located and judged; and how soon a running agent finds one."""

from pathlib import Path

import numpy as np
import pytest

from eguard.errors import ConfigError
from eguard.estimators.beacon import BeaconOptions, beacon_regularity
from eguard.events import EventBatch
from eguard.mlops.beacon_channels import BeaconChannel, first_found, judge, locate, read_apt29_channels
from eguard.mlops.beacon_pairs import pairs_from_events
from eguard.mlops.beacon_scores import score_pairs

RAW = Path(__file__).parents[3] / "data" / "raw"


def scored_beacon(times):
    events = EventBatch(
        time_unix=np.asarray(times, float),
        host_id=["h"] * len(times),
        event_class=np.full(len(times), 3),
        destination_address=["192.0.2.1"] * len(times),
        destination_port=np.full(len(times), 443),
        sent_bytes=np.full(len(times), 100),
    )
    return score_pairs(pairs_from_events(events), BeaconOptions(), has_fleet=False)


def channel(**changes):
    return BeaconChannel(capture="c", group="", host="h", destination="192.0.2.1:443", **changes)


def test_the_apt29_labels_name_six_channels():
    channels = read_apt29_channels(RAW)
    assert [(c.capture, c.destination, c.label) for c in channels][:2] == [
        ("apt29-nashua", "192.168.0.4:8443", "c2"),
        ("apt29-scranton", "192.168.0.5:1234", "c2"),
    ]
    assert len(channels) == 6


def test_missing_or_foreign_labels_are_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match=r"labels\.csv"):
        read_apt29_channels(tmp_path)
    (tmp_path / "net-apt29-day1").mkdir()
    (tmp_path / "net-apt29-day1" / "labels.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="case"):
        read_apt29_channels(tmp_path)


def test_a_channel_without_a_host_is_the_busiest_pair_of_its_destination():
    events = EventBatch(
        time_unix=np.arange(3.0),
        host_id=["quiet", "busy", "busy"],
        event_class=np.full(3, 3),
        destination_address=["192.0.2.1"] * 3,
        destination_port=np.full(3, 443),
    )
    pairs = pairs_from_events(events)
    (found,) = locate([channel().model_copy(update={"host": ""})], pairs)
    assert pairs.names(found.row)[0] == "busy"
    (absent,) = locate([channel().model_copy(update={"destination": "192.0.2.9:1"})], pairs)
    assert absent.row is None


def test_an_absent_channel_is_said_to_be_absent():
    scored = scored_beacon(60.0 * np.arange(40))
    (found,) = locate([channel().model_copy(update={"host": "other"})], scored.pairs)
    judged = judge(found, scored, {"destination": 0.5})
    assert judged["by_reading"]["destination"]["verdict"] == "absent"


def test_each_reading_has_its_verdict():
    scored = scored_beacon(60.0 * np.arange(40))
    (found,) = locate([channel()], scored.pairs)
    judged = judge(found, scored, {"destination": 0.5, "scored_pair": 1.0, "scored_destination": None})
    assert {name: entry["verdict"] for name, entry in judged["by_reading"].items()} == {
        "destination": "beacon",
        "scored_pair": "ordinary",
        "scored_destination": "uncalibrated",
    }


def test_a_timer_is_found_with_the_first_twenty_observations():
    scored = scored_beacon(60.0 * np.arange(100))
    assert first_found(scored, 0, 0.5) == {"n_observations": 20, "seconds": 19 * 60.0}
    assert first_found(scored, 0, None) is None
    assert first_found(scored, 0, 1.0) is None


def test_a_channel_that_turns_regular_is_found_when_its_ring_is():
    rng = np.random.default_rng(2)
    chaos = np.cumsum(rng.pareto(0.5, 60) + 0.01)
    times = np.concatenate([chaos, chaos[-1] + 60.0 * np.arange(1, 300)])
    scored = scored_beacon(times)
    found = first_found(scored, 0, 0.9)
    assert found is not None
    n = int(found["n_observations"])
    assert n > 60
    recent = times[max(0, n - 256) : n]
    assert beacon_regularity(recent, np.full(len(recent), 100), [0, len(recent)]).regularity[0] > 0.9
