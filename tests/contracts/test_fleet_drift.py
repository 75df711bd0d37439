"""Drift on each database: states that survive, alarms once, and the same findings on both."""

import numpy as np
import pytest
import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.fleet import FleetStore
from eguard.fleet.alarms import list_alarms, open_alarms, resolve_alarms
from eguard.fleet.drift import calm_charts, describe_drift, evaluate_drift, evaluated_generation
from eguard.fleet.key_charts import read_key_charts
from eguard.fleet.tables import fleet_alarm, fleet_drift_block
from eguard.wire import BaselineRow, distribution_from_vector

NOW = 1_790_000_000.25
KEYS = ["Bash:init", "bash:init", "bäsh:init"]
AGENTS = [f"agent-{number:02d}" for number in range(12)]


@pytest.fixture
def store(migrated_database_url):
    with FleetStore(migrated_database_url, SimulatedClock(NOW)) as made:
        yield made


def cycle(store, seq, share=0.0, keys=()):
    rng = np.random.default_rng(seq)
    for agent in AGENTS:
        rows = []
        for key in KEYS:
            shares = np.full(8, 1 / 8)
            if key in keys:
                shares = (1 - share) * shares + share * np.eye(8)[3]
            counts = rng.multinomial(500, shares)
            rows.append(
                BaselineRow(
                    process_key=key,
                    event_distribution=distribution_from_vector(counts / 500),
                    sample_count=500,
                    entropy_threshold=3.7,
                    learned_at_unix=NOW,
                    seq=seq,
                )
            )
        store.upsert_baselines(agent, "first", rows)
    found = []
    store.aggregate(also=lambda connection: found.extend(evaluate_drift(connection, NOW + seq)))
    return [(alarm.kind, alarm.series, alarm.compared_with) for alarm in found]


def test_one_key_alarms_once_and_under_its_own_name(store):
    assert [cycle(store, seq) for seq in (1, 2, 3)] == [[], [], []]
    assert cycle(store, 4, 0.65, ["bash:init"]) == []
    assert cycle(store, 5, 0.65, ["bash:init"]) == [("js_level", "bash:init", "reference")]
    assert cycle(store, 6, 0.65, ["bash:init"]) == []
    # Another one that differs in case only has an alarm of its own.
    assert cycle(store, 7, 0.65, ["bash:init", "Bash:init"]) == []
    found = cycle(store, 8, 0.65, ["bash:init", "Bash:init"])
    assert ("js_level", "Bash:init", "reference") in found
    assert ("js_level", "bash:init", "reference") not in found


def test_states_are_read_as_they_were_written(store):
    for seq in range(1, 6):
        cycle(store, seq)
    with store.database.read() as connection:
        assert evaluated_generation(connection) == 5
        charts = read_key_charts(connection)
        assert sorted(charts._at) == sorted(KEYS)
        described = describe_drift(connection)
        blocks = connection.execute(sa.select(fleet_drift_block.c.generation)).scalars().all()
    assert (described["reference"]["cycles"], described["previous"]["adwin_width"]) == (4, 4)
    assert set(blocks) == {5}


def test_alarms_are_resolved_and_stay_readable(store):
    for seq in (1, 2):
        cycle(store, seq)
    for seq in (3, 4):
        cycle(store, seq, 0.9, KEYS)
    with store.database.write() as connection:
        opened = open_alarms(connection)
        assert {alarm.series for alarm in opened} == {"fleet", *KEYS}
        calm_charts(connection)
        ids = resolve_alarms(connection, opened, "adversarial", "ada", NOW + 9.5)
        assert (len(ids), open_alarms(connection)) == (len(opened), [])
    with store.database.read() as connection:
        rows = list_alarms(connection, 3)
        assert connection.execute(sa.select(sa.func.count()).select_from(fleet_alarm)).scalar() == len(ids)
    assert len(rows) == 3
    assert {(row["resolution"], row["resolved_by"], row["resolved_at"]) for row in rows} == {
        ("adversarial", "ada", NOW + 9.5)
    }
    assert all(row["detail"]["other_generation"] == 1 for row in rows)
