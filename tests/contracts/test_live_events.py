"""What a nightly run takes from the fleet's database, on SQLite and on MariaDB."""

import numpy as np
import pytest
from live_fleet import DAY, PastFleet, agent_row, event_row, feedback_row, fill

from eguard.detection.feature_contract import FEATURE_NAMES
from eguard.mlops.live_events import Window, read_live_events

NOW = 1_772_000_000.0
ROW = np.linspace(0.0, 1.0, len(FEATURE_NAMES))
FITTED = [FEATURE_NAMES.index("event_class_risk"), FEATURE_NAMES.index("rule_precision_prior")]


@pytest.fixture
def database(migrated_database_url):
    agents = [agent_row("a1", NOW, "office"), agent_row("a2", NOW)]
    events = [
        event_row("old", "a1", NOW - 40 * DAY, ROW),
        event_row("late", "a1", NOW - 40 * DAY, ROW, received_at=NOW - 10.0),
        event_row("unjudged", "a1", NOW - 900.0, ROW),
        event_row("twice", "a1", NOW - 800.0, ROW, "rule-7", severity="definite", score=None),
        event_row("disputed", "a2", NOW - 700.0, ROW),
        event_row("ahead", "a2", NOW + 9 * DAY, ROW, received_at=NOW - 600.0),
        event_row("bare", "a2", NOW - 500.0, None),
        event_row("partial", "a2", NOW - 400.0, {"rule_burst": 0.5}),
        event_row("wild", "a2", NOW - 300.0, ROW * 2.0),
        event_row("gone", "removed-agent", NOW - 200.0, ROW),
    ]
    feedback = [
        feedback_row(name, 1, "ann", NOW - 100.0)
        for name in ("old", "late", "twice", "disputed", "ahead", "bare", "partial", "wild", "gone")
    ]
    feedback += [
        feedback_row("twice", 0, "ann", NOW - 50.0, "second"),
        feedback_row("disputed", 0, "bob", NOW),
    ]
    database = fill(migrated_database_url, PastFleet(agents, events, feedback))
    yield database
    database.dispose()


def test_the_window_goes_by_when_the_server_received_an_event(database):
    live = read_live_events(database, Window(NOW, 30 * DAY, 100))
    assert live.columns["sample_id"] == ["late", "twice", "disputed", "ahead", "gone"]
    assert (live.n_window, live.n_adjudicated) == (9, 8)
    assert live.left_out == {"no features": 1, "features of another contract": 1, "features outside [0, 1]": 1}


def test_what_a_host_dates_into_the_future_happened_when_it_arrived(database):
    live = read_live_events(database, Window(NOW, 30 * DAY, 100))
    times = dict(zip(live.columns["sample_id"], live.columns["observed_at_unix"], strict=True))
    assert times["ahead"] == NOW - 600.0
    assert times["late"] == NOW - 40 * DAY


def test_rows_say_who_where_and_what(database):
    live = read_live_events(database, Window(NOW, 30 * DAY, 100))
    rows = [dict(zip(live.columns, values, strict=True)) for values in zip(*live.columns.values(), strict=True)]
    twice = next(row for row in rows if row["sample_id"] == "twice")
    assert (twice["host_id"], twice["network"], twice["rule_id"]) == ("a1", "office", "rule-7")
    assert (twice["severity"], twice["model_score"]) == (1.0, None)
    assert [row["network"] for row in rows if row["sample_id"] in {"disputed", "gone"}] == ["default", "default"]


def test_features_that_training_fits_are_not_taken_from_the_agents_model(database):
    live = read_live_events(database, Window(NOW, 30 * DAY, 100))
    expected = ROW.copy()
    expected[FITTED] = 0.0
    assert all(np.array_equal(row, expected) for row in live.features)


def test_every_verdict_is_kept_in_order(database):
    live = read_live_events(database, Window(NOW, 30 * DAY, 100))
    said = [(row["sample_id"], row["verdict"], row["analyst"]) for row in live.verdicts]
    assert said[-2:] == [("twice", "false_positive", "ann"), ("disputed", "false_positive", "bob")]
    assert len(said) == 7
    assert {row[0] for row in said} == set(live.columns["sample_id"])


def test_the_limit_takes_the_newest(database):
    live = read_live_events(database, Window(NOW, 30 * DAY, 2))
    assert live.n_adjudicated == 8
    # The two that the server received last.
    assert live.columns["sample_id"] == ["late", "gone"]
    assert {row["sample_id"] for row in live.verdicts} == {"late", "gone"}


def test_an_empty_day_is_no_error(migrated_database_url):
    database = fill(migrated_database_url, PastFleet([], [], []))
    live = read_live_events(database, Window(NOW, DAY, 100))
    assert (len(live), live.n_window, live.verdicts) == (0, 0, [])
    database.dispose()
