"""Benign timers are listed with what explains them; unlabelled pairs are counted and not called false alarms."""

import numpy as np

from eguard.estimators.beacon import BeaconOptions
from eguard.events import EventBatch
from eguard.mlops.beacon_benign import (
    benign_timers,
    callers_of_scored_pairs,
    conversing,
    unlabelled_pairs,
    without_a_fleet,
)
from eguard.mlops.beacon_pairs import pairs_from_events
from eguard.mlops.beacon_scores import score_pairs


def site(rows, *, has_fleet=True):
    """Rows of (host, address, port, times, sent, received)."""
    counts = [len(row[3]) for row in rows]
    column = lambda index: [row[index] for row, count in zip(rows, counts, strict=True) for _ in range(count)]  # noqa: E731
    events = EventBatch(
        time_unix=np.concatenate([row[3] for row in rows]),
        host_id=column(0),
        event_class=np.full(sum(counts), 3),
        destination_address=column(1),
        destination_port=np.array(column(2)),
        sent_bytes=np.array(column(4)),
        received_bytes=np.array(column(5)),
    )
    return score_pairs(pairs_from_events(events), BeaconOptions(), has_fleet=has_fleet)


BEATS = 600.0 * np.arange(60)
CHAOS = np.cumsum(np.random.default_rng(0).pareto(0.7, 60) + 0.01)


def test_timers_are_explained_by_name_period_and_prevalence():
    scored = site(
        [(host, "192.0.2.1", 123, BEATS, 48, 48) for host in "abc"]
        + [("a", "192.0.2.2", 443, CHAOS, 48, 48), ("a", "192.0.2.3", 443, BEATS, 48, 48)]
    )
    ntp, private = sorted(benign_timers(scored, {"destination": 0.9}), key=lambda entry: entry["destination"])
    assert (ntp["destination"], ntp["explanation"]) == ("192.0.2.1:123", "time synchronisation (NTP)")
    assert (ntp["n_hosts_contacting"], ntp["rarity"], ntp["alarms"]) == (3, 0.0, [])
    assert round(ntp["period_seconds"]) == 600
    assert (private["explanation"], private["alarms"]) == ("not known", ["destination"])


def test_the_callers_of_scored_pairs_are_counted():
    scored = site([(host, "192.0.2.1", 123, BEATS, 1, 1) for host in "abc"] + [("a", "192.0.2.2", 1, BEATS, 1, 1)])
    assert callers_of_scored_pairs(scored) == {"1": 1, "3": 3}


def test_without_a_fleet_every_timer_alarms():
    scored = site([(host, "192.0.2.1", 123, BEATS, 1, 1) for host in "abc"])
    rates = without_a_fleet(scored, np.array([False, True, True]), 0.9)
    assert (rates["scored_pairs"]["count"], rates["scored_pairs"]["of"]) == (2, 2)
    assert (rates["destinations"]["count"], rates["destinations"]["of"]) == (1, 1)


def test_unlabelled_pairs_are_counted_by_direction_and_the_labelled_one_is_ranked():
    server = "198.51.100.1"
    scored = site(
        [
            (server, "192.0.2.1", 123, BEATS, 48, 48),
            ("203.0.113.1", server, 22, BEATS[:30], 0, 0),
            ("203.0.113.2", server, 80, BEATS, 80, 327),
            ("203.0.113.3", server, 80, BEATS[:3], 0, 0),
        ],
        has_fleet=False,
    )
    labelled = scored.pairs.find("203.0.113.2", f"{server}:80")
    counts = unlabelled_pairs(scored, {"destination": 0.9}, {labelled}, server)
    assert (counts["outbound"]["scored"], counts["outbound"]["destination"]["above_threshold"]) == (1, 1)
    assert counts["inbound"]["pairs"] == 2
    assert counts["inbound"]["destination"]["by_service"] == {"remote shell (SSH)": 1}
    assert counts["inbound"]["destination"]["above_threshold_and_conversing"] == 0
    (entry,) = counts["labelled"]
    assert (entry["direction"], entry["is_conversing"], entry["n_scored"]) == ("inbound", True, 3)


def test_conversing_takes_payload_both_ways_in_six_hours():
    scored = site(
        [
            ("a", "192.0.2.1", 1, BEATS, 10, 10),
            ("a", "192.0.2.2", 1, BEATS, 10, 0),
            ("a", "192.0.2.3", 1, BEATS[:3], 10, 10),
        ]
    )
    assert conversing(scored.pairs).tolist() == [True, False, False]
