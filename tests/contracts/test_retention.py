"""What is too old goes, in small steps; what is young, or an analyst's, stays. On both databases."""

import pytest
import sqlalchemy as sa

from eguard.errors import FleetStoreError
from eguard.fleet import FleetStore, retention
from eguard.fleet.database import Database
from eguard.fleet.retention import Retention, purge
from eguard.fleet.tables import (
    alert_feedback,
    audit_log,
    calibration_sample,
    endpoint_baseline,
    endpoint_event,
    fleet_health,
    incident,
    maintenance_run,
    notification,
    notification_delivery,
    signal_count,
)
from eguard.wire import BaselineRow

NOW, DAY = 1_772_000_000.0, 86_400.0


@pytest.fixture
def database(migrated_database_url):
    made = Database(migrated_database_url)
    yield made
    made.dispose()


def event(number, severity, days, **changes):
    return {
        "event_id": f"e{number}",
        "agent_id": "a",
        "observed_at": NOW,
        "received_at": NOW - days * DAY,
        "event_class": "process_exec",
        "process_key": "bash:sshd",
        "rule_id": "r",
        "severity": severity,
        "detail": {},
        "search_text": "",
        **changes,
    }


def insert(database, table, rows):
    with database.write() as connection:
        connection.execute(sa.insert(table), rows)


def left(database, column):
    with database.read() as connection:
        return sorted(connection.execute(sa.select(column)).scalars())


def test_alerts_outlive_events(database):
    ages = (29, 31, 179, 181)
    rows = [
        event(f"{severity}-{days}", severity, days)
        for severity in ("low", "medium", "high", "very_high", "definite")
        for days in ages
    ]
    insert(database, endpoint_event, rows)
    removed = purge(database, NOW)
    assert (removed["events"], removed["alerts"]) == (2 * 3, 3 * 1)
    assert left(database, endpoint_event.c.event_id) == sorted(
        ["elow-29", "emedium-29"] + [f"e{s}-{d}" for s in ("high", "very_high", "definite") for d in (29, 31, 179)]
    )


def test_the_servers_clock_decides_and_not_the_agents(database):
    insert(
        database,
        endpoint_event,
        [
            event(number, "low", 29 if number < 4 else 31, observed_at=NOW + (-1) ** number * 3650 * DAY)
            for number in range(8)
        ],
    )
    assert purge(database, NOW)["events"] == 4
    assert left(database, endpoint_event.c.event_id) == ["e0", "e1", "e2", "e3"]


def test_every_kind_has_its_age_and_verdicts_none(database):
    age = {"young": 399 * DAY, "old": 401 * DAY}
    insert(
        database,
        fleet_health,
        [
            {
                "generation": number,
                "compared_with": "previous",
                "other_generation": 0,
                "computed_at": NOW - seconds,
                "common_keys": 0,
                "new_key_share": 0.0,
                "new_key_count": 0,
                "new_keys": [],
                "vanished_key_count": 0,
                "vanished_keys": [],
            }
            for number, seconds in enumerate(age.values(), 1)
        ],
    )
    insert(
        database,
        maintenance_run,
        [
            {
                "run_id": name,
                "task_id": "t",
                "started_by": "schedule",
                "server_id": "s",
                "status": "success",
                "started_at": NOW - seconds,
            }
            for name, seconds in age.items()
        ],
    )
    insert(
        database,
        calibration_sample,
        [
            {
                "sample_id": f"s{days}",
                "agent_id": "a",
                "event_class": "login",
                "features": [],
                "contract_hash": "",
                "observed_at": NOW,
                "received_at": NOW - days * DAY,
                "signal": "",
            }
            for days in (29, 31)
        ],
    )
    insert(
        database,
        incident,
        [
            {
                "incident_id": f"i{days}",
                "agent_id": "a",
                "title": "",
                "severity": "high",
                "status": "open",
                "alerts": 1,
                "first_at": NOW - 200 * DAY,
                "last_at": NOW - days * DAY,
                "grouping": {},
            }
            for days in (179, 181)
        ],
    )
    insert(
        database,
        alert_feedback,
        [
            {
                "feedback_id": "f",
                "event_id": "gone",
                "verdict": "benign",
                "analyst": "x",
                "note": "",
                "created_at": NOW - 4000 * DAY,
            }
        ],
    )
    counted = {"name": "accepted_rows", "server_id": "s", "value": 1}
    insert(database, signal_count, [{**counted, "bucket_at": NOW - days * DAY} for days in (29, 31)])
    told = {"kind": "k", "severity": "info", "title": "", "detail": {}}
    insert(
        database,
        notification,
        [{**told, "notification_id": f"n{days}", "created_at": NOW - days * DAY} for days in (179, 181)],
    )
    sent = {"sink": "webhook", "status": "waiting", "attempts": 0, "next_attempt_at": NOW}
    insert(database, notification_delivery, [{**sent, "notification_id": f"n{days}"} for days in (179, 181)])
    assert purge(database, NOW) == {
        "alerts": 0,
        "baselines": 0,
        "calibration": 1,
        "events": 0,
        "health": 1,
        "incidents": 1,
        "maintenance": 1,
        "notifications": 1,
        "signals": 1,
    }
    assert left(database, notification_delivery.c.notification_id) == ["n179"]
    assert left(database, fleet_health.c.generation) == [1]
    assert left(database, maintenance_run.c.run_id) == ["young"]
    assert left(database, calibration_sample.c.sample_id) == ["s29"]
    assert left(database, incident.c.incident_id) == ["i179"]
    assert left(database, alert_feedback.c.feedback_id) == ["f"]


def test_baselines_go_thirty_days_after_their_last_update(database, migrated_database_url):
    row = BaselineRow(
        process_key="bash:sshd",
        event_distribution={"alert": 1.0},
        sample_count=50,
        entropy_threshold=2.0,
        learned_at_unix=NOW,
        seq=1,
    )
    with FleetStore(migrated_database_url) as store:
        for agent, days in (("young", 29), ("old", 31)):
            store.upsert_baselines(agent, "first", [row], at=NOW - days * DAY)
    assert purge(database, NOW)["baselines"] == 1
    assert left(database, endpoint_baseline.c.agent_id) == ["young"]


def test_the_audit_log_is_left_to_its_own_chain(database):
    record = {
        "sequence": 1,
        "at": NOW - 4000 * DAY,
        "principal": "x",
        "role": "admin",
        "action": "a.b",
        "object_type": "o",
        "object_id": "i",
        "detail": {},
        "address": "",
        "credential": "",
        "previous_hash": "0" * 64,
        "record_hash": "1" * 64,
    }
    insert(database, audit_log, [record])
    assert "audit" not in purge(database, NOW)
    assert left(database, audit_log.c.sequence) == [1]


def test_settings_decide(database):
    insert(database, endpoint_event, [event(1, "low", 2), event(2, "high", 2)])
    assert purge(database, NOW, Retention(events_days=1.0))["events"] == 1
    assert purge(database, NOW, Retention(alerts_days=1.0))["alerts"] == 1


@pytest.mark.parametrize("same_time", [False, True], ids=["spread", "at once"])
def test_many_rows_go_in_small_transactions_between_which_the_work_can_be_ended(database, monkeypatch, same_time):
    monkeypatch.setattr(retention, "BATCH_ROWS", 10)
    rows = [event(number, "low", 31 if same_time else 31 + number / 100) for number in range(35)]
    kept = [event(f"kept-{number}", "high", 60) for number in range(15)]
    insert(database, endpoint_event, rows + kept)
    calls = []

    class EndedError(Exception):
        pass

    def end(*call):
        calls.append(call)
        if [name for name, *_ in calls].count("events") == 2:
            raise EndedError

    with pytest.raises(EndedError):
        purge(database, NOW, progress=end)
    assert calls[-1] == ("events", 3, 9)
    assert len(left(database, endpoint_event.c.event_id)) == 15 + 15
    assert purge(database, NOW)["events"] == 15
    assert len(left(database, endpoint_event.c.event_id)) == 15


def test_a_database_without_tables_says_so(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/x.db")
    with pytest.raises(FleetStoreError):
        purge(database, NOW)
    database.dispose()
