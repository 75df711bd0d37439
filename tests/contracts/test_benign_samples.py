"""Calibration rows of the fleet, on SQLite and on MariaDB: who is among them, and how many of each host."""

import numpy as np
import pytest
import sqlalchemy as sa
from live_fleet import DAY, PastFleet, agent_row, event_row, feedback_row, fill

from eguard.detection.feature_contract import N_FEATURES, contract_sha256
from eguard.detection.fitted_tables import CLASS_RISK_INDEX, RULE_PRECISION_INDEX
from eguard.fleet.calibration import read_benign_samples
from eguard.fleet.tables import calibration_sample, incident

NOW = 1_772_000_000.0
COUNTS = {"a1": 900, "a2": 41, "a3": 40, "a4": 7, "a5": 3}


def sample_row(sample_id, agent_id, at=NOW - 100.0, **values):
    row = {
        "sample_id": sample_id,
        "agent_id": agent_id,
        "event_class": "file_open",
        "features": [0.25] * N_FEATURES,
        "contract_hash": contract_sha256(),
        "observed_at": at - 5.0,
        "received_at": at,
        "signal": "bash:open",
        "score": 0.5,
        "model_digest": "a" * 64,
        "event_id": None,
    }
    return row | values


def incident_row(incident_id, agent_id, status):
    facts = {"title": "t", "severity": "high", "alerts": 1, "first_at": NOW - DAY, "last_at": NOW, "grouping": {}}
    return {"incident_id": incident_id, "agent_id": agent_id, "status": status, "assignee": None, **facts}


@pytest.fixture
def fleet(migrated_database_url):
    """Return a way to fill the database."""
    made = []

    def build(samples, events=(), feedback=(), incidents=()):
        agents = [agent_row(f"a{number}", NOW, "office") for number in range(1, 6)]
        database = fill(migrated_database_url, PastFleet(agents, list(events), list(feedback)))
        with database.write() as connection:
            connection.execute(sa.insert(calibration_sample), list(samples))
            if incidents:
                connection.execute(sa.insert(incident), list(incidents))
        made.append(database)
        return database

    yield build
    for database in made:
        database.dispose()


def read(database, **given):
    with database.read() as connection:
        return read_benign_samples(connection, NOW - 30 * DAY, NOW, **given)


def test_rows_come_whole_without_what_a_model_brings(fleet):
    features = np.linspace(0.0, 1.0, N_FEATURES)
    one = sample_row("s1", "a1", features=features.tolist(), event_class="uncounted", signal="rule-1")
    found = read(fleet([one, sample_row("s0", "gone", NOW - 200.0)]))
    assert (found.sample_ids, found.hosts, found.groups) == (["s0", "s1"], ["gone", "a1"], ["", "office"])
    features[[CLASS_RISK_INDEX, RULE_PRECISION_INDEX]] = 0.0
    assert found.rows.features[1].tolist() == features.tolist()
    assert found.rows.event_class.tolist() == [2, -1]
    assert found.rows.signals == ["bash:open", "rule-1"]
    assert found.received_at.tolist() == [NOW - 200.0, NOW - 100.0]
    assert found.observed_at.tolist() == [NOW - 205.0, NOW - 105.0]


def test_the_window_goes_by_when_the_server_received_a_row(fleet):
    rows = [
        sample_row("early", "a1", NOW - 31 * DAY, observed_at=NOW - DAY),
        sample_row("inside", "a1", NOW - 29 * DAY, observed_at=NOW - 400 * DAY),
        sample_row("ahead", "a1", NOW + 1.0),
    ]
    assert read(fleet(rows)).sample_ids == ["inside"]


def test_attacks_and_their_hosts_calibrate_nothing(fleet):
    samples = [
        sample_row("judged attack", "a1", event_id="e1"),
        sample_row("judged twice", "a1", event_id="e2"),
        sample_row("judged benign", "a1", event_id="e3"),
        sample_row("unjudged", "a1", event_id="e4"),
        sample_row("open", "a2"),
        sample_row("closed", "a3"),
        sample_row("false alarm", "a4"),
        sample_row("foreign", "a5", contract_hash="0" * 64),
        sample_row("suppressed", "a5"),
    ]
    high = {"severity": "definite"}
    events = [
        event_row("e1", "a1", NOW - 100.0, None),
        event_row("e2", "a1", NOW - 100.0, None),
        event_row("e3", "a1", NOW - 100.0, None),
        event_row("medium", "a1", NOW - 100.0, None, incident_id="i1"),
        event_row("open", "a2", NOW - 100.0, None, incident_id="i2", **high),
        event_row("closed", "a3", NOW - 100.0, None, incident_id="i3", **high),
        event_row("false", "a4", NOW - 100.0, None, incident_id="i4", **high),
        event_row("known", "a5", NOW - 100.0, None, incident_id="i5", suppressed_by="w", **high),
    ]
    feedback = [
        feedback_row("e1", 1, "ann", NOW - 50.0),
        feedback_row("e2", 1, "ann", NOW - 50.0, "first"),
        feedback_row("e2", 0, "bob", NOW - 40.0, "second"),
        feedback_row("e3", 0, "ann", NOW - 50.0),
        feedback_row("false", 0, "ann", NOW - 50.0),
    ]
    incidents = [
        incident_row("i1", "a1", "open"),
        incident_row("i2", "a2", "investigating"),
        incident_row("i3", "a3", "closed"),
        incident_row("i4", "a4", "open"),
        incident_row("i5", "a5", "open"),
    ]
    found = read(fleet(samples, events, feedback, incidents))
    facts = found.facts
    assert facts["left_out"] == {
        "another contract": 1,
        "true positive": 1,
        "host with an open High alert": 1,
        "beyond its host's share": 2,  # a1 has three that fit, the median host one
    }
    assert set(found.hosts) == {"a1", "a3", "a4", "a5"}
    assert (facts["received"], facts["rows"], facts["hosts"], facts["largest_host_share"]) == (9, 4, 4, 0.25)
    # One unjudged alert among six rows; one of three judged ones was an attack.
    assert (facts["assumed_contamination"], facts["expected_contamination"]) == (0.0, pytest.approx(1 / 6 / 3))


def test_no_host_has_more_rows_than_the_median_host_and_which_does_not_depend_on_their_order(fleet):
    rows = [sample_row(f"{host}-{number}", host) for host, count in COUNTS.items() for number in range(count)]
    database = fleet(rows[::-1])
    found = read(database)
    counts = {host: found.hosts.count(host) for host in COUNTS}
    assert counts == {"a1": 40, "a2": 40, "a3": 40, "a4": 7, "a5": 3}
    few = read(database, limit=50)
    assert len(few) == 40  # ten each of three hosts, seven, and three
    assert set(few.sample_ids) <= {row["sample_id"] for row in rows}


def test_without_rows_there_is_nothing_to_say(fleet):
    found = read(fleet([sample_row("old", "a1", NOW - 60 * DAY)]))
    assert (len(found), found.rows.features.shape) == (0, (0, N_FEATURES))
    assert found.facts["largest_host_share"] is None
    assert found.facts["expected_contamination"] is None
