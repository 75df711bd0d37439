"""The context of an alert, against its definition written out naively, and against any change of the future."""

from dataclasses import astuple
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eguard.detection.context import AlertContext, FleetCooccurrence

RULES = ["R1", "R2", "R3", "R4", "R5", "R6"]
GAPS = st.sampled_from([0.0, 0.5, 1.0, 7.0, 59.9, 60.0, 61.0, 299.0, 300.0, 3600.0, 90_000.0, 700_000.0])
ALERTS = st.lists(
    st.tuples(GAPS, st.sampled_from(RULES), st.sampled_from(["", "suricata", "wazuh", "aminer"])),
    min_size=1,
    max_size=60,
)


def timed(alerts):
    gaps, keys, detectors = zip(*alerts, strict=True)
    return np.cumsum(gaps) + 1.7e9, list(keys), list(detectors)


def matrix(columns):
    return np.column_stack(astuple(columns))


def naive(times, keys, detectors, i):
    """Return features 34 and 36 to 39 of alert i by going through all alerts before it."""
    past = range(i)
    now, key = times[i], keys[i]
    minutes = {times[j] // 60 for j in past if times[j] // 60 < now // 60}
    own = {times[j] // 60 for j in past if keys[j] == key and times[j] // 60 < now // 60}
    burst = sum(keys[j] == key and now - times[j] < 60 for j in past)
    distinct = {keys[j] for j in past if now - times[j] < 300} | {key}
    engines = ({detectors[j] for j in past if now - times[j] < 300} | {detectors[i]}) - {""}
    sightings = [times[j] for j in past if keys[j] == key] + [now]
    starts = [b - a for a, b in pairwise(sightings) if b - a >= 60]
    silence = min(np.log1p(starts[-1]) / np.log1p(7 * 86_400), 1.0) if starts else 1.0
    return [
        1 - (len(own) + 0.5) / (len(minutes) + 1),
        min(np.log2(1 + burst) / 12, 1),
        min(len(distinct) / 16, 1),
        silence,
        min(len(engines) / 4, 1),
    ]


@given(ALERTS)
def test_the_stream_equals_the_definition(alerts):
    times, keys, detectors = timed(alerts)
    columns = AlertContext().update_keys(times, keys, detectors)
    streamed = matrix(columns)[:, [0, 2, 3, 4, 5]]
    expected = [naive(times, keys, detectors, i) for i in range(len(times))]
    np.testing.assert_allclose(streamed, expected, rtol=0, atol=1e-12)


@given(ALERTS, st.lists(st.integers(1, 20), min_size=1))
def test_batches_of_any_size_equal_one_at_a_time(alerts, sizes):
    times, keys, detectors = timed(alerts)
    single, batched = AlertContext(), AlertContext()
    one_by_one = [matrix(single.update_keys([t], [k], [d])) for t, k, d in zip(times, keys, detectors, strict=True)]
    cuts = np.minimum(np.cumsum(sizes * len(times)), len(times))
    bounds = [0, *np.unique(cuts).tolist()]
    parts = [matrix(batched.update_keys(times[a:b], keys[a:b], detectors[a:b])) for a, b in pairwise(bounds)]
    assert np.array_equal(np.vstack(one_by_one), np.vstack(parts))


@settings(deadline=None)
@given(ALERTS, st.data())
def test_shuffling_the_future_changes_nothing(alerts, data):
    times, keys, detectors = timed(alerts)
    now = data.draw(st.integers(0, len(alerts) - 1))
    order = [*range(now + 1), *data.draw(st.permutations(range(now + 1, len(alerts))))]
    original = AlertContext().update_keys(times, keys, detectors)
    shuffled = AlertContext().update_keys(times[order], [keys[i] for i in order], [detectors[i] for i in order])
    assert np.array_equal(matrix(original)[: now + 1], matrix(shuffled)[: now + 1])


@given(ALERTS)
def test_every_value_lies_in_the_unit_interval(alerts):
    values = matrix(AlertContext().update_keys(*timed(alerts)))
    assert np.all((values >= 0.0) & (values <= 1.0))


@given(
    st.lists(st.tuples(GAPS, st.sampled_from("abcd"), st.sampled_from(RULES[:2])), min_size=1, max_size=60), st.data()
)
def test_cooccurrence_equals_its_definition_and_looks_back_only(alerts, data):
    times, hosts, rules = timed(alerts)
    counts = FleetCooccurrence().update(hosts, rules, times)
    for i in range(len(times)):
        others = {
            hosts[j] for j in range(i) if rules[j] == rules[i] and hosts[j] != hosts[i] and times[i] - times[j] < 300
        }
        assert counts[i] == len(others)
    now = data.draw(st.integers(1, len(alerts)))
    assert np.array_equal(counts[:now], FleetCooccurrence().update(hosts[:now], rules[:now], times[:now]))
