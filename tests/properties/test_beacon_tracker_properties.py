"""The tracker against one event at a time in plain Python: any cut, any order, any number of evictions."""

import itertools
from collections import OrderedDict, deque
from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eguard.detection import beacons
from eguard.detection.beacons import BeaconTracker
from eguard.estimators import BeaconOptions, beacon_regularity

OPTIONS = BeaconOptions(min_observations=4, max_observations=16, min_span_seconds=3.0)
EVENTS = st.lists(
    st.tuples(st.integers(0, 11), st.integers(-3000, 9000), st.sampled_from([0, 10, 300, 310, 2**33])),
    max_size=250,
)
CUTS = st.lists(st.integers(0, 250), max_size=6)


class PlainTracker:
    """The definition, one event at a time."""

    def __init__(self, capacity):
        self.capacity, self.held, self.skipped = capacity, OrderedDict(), 0

    def observe(self, key, millisecond, size):
        if key not in self.held and len(self.held) == self.capacity:
            self.held.popitem(last=False)
        latest, ring, _ = self.held.pop(key, (None, deque(maxlen=OPTIONS.max_observations), 0))
        gap = 1 if latest is None else millisecond - latest
        if gap > 0:
            ring.append((min(gap, 2**32 - 1), min(size, 2**32 - 1)))
        else:
            self.skipped += 1
        self.held[key] = (millisecond, ring, 0)


def stream(events):
    keys = [key for key, _, _ in events]
    milliseconds = np.cumsum([step for _, step, _ in events], dtype=np.int64)
    return keys, milliseconds, [size for _, _, size in events]


def rings(tracker):
    """Return what a tracker holds of each key, without the meaningless first interval of a ring never full."""
    stays = tracker._index.stays()
    contacts = tracker._rings.contacts(stays % tracker._index.capacity)
    return {
        key: list(zip(contacts.gaps[a:b].tolist(), contacts.sizes[a:b].tolist(), strict=True))
        for key, a, b in zip(tracker._index.keys(), contacts.offsets[:-1], contacts.offsets[1:], strict=True)
    }


@given(EVENTS, CUTS, st.integers(1, 12), st.integers(1, 99))
def test_any_cut_into_batches_and_stretches_is_one_event_at_a_time(events, cuts, capacity, stretch):
    keys, milliseconds, sizes = stream(events)
    tracker, plain = BeaconTracker(capacity, OPTIONS), PlainTracker(capacity)
    looked = {}

    def look(sightings):
        found = sightings.contacts(np.arange(len(sightings)))
        for row in range(len(sightings)):
            part = slice(found.offsets[row], found.offsets[row + 1])
            looked[base + sightings.start + row] = (
                list(zip(found.gaps[part].tolist(), found.sizes[part].tolist(), strict=True)),
                bool(sightings.is_accepted[row]),
            )

    edges = [0, *sorted(min(cut, len(keys)) for cut in cuts), len(keys)]
    with patch.object(beacons, "STRETCH_EVENTS", stretch):
        for base, stop in itertools.pairwise(edges):
            tracker.observe(keys[base:stop], milliseconds[base:stop] / 1000.0, sizes[base:stop], look)
    for row, (key, millisecond, size) in enumerate(zip(keys, milliseconds.tolist(), sizes, strict=True)):
        skipped = plain.skipped
        plain.observe(key, millisecond, size)
        assert looked[row] == (list(plain.held[key][1]), plain.skipped == skipped)
    assert list(rings(tracker)) == list(plain.held)
    assert rings(tracker) == {key: list(ring) for key, (_, ring, _) in plain.held.items()}
    assert tracker.skipped_total == plain.skipped


@given(EVENTS, st.integers(1, 60))
def test_the_streaming_form_scores_exactly_as_the_batch_form(events, size):
    keys, milliseconds, sizes = stream([(key % 4, step, amount) for key, step, amount in events])
    tracker = BeaconTracker(4, OPTIONS)
    for start in range(0, len(keys), size):
        rows = slice(start, start + size)
        tracker.observe(np.array(keys[rows]), milliseconds[rows] / 1000.0, sizes[rows])
    held, scores = tracker.scores()
    rows = [np.flatnonzero(np.array(keys) == key) for key in held]
    order = np.concatenate([*rows, np.zeros(0, dtype=np.intp)]).astype(np.intp)
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in rows])])
    batch = beacon_regularity(milliseconds[order] / 1000.0, np.array(sizes, dtype=float)[order], offsets, OPTIONS)
    for name in scores.__dataclass_fields__:
        assert np.array_equal(getattr(scores, name), getattr(batch, name), equal_nan=True), name
