"""Contacts per destination, and the two features that the estimators draw from them."""

import numpy as np
import pytest

from eguard.detection.beacons import MAX_DESTINATIONS
from eguard.detection.destinations import DestinationHistory
from eguard.estimators import periodicity_score
from eguard.events import Event, EventBatch, EventClass


def contact(time, address="192.0.2.1", comm="a", sent=100, port=443):
    return Event(
        time_unix=float(time), host_id="h", event_class=EventClass.NETWORK_CONNECT, comm=comm,
        destination_address=address, destination_port=port, sent_bytes=int(sent),
    )  # fmt: skip


def query(time, name):
    return Event(time_unix=float(time), host_id="h", event_class=EventClass.DNS_QUERY, comm="a", target=name)


def observe(history, *events):
    batch = EventBatch.from_events(events)
    return history.observe(batch, np.ones(len(batch), dtype=np.bool_)).features


def test_a_timer_is_periodic_from_the_twentieth_contact_on():
    features = observe(DestinationHistory(), *(contact(300 * index) for index in range(40)))
    assert sorted(features) == list(range(19, 40))
    information, score = features[30]
    assert score > 0.95
    assert information == 0.0  # a perfect beacon has no mutual information


def test_irregular_contacts_are_less_periodic_than_a_timer():
    rng = np.random.default_rng(3)
    times = np.cumsum(rng.exponential(300, 80))
    features = observe(DestinationHistory(), *(contact(time, sent=rng.integers(1, 9999)) for time in times))
    assert features[79][1] < 0.8


def test_sizes_that_follow_the_intervals_have_information():
    rng = np.random.default_rng(4)
    gaps = rng.choice([10.0, 100.0, 1000.0], 200)
    times = np.cumsum(gaps)
    informed = [contact(time, sent=10 * gap) for time, gap in zip(times, gaps, strict=True)]
    blind = [contact(time, sent=rng.choice([10, 100, 1000])) for time in times]
    assert observe(DestinationHistory(), *informed)[199][0] > 1.0
    assert observe(DestinationHistory(), *blind)[199][0] < 0.1


def test_destinations_and_processes_are_kept_apart():
    history = DestinationHistory()
    events = [contact(10 * i, address=f"192.0.2.{i % 3}", comm=f"p{i % 2}", port=443 + i % 2) for i in range(60)]
    assert observe(history, *events) == {}
    assert len(history) == 6


def test_names_count_by_the_domain_that_was_registered():
    history = DestinationHistory()
    features = observe(history, *(query(60 * i, f"x{i}.beacon.example.com") for i in range(25)))
    assert len(history) == 1
    assert features[24][1] > 0.9


def test_duplicate_times_and_steps_back_are_counted_and_skipped():
    history = DestinationHistory()
    observe(history, contact(10), contact(10), contact(5), contact(20))
    assert history.skipped == 2


def test_events_without_a_destination_are_passed_over():
    history = DestinationHistory()
    assert (
        observe(history, contact(1, address=""), query(2, ""), Event(time_unix=3.0, host_id="h", event_class=0)) == {}
    )
    assert len(history) == 0


def test_the_destination_contacted_longest_ago_is_forgotten():
    history = DestinationHistory()
    observe(history, *(contact(i, address=f"192.0.{i // 250}.{i % 250}") for i in range(MAX_DESTINATIONS + 50)))
    assert len(history) == MAX_DESTINATIONS


def test_only_candidates_are_evaluated_and_batches_do_not_matter():
    events = EventBatch.from_events(contact(37 * i + i % 5, sent=i % 7) for i in range(120))
    wanted = np.arange(120) % 3 == 0
    whole = DestinationHistory().observe(events, wanted).features
    history, parts = DestinationHistory(), {}
    for start in range(0, 120, 11):
        batch = events.slice(start, min(start + 11, 120))
        found = history.observe(batch, wanted[start : start + 11]).features
        parts |= {start + index: features for index, features in found.items()}
    assert parts == whole
    assert all(index % 3 == 0 for index in whole)


def test_a_contact_without_a_usable_time_is_counted_and_passed_over():
    history = DestinationHistory()
    observe(history, contact(1), contact(float("nan")), contact(float("inf")), contact(1e300), contact(2))
    assert history.skipped == 3
    assert history.tracker.scores()[1].n_observations.tolist() == [2]


def test_a_negative_size_counts_as_nothing():
    features = observe(DestinationHistory(), *(contact(60 * index, sent=-5) for index in range(25)))
    assert features[24] == (0.0, 1.0)


def test_who_takes_the_slot_of_a_forgotten_destination_starts_anew():
    history = DestinationHistory()
    observe(history, *(contact(60 * index) for index in range(30)))
    observe(history, *(contact(2000 + i, address=f"198.51.{i // 250}.{i % 250}") for i in range(MAX_DESTINATIONS - 1)))
    heir = [contact(9000 + 37 * index + (index * index) % 31, address="203.0.113.1") for index in range(25)]
    inherited = observe(history, *heir)
    assert history.tracker.evicted_total == 1
    assert inherited == observe(DestinationHistory(), *heir)
    assert inherited[19][1] < 0.95


def test_the_features_are_those_of_the_estimators_on_the_last_256_contacts():
    rng = np.random.default_rng(5)
    times = 1.7e9 + np.cumsum(rng.integers(1000, 90_000, 300)) / 1000.0
    events = [contact(time, sent=size) for time, size in zip(times, rng.integers(1, 900, 300), strict=True)]
    history = DestinationHistory()
    batch = EventBatch.from_events(events)
    is_last = np.arange(300) == 299
    information, score = history.observe(batch, is_last).features[299]
    assert score == pytest.approx(periodicity_score(times[-256:]).score, abs=1e-9)
    assert 0.0 <= information < 0.2  # sizes are independent of the intervals
