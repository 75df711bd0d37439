"""Composite scores as contacts arrive: rarity, threshold, allow-list, advisories, and when an alarm is raised."""

from collections import Counter

import numpy as np
import pytest

from eguard.detection.beacon_calibration import BeaconCalibration
from eguard.detection.beacon_judge import _schedule
from eguard.detection.beacons import MAX_DESTINATIONS
from eguard.detection.destinations import DestinationHistory
from eguard.detection.fleet_context import FleetContext
from eguard.estimators import beacon_regularity
from eguard.events import EventBatch

CALIBRATED = BeaconCalibration(0.65, 0.01, 140, insufficient_calibration=False)
FLEET = FleetContext(n_connecting_hosts=11, destination_hosts={"192.0.2.9:443": 11, "192.0.2.8:443": 3, "ntp.org": 9})


def contacts(times, address="192.0.2.1", **columns):
    n = len(times)
    given = {"event_class": [3] * n, "comm": ["a.exe"] * n, "destination_address": [address] * n}
    given |= {"destination_port": [443] * n, "sent_bytes": [310] * n, "time_unix": times}
    return EventBatch(**(given | columns))


def timer(n=40, **columns):
    return contacts(1.7e9 + 60.0 * np.arange(n), **columns)


def observe(batch, calibration=CALIBRATED, fleet=FLEET, history=None, *, is_candidate=True):
    history = DestinationHistory() if history is None else history
    return history, history.observe(batch, np.full(len(batch), is_candidate), calibration, fleet)


def test_a_rare_timer_is_confirmed_at_its_twentieth_contact_and_once():
    history, findings = observe(timer(300))
    assert findings.raised == [19]
    assert findings.confirmed == [19]
    evidence = findings.beacons[19]
    assert (evidence.destination, evidence.score, evidence.regularity, evidence.rarity) == (
        "192.0.2.1:443",
        1.0,
        1.0,
        1.0,
    )
    assert (evidence.threshold, evidence.period_seconds, evidence.n_observations) == (0.65, 60.0, 20)
    assert sorted(findings.beacons) == list(range(19, 300))  # it stands from then on
    assert findings.beacons[299].n_observations == 256
    assert history.judge.counts == Counter(scored=13, alarms=1)


def test_the_score_is_regularity_times_rarity():
    _, findings = observe(timer(address="192.0.2.8"))
    assert findings.beacons[19].rarity == pytest.approx(0.8)
    assert findings.beacons[19].score == pytest.approx(0.8)


def test_a_timer_that_every_host_has_is_passed_over_without_scoring():
    history, findings = observe(timer(address="192.0.2.9"))
    assert (findings.raised, findings.beacons) == ([], {})
    assert history.judge.counts == Counter(common=4)


def test_chance_is_no_beacon():
    rng = np.random.default_rng(1)
    batch = contacts(np.cumsum(rng.exponential(60.0, 300)), sent_bytes=rng.integers(0, 9000, 300))
    history, findings = observe(batch)
    assert findings.raised == []
    assert history.judge.counts["scored"] > 5


def test_a_score_equal_to_the_threshold_does_not_exceed_it():
    at_most = BeaconCalibration(1.0, 0.01, 140, insufficient_calibration=False)
    assert observe(timer(), at_most)[1].raised == []
    just_below = BeaconCalibration(float(np.nextafter(1.0, 0.0)), 0.01, 140, insufficient_calibration=False)
    assert observe(timer(), just_below)[1].raised == [19]


@pytest.mark.parametrize(
    ("calibration", "fleet"),
    [
        (BeaconCalibration(0.65, 0.01, 56, insufficient_calibration=True), FLEET),
        (CALIBRATED, FleetContext()),
        (CALIBRATED, FleetContext(n_connecting_hosts=1)),
    ],
    ids=["insufficient", "no table", "fleet of one"],
)
def test_without_calibration_enough_or_fleet_the_alarm_is_advisory(calibration, fleet):
    history, findings = observe(timer(), calibration, fleet)
    assert findings.raised == [19]
    assert findings.confirmed == []
    assert not findings.beacons[19].is_confirmed
    assert history.judge.counts["advisories"] == 1


@pytest.mark.parametrize("calibration", [None, BeaconCalibration(None, 0.01, 56, insufficient_calibration=True)])
def test_without_a_threshold_nothing_is_scored_and_nothing_stands(calibration):
    history, _ = observe(timer())
    _, findings = observe(contacts([1.7e9 + 60.0 * 40]), calibration, history=history)
    assert (findings.raised, findings.beacons) == ([], {})


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"address": "224.0.0.251"}, "never_c2"),
        ({"address": "fe80::1%eth0"}, "never_c2"),
        ({"address": "192.0.2.77"}, "allowed"),
        ({"event_class": [4] * 40, "target": ["Time.Update.Example."] * 40}, "allowed"),
        ({"event_type": ["accept"] * 40}, "inbound"),
        ({"fields": [{"Initiated": "false"}] * 40}, "inbound"),
    ],
)
def test_who_is_never_scored_is_counted(columns, reason):
    history = DestinationHistory(allow_list=("192.0.2.77", "update.EXAMPLE", "example.com"))
    _, findings = observe(timer(**columns), history=history)
    assert findings.raised == []
    assert history.judge.counts == Counter({reason: 4})
    assert len(history) == 1  # its features are wanted all the same
    assert findings.features[39][1] == 1.0


def test_look_ups_are_beacons_by_their_registered_domain():
    names = [f"{i:x}.data.tunnel.example" for i in range(40)]
    _, findings = observe(timer(event_class=[4] * 40, target=names))
    assert findings.beacons[19].destination == "tunnel.example"
    _, common = observe(timer(event_class=[4] * 40, target=["0.pool.ntp.org"] * 40))
    assert common.raised == []


def test_evidence_falls_with_the_score_and_can_rise_again():
    rng = np.random.default_rng(3)
    calm = 60.0 * np.arange(1, 300)
    wild = calm[-1] + np.cumsum(rng.lognormal(2.0, 2.0, 300))
    again = wild[-1] + 60.0 * np.arange(1, 300)
    sizes = np.concatenate([np.full(299, 310), rng.integers(0, 9000, 300), np.full(299, 310)])
    _, findings = observe(contacts(1.7e9 + np.concatenate([calm, wild, again]), sent_bytes=sizes))
    first, second = findings.raised
    assert first == 19
    assert 599 < second < 898
    assert 598 not in findings.beacons


def test_who_takes_the_slot_of_a_forgotten_beacon_inherits_no_evidence():
    history, _ = observe(timer())
    n = MAX_DESTINATIONS
    _, findings = observe(
        contacts(1.7e9 + 3000.0 + np.arange(n), destination_address=[f"f{i}" for i in range(n)]), history=history
    )
    assert history.tracker.evicted_total == 1
    assert findings.beacons == {}
    _, findings = observe(contacts(1.7e9 + 9000.0 + 60.0 * np.arange(25)), history=history)
    assert findings.raised == [19]
    assert min(findings.beacons) == 19


def test_exactly_the_scores_above_the_threshold_are_raised():
    # Half of the beats are missed, so that the phase decides, near the threshold and at several rarities.
    rng = np.random.default_rng(8)
    n, kinds = 38, 200
    times = np.cumsum(60.0 * rng.geometric(0.5, (kinds, n)) + rng.uniform(-25.0, 25.0, (kinds, n)), axis=1)
    sizes = np.where(rng.random((kinds, n)) < 0.6, 310, rng.integers(0, 9000, (kinds, n)))
    users = rng.integers(1, 6, kinds)
    names = {f"192.0.2.{i}:443": int(k) for i, k in enumerate(users) if k > 1}
    fleet = FleetContext(n_connecting_hosts=11, destination_hosts=names)
    seen = [20, 25, 31, 38]
    expected = []
    for kind in range(kinds):
        cut = beacon_regularity(
            np.concatenate([times[kind, :k] for k in seen]),
            np.concatenate([sizes[kind, :k] for k in seen]),
            np.concatenate([[0], np.cumsum(seen)]),
        )
        expected.append((cut.regularity * (1.0 - (users[kind] - 1) / 10.0) > 0.65).tolist())
    for kind in range(kinds):
        batch = contacts(times[kind], address=f"192.0.2.{kind}", sent_bytes=sizes[kind])
        _, findings = observe(batch, fleet=fleet)
        assert [k - 1 in findings.beacons for k in seen] == expected[kind]
    assert 50 < np.sum(expected) < 750


def test_destinations_that_nobody_asks_for_are_scored_all_the_same():
    _, findings = observe(timer(), is_candidate=False)
    assert findings.raised == [19]
    assert sorted(findings.beacons) == [19, 24, 30, 37]  # when it was scored
    assert findings.features == {19: (0.0, 1.0)}


def test_the_schedule_goes_on_by_64():
    due = np.flatnonzero(_schedule(20, 256))
    assert (np.diff(due) <= 64).all()
    history, _ = observe(timer(20 + 64 * 20))
    assert history.judge.counts["scored"] == len(due) + (20 + 64 * 20 - 256) // 64
