"""Alerts begin once, are told once, and end when the numbers have been fine for a while."""

import pytest
import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.fleet.tables import (
    calibration_reference,
    endpoint_agent,
    fleet_alarm,
    fleet_generation,
    fleet_health,
    maintenance_run,
    notification,
    policy,
    rollout,
    signal_count,
)
from eguard.server.services.alerts import RULES, Alerts, alert_views
from eguard.server.services.outbox import outbox
from eguard.server.signal_gauges import SIGNAL_GAUGES, signal_samples

NOW = 1_772_000_100.0
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


@pytest.fixture
def clock():
    return SimulatedClock(NOW)


@pytest.fixture
def alerts(fleet, clock):
    return Alerts(fleet, clock, may_seed=lambda _: True, flush=lambda: None)


def insert(database, table, *rows):
    with database.write() as connection:
        connection.execute(sa.insert(table), list(rows))


def count(database, name, values, *, end, server="s"):
    """Write values of buckets, oldest first, the last of which ends at `end`."""
    start = end - 300.0 * len(values)
    rows = [
        {"bucket_at": start + 300.0 * index, "name": name, "server_id": server, "value": value}
        for index, value in enumerate(values)
    ]
    insert(database, signal_count, *rows)


def generation(number, at, keys=5, source="aggregate", **changes):
    facts = {"is_reference": False, "is_pruned": False, "key_count": keys, "source": source, "computed_at": at}
    return {"generation": number, **facts, **changes}


def run(number, status, at):
    facts = {"task_id": "fleet_aggregate", "started_by": "schedule", "server_id": "s"}
    return {"run_id": f"r{number}", "status": status, "started_at": at, "finished_at": at + 1.0, **facts}


def beat(database, agent_id, **values):
    with database.write() as connection:
        connection.execute(sa.update(endpoint_agent).where(endpoint_agent.c.agent_id == agent_id).values(**values))


def told(database):
    return [(each["severity"], each["title"]) for each in reversed(outbox(database, 100))]


def test_a_new_server_knows_little_and_tells_nobody(fleet, alerts):
    states = alerts.look()
    assert set(states) == set(RULES)
    assert {rule for rule, state in states.items() if state == "unknown"} == {
        "aggregation",
        "stale_transitions",
        "js_trend",
        "p_values",
        "high_mi_destinations",
        "tree_anomalies",
    }
    assert set(states.values()) == {"ok", "unknown"}
    assert told(fleet) == []


def test_an_alert_begins_once_and_ends_after_ten_fine_minutes(fleet, alerts, clock):
    insert(fleet, maintenance_run, run(1, "failed", NOW - HOUR), run(2, "lost", NOW - MINUTE))
    assert alerts.look()["aggregation"] == "alert"
    clock.advance_to(NOW + MINUTE)
    alerts.look()
    title = RULES["aggregation"].title
    assert told(fleet) == [("critical", title)]
    insert(fleet, maintenance_run, run(3, "success", NOW + MINUTE))
    for minute in range(2, 12):
        clock.advance_to(NOW + minute * MINUTE)
        assert alerts.look()["aggregation"] == "alert"
    clock.advance_to(NOW + 12 * MINUTE)
    assert alerts.look()["aggregation"] == "ok"
    assert told(fleet) == [("critical", title), ("info", f"Over: {title}")]
    (over, began) = outbox(fleet, 2)
    assert (began["detail"]["value"], began["detail"]["bound"]) == (2, 2)
    assert over["detail"]["began_unix"] == NOW
    with fleet.read() as connection:
        view = next(each for each in alert_views(connection) if each["rule"] == "aggregation")
    assert (view["state"], view["since_unix"]) == ("ok", NOW + 12 * MINUTE)


def test_numbers_at_their_bound_tell_nobody_twice(fleet, alerts, clock):
    insert(fleet, maintenance_run, run(1, "failed", NOW - HOUR), run(2, "failed", NOW - MINUTE))
    alerts.look()
    for number in range(3, 40):
        clock.advance_to(NOW + number * MINUTE)
        insert(fleet, maintenance_run, run(number, "success" if number % 3 else "failed", clock.now()))
        if number % 3 == 2:
            insert(
                fleet,
                maintenance_run,
                run(f"{number}x", "failed", clock.now() + 1.0),
                run(f"{number}y", "failed", clock.now() + 2.0),
            )
        alerts.look()
    assert len(told(fleet)) == 1


def test_an_alert_does_not_end_because_nothing_is_known(fleet, alerts, clock):
    beat(
        fleet,
        "a1",
        last_heartbeat=NOW,
        destinations_scored=100,
        destinations_confirmed=9,
        destinations_alpha=0.01,
    )
    assert alerts.look()["high_mi_destinations"] == "alert"
    for hour in (3, 4, 5):  # the agent is silent
        clock.advance_to(NOW + hour * HOUR)
        assert alerts.look()["high_mi_destinations"] == "alert"
    assert len(told(fleet)) == 1


def test_an_alert_and_its_message_are_committed_together(fleet, alerts, monkeypatch):
    insert(fleet, maintenance_run, run(1, "failed", NOW - HOUR), run(2, "failed", NOW - MINUTE))

    def refuse(*_, **__):
        raise LookupError("no")

    with monkeypatch.context() as broken:
        broken.setattr("eguard.server.services.alerts.notify", refuse)
        with pytest.raises(LookupError):
            alerts.look()
    with fleet.read() as connection:
        assert {view["state"] for view in alert_views(connection)} == {"unknown"}
    assert alerts.look()["aggregation"] == "alert"
    assert len(told(fleet)) == 1


def test_rejects_count_once_their_five_minutes_are_over_and_written(fleet, alerts, clock):
    count(fleet, "rejects", [1] * 5 + [2], end=NOW)
    clock.advance_to(NOW + 74.0)
    assert alerts.look()["upload_rejects"] == "ok"  # another server may still write the last of them
    clock.advance_to(NOW + 76.0)
    assert alerts.look()["upload_rejects"] == "alert"
    assert outbox(fleet, 1)[0]["detail"]["numbers"]["rejects_by_window"] == [1, 1, 1, 1, 1, 2]


def test_seeds_that_nobody_applies_are_missed_after_two_intervals(fleet, alerts, clock):
    count(fleet, "accepted_rows", [4] * 7, end=NOW + 300.0)
    insert(fleet, fleet_generation, generation(1, NOW - HOUR))
    assert alerts.look()["seed_effectiveness"] == "ok"  # nobody learns
    beat(fleet, "a1", baseline_status="learning", last_heartbeat=NOW - 10.0, enrolled_at=NOW - 1700.0)
    assert alerts.look()["seed_effectiveness"] == "ok"  # not for two intervals yet
    beat(fleet, "a1", enrolled_at=NOW - 1801.0)
    assert alerts.look()["seed_effectiveness"] == "alert"


@pytest.mark.parametrize(
    ("applied", "keys", "may_seed", "counted", "state"),
    [
        (1, 5, True, 7, "ok"),
        (0, 0, True, 7, "ok"),
        (0, 5, False, 7, "ok"),
        (0, 5, True, 3, "unknown"),
        (0, 5, True, 7, "alert"),
    ],
)
def test_seeds_are_not_missed_where_none_are_due(fleet, clock, applied, keys, may_seed, counted, state):
    count(fleet, "accepted_rows", [4] * counted, end=NOW + 300.0)
    count(fleet, "rows_applied", [applied], end=NOW - 300.0)
    insert(fleet, fleet_generation, generation(1, NOW - HOUR, keys))
    beat(fleet, "a1", baseline_status="learning", last_heartbeat=NOW, enrolled_at=NOW - DAY)
    alerts = Alerts(fleet, clock, may_seed=lambda _: may_seed, flush=lambda: None)
    assert alerts.look()["seed_effectiveness"] == state


def test_a_generation_that_somebody_published_ends_failures_in_a_row(fleet, alerts):
    insert(fleet, maintenance_run, run(1, "failed", NOW - HOUR), run(2, "failed", NOW - 2.0))
    insert(fleet, fleet_generation, generation(1, NOW - 1.0))
    assert alerts.look()["aggregation"] == "ok"


def test_what_was_changed_under_a_frozen_rollout_is_named(fleet, alerts):
    made = {"policy_version": "1", "mode_revision": 0, "document": {}, "reason": "", "created_by": "ada"}
    one = {"revision": 7, "policy_id": "p", "rollout_id": "r", "created_at": NOW - 60.0, **made}
    insert(fleet, policy, one)
    stage = {"policy_id": "p", "stage_percent": 5.0, "stage_since": NOW - HOUR}
    insert(
        fleet, rollout, {"rollout_id": "r", **stage, "frozen_at": NOW - 60.0, "frozen_by": "x", "frozen_reason": "d"}
    )
    assert alerts.look()["safety"] == "ok"  # the freeze's own revision has its time
    insert(fleet, policy, {**one, "revision": 8, "created_at": NOW - 1.0})
    insert(fleet, fleet_generation, generation(3, NOW - 1.0, source="rollback", source_version="1"))
    assert alerts.look()["safety"] == "alert"
    numbers = outbox(fleet, 1)[0]["detail"]["numbers"]
    assert numbers["changes"] == ["generation 3 by rollback of 1", "revision 8 of p by ada"]
    assert numbers["rollouts"] == [
        {"rollout_id": "r", "agents": 0, "cohort_size": 0, "is_frozen": True, "is_switched_off": False}
    ]


def test_divergence_is_judged_beyond_its_bias(fleet, alerts):
    def row(number, mean):
        keys = {"new_keys": [], "new_key_share": 0.0, "new_key_count": 0, "vanished_keys": [], "vanished_key_count": 0}
        facts = {"compared_with": "reference", "other_generation": 1, "computed_at": NOW, "common_keys": 3, **keys}
        return {"generation": number, "js_mean": mean, "js_mean_bias": 0.02, **facts}

    insert(fleet, fleet_health, row(2, 0.121), row(3, 0.119))
    assert alerts.look()["js_trend"] == "ok"
    insert(fleet, fleet_health, row(4, 0.121), row(5, 0.121))
    assert alerts.look()["js_trend"] == "alert"


def test_alarms_of_adwin_count_for_a_day_whoever_resolved_them(fleet, alerts):
    def alarm(number, kind, hours):
        facts = {"generation": 1, "compared_with": "previous", "value": 1.0, "threshold": 0.5, "detail": {}}
        return {
            "alarm_id": f"{number}",
            "kind": kind,
            "series": f"k{number}:x",
            "raised_at": NOW - hours * HOUR,
            **facts,
        }

    insert(fleet, fleet_alarm, *[alarm(number, "adwin", 23.0) for number in range(3)])
    insert(fleet, fleet_alarm, alarm(3, "cusum", 1.0), alarm(4, "rank_adwin", 25.0))
    assert alerts.look()["adwin_alarms"] == "ok"
    insert(fleet, fleet_alarm, alarm(5, "rank_adwin", 1.0))
    assert alerts.look()["adwin_alarms"] == "alert"


def test_stale_baselines_and_trees_are_judged_by_the_week_before(fleet, alerts):
    days = 8 * 288
    count(fleet, "accepted_rows", [0] * days, end=NOW)
    count(fleet, "stale_transitions", [1] * 7, end=NOW - 2 * DAY)  # one a day on average
    count(fleet, "stale_transitions", [5], end=NOW)
    count(fleet, "trees_seen", [20] * days, end=NOW)
    count(fleet, "trees_anomalous", [0] * (days - 12) + [1] * 4 + [0] * 8, end=NOW)
    states = alerts.look()
    assert (states["stale_transitions"], states["tree_anomalies"]) == ("ok", "ok")
    count(fleet, "stale_transitions", [1], end=NOW, server="other")
    count(fleet, "trees_anomalous", [1], end=NOW, server="other")
    states = alerts.look()
    assert (states["stale_transitions"], states["tree_anomalies"]) == ("alert", "alert")


def reference(health, **changes):
    """Return the row of a served model, and of the latest check of its scores."""
    facts = {"model_version": "m", "calibration_digest": "c" * 64, "contract_hash": "e" * 64, "alpha": 0.01}
    times = {"loaded_at": NOW - 9 * DAY, "computed_at": NOW - 9 * DAY, "checked_at": NOW}
    return {"model_digest": "d" * 64, **facts, **times, "facts": {"rows": 7}, "health": health, **changes}


@pytest.mark.parametrize(
    ("p_value", "hours", "changes", "state"),
    [
        (4.1e-4, 0.5, {}, "alert"),
        (4.3e-4, 0.5, {}, "ok"),
        (1e-9, 4.0, {}, "unknown"),  # nobody looked for hours
        (1e-9, 0.5, {"computed_at": None}, "unknown"),
        (None, 0.5, {}, "unknown"),
    ],
)
def test_scores_are_judged_by_the_latest_check_of_the_model_in_service(fleet, alerts, p_value, hours, changes, state):
    status = "checked" if p_value is not None else "17 samples in 24 h, 100 are needed"
    health = {"status": status, "p_value": p_value, "ks_statistic": 0.2, "checked_at_unix": NOW - hours * HOUR}
    earlier = reference(
        {**health, "status": "checked", "p_value": 0.5}, model_digest="a" * 64, loaded_at=NOW - 20 * DAY
    )
    insert(fleet, calibration_reference, reference(health, **changes), earlier)
    assert alerts.look()["p_values"] == state
    with fleet.read() as connection:
        samples = signal_samples(connection)
    shown = {"alert": 1.0, "ok": 0.0, "unknown": None}[state]
    assert samples["eguard_alert_firing"].get(("p_values",)) == shown
    assert samples.get("eguard_score_ks_statistic", {}).get(()) == (None if shown is None else 0.2)
    assert samples["eguard_alert_bound"]["p_values",] == pytest.approx(0.01 / 24)


def test_gauges_are_the_numbers_of_the_latest_look(fleet, alerts):
    with fleet.read() as connection:
        assert signal_samples(connection)["eguard_alert_firing"] == {}
    insert(fleet, maintenance_run, run(1, "failed", NOW - HOUR), run(2, "failed", NOW - MINUTE))
    alerts.look()
    with fleet.read() as connection:
        samples = signal_samples(connection)
    assert samples["eguard_alert_firing"]["aggregation",] == 1.0
    assert samples["eguard_alert_firing"]["safety",] == 0.0
    assert ("js_trend",) not in samples["eguard_alert_firing"]
    assert samples["eguard_aggregation_failures"] == {(): 2.0}
    assert samples["eguard_alert_value"]["aggregation",] == samples["eguard_alert_bound"]["aggregation",] == 2.0
    assert samples["eguard_alerts_looked_at_timestamp_seconds"] == {(): NOW}
    assert set(samples) <= set(SIGNAL_GAUGES)


def test_a_database_from_which_messages_went_still_has_its_alerts(fleet, alerts, clock):
    insert(fleet, maintenance_run, run(1, "failed", NOW - HOUR), run(2, "failed", NOW - MINUTE))
    alerts.look()
    with fleet.write() as connection:
        connection.execute(sa.delete(notification))
    clock.advance_to(NOW + MINUTE)
    assert alerts.look()["aggregation"] == "alert"
    assert told(fleet) == []
