"""Points for plots: the last observations of a channel, and every scored pair once."""

import numpy as np

from eguard.estimators.beacon import BeaconOptions
from eguard.events import EventBatch
from eguard.mlops.beacon_channels import BeaconChannel, locate
from eguard.mlops.beacon_comparison import LabelledData
from eguard.mlops.beacon_pairs import pairs_from_events
from eguard.mlops.beacon_plots import channel_intervals, score_points
from eguard.mlops.beacon_scores import score_pairs

BEATS = 60.0 * np.arange(30)
EVENTS = EventBatch(
    time_unix=np.concatenate([BEATS, BEATS, BEATS[:3]]),
    host_id=["h"] * 30 + ["benign"] * 33,
    group=["c2"] * 30 + ["site"] * 33,
    event_class=np.full(63, 3),
    destination_address=["192.0.2.1"] * 30 + ["192.0.2.2"] * 30 + ["192.0.2.3"] * 3,
    destination_port=np.full(63, 443),
    sent_bytes=np.arange(63),
)
PAIRS = pairs_from_events(EVENTS)
CAPTURE, SITE = PAIRS.of_group("c2"), PAIRS.of_group("site")
CHANNEL = BeaconChannel(capture="example", group="c2", host="h", destination="192.0.2.1:443")
DATA = LabelledData(SITE, np.array([True, False]), {"c2": CAPTURE}, locate([CHANNEL], CAPTURE))


def test_intervals_are_those_of_the_last_observations():
    points = channel_intervals(DATA, 10)
    assert len(points) == 9
    assert [point["sent_bytes"] for point in points] == list(range(21, 30))
    assert {(point["capture"], point["interval_seconds"]) for point in points} == {("example", 60.0)}
    assert (points[0]["seconds"], points[-1]["seconds"]) == (60.0, 540.0)


def test_scored_pairs_and_channels_are_points_and_others_are_not():
    options = BeaconOptions()
    benign = score_pairs(SITE, options, has_fleet=True)
    points = score_points(benign, ~DATA.is_calibrating, DATA, {"c2": score_pairs(CAPTURE, options, has_fleet=False)})
    assert [(point["kind"], point["name"]) for point in points] == [
        ("benign, calibrating half", "192.0.2.2:443"),
        ("command and control", "example"),
    ]
    assert points[1]["score"] == round(points[1]["regularity"] * points[1]["rarity"], 4)
