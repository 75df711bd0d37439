"""Hostile contacts: whatever a process on the host sends, the tracker stays bounded, and what evades is known."""

import math

import numpy as np
import pytest

from eguard.detection.beacon_calibration import BeaconCalibration
from eguard.detection.beacons import MAX_DESTINATIONS
from eguard.detection.destinations import DestinationHistory
from eguard.detection.fleet_context import FleetContext
from eguard.events import EventBatch

CALIBRATION = BeaconCalibration(0.65, 0.01, 140, insufficient_calibration=False)
FLEET = FleetContext(n_connecting_hosts=50, destination_hosts={"192.0.2.80:443": 50, "popular.example": 50})
N = 64
BEATS = 1.7e9 + 300.0 * np.arange(N)
RNG = np.random.default_rng(20260301)


def contacts(n=N, **columns):
    given = {"time_unix": BEATS[:n], "event_class": [3] * n, "comm": ["x"] * n, "sent_bytes": [310] * n}
    given |= {"destination_address": ["203.0.113.7"] * n, "destination_port": [8443] * n}
    return EventBatch(**(given | columns))


def judged(batch, history=None):
    history = DestinationHistory() if history is None else history
    return history, history.observe(batch, np.ones(len(batch), dtype=np.bool_), CALIBRATION, FLEET)


FOUND = {
    "a plain beacon": contacts(),
    "jitter of 20 %": contacts(time_unix=BEATS + RNG.uniform(-30.0, 30.0, N)),
    "a third of the beats missed": contacts(48, time_unix=np.sort(RNG.choice(BEATS, 48, replace=False))),
    "every contact sent twice": contacts(2 * N - 1, time_unix=np.repeat(BEATS, 2)[1:], **{
        name: [value] * (2 * N - 1)
        for name, value in {
            "event_class": 3, "comm": "x", "sent_bytes": 310,
            "destination_address": "203.0.113.7", "destination_port": 8443,
        }.items()
    }),
    "the clock set back every hour": contacts(time_unix=BEATS - 3600.0 * (np.arange(N) // 12)),
    "the clock a century ahead": contacts(time_unix=BEATS + 3.2e9),
    "a time before the epoch": contacts(time_unix=BEATS - 3.4e9),
    "sizes of 2**63": contacts(sent_bytes=np.full(N, np.iinfo(np.int64).max)),
    "negative sizes": contacts(sent_bytes=[-1] * N),
    "the name of a popular server on every contact": contacts(target=["popular.example"] * N),
    "port 0": contacts(destination_port=[0] * N),
    "a name that is no text": contacts(event_class=[4] * N, target=["\udcff\x00.c2.example"] * N),
    "a new subdomain for every look-up": contacts(event_class=[4] * N, target=[f"{i:x}.c2.example" for i in range(N)]),
    "a name of 100,000 labels": contacts(event_class=[4] * N, target=["a." * 100_000 + "c2.example"] * N),
}  # fmt: skip

NOT_FOUND = {
    "the popular server itself": contacts(destination_address=["192.0.2.80"] * N, destination_port=[443] * N),
    "multicast": contacts(destination_address=["224.0.0.251"] * N),
    "broadcast": contacts(destination_address=["255.255.255.255"] * N),
    "nowhere": contacts(destination_address=["0.0.0.0"] * N),
    "no time at all": contacts(time_unix=np.full(N, math.nan)),
    "the same instant always": contacts(time_unix=np.full(N, 1.7e9)),
    "the clock running backwards": contacts(time_unix=BEATS[::-1]),
    "nineteen contacts": contacts(19),
    "twenty contacts within a minute": contacts(20, time_unix=1.7e9 + 3.0 * np.arange(20)),
    # Known limits: an address for every beat, and a process name for every beat, are other destinations.
    "an address for every beat": contacts(destination_address=[f"203.0.113.{i}" for i in range(N)]),
    "a process name for every beat": contacts(comm=[f"x{i}" for i in range(N)]),
}


@pytest.mark.parametrize("case", list(FOUND))
def test_a_beacon_is_found_through(case):
    _, findings = judged(FOUND[case])
    assert findings.confirmed
    evidence = findings.beacons[findings.confirmed[0]]
    assert math.isfinite(evidence.score)
    assert 0.65 < evidence.score <= 1.0


@pytest.mark.parametrize("case", list(NOT_FOUND))
def test_no_beacon_is_seen_in(case):
    _, findings = judged(NOT_FOUND[case])
    assert findings.raised == []
    assert all(0.0 <= value <= 8.0 for pair in findings.features.values() for value in pair)


@pytest.mark.slow
def test_a_flood_of_a_million_destinations_leaves_memory_as_it_is():
    history = DestinationHistory()
    arrays = history.tracker.nbytes
    n = 100_000
    for wave in range(10):
        addresses = [f"2001:db8::{wave:x}:{i:x}" for i in range(n)]
        columns = {name: [value] * n for name, value in {"event_class": 3, "comm": "x", "sent_bytes": 1}.items()}
        times = 1.7e9 + wave * n + np.arange(n)
        history.observe(
            EventBatch(time_unix=times, destination_address=addresses, destination_port=[443] * n, **columns),
            np.zeros(n, dtype=np.bool_),
            CALIBRATION,
            FLEET,
        )
    assert len(history) == MAX_DESTINATIONS
    assert history.tracker.nbytes == arrays
    assert history.tracker.evicted_total == 10 * n - MAX_DESTINATIONS
    assert len(history.judge._standing) <= MAX_DESTINATIONS


def test_a_beacon_that_floods_between_its_beats_hides_and_the_flood_is_counted():
    # The limit of any bounded memory. What remains visible is the flood: evictions, and connections of one process.
    history, raised = DestinationHistory(), []
    for beat in range(30):
        n = MAX_DESTINATIONS + 1
        addresses = ["203.0.113.7", *(f"2001:db8::{i:x}" for i in range(1, n))]
        columns = {name: [value] * n for name, value in {"event_class": 3, "comm": "x", "sent_bytes": 310}.items()}
        times = 1.7e9 + 3000.0 * beat + np.arange(n)
        batch = EventBatch(time_unix=times, destination_address=addresses, destination_port=[443] * n, **columns)
        raised += history.observe(batch, np.zeros(n, dtype=np.bool_), CALIBRATION, FLEET).raised
    assert raised == []
    assert history.tracker.evicted_total > 29 * MAX_DESTINATIONS


def test_one_duplicate_between_all_beats_does_not_reset_the_ring():
    times = np.sort(np.concatenate([BEATS, BEATS]))
    columns = {"event_class": [3] * 2 * N, "comm": ["x"] * 2 * N, "sent_bytes": [310] * 2 * N}
    columns |= {"destination_address": ["203.0.113.7"] * 2 * N, "destination_port": [8443] * 2 * N}
    history, findings = judged(EventBatch(time_unix=times, **columns))
    assert history.skipped == N
    assert findings.confirmed == [38]
