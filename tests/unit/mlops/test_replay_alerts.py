"""Alert-only networks: the same features as an engine gives, under the tables of the night before."""

import numpy as np
import pytest

from eguard.detection.engine import Engine
from eguard.detection.engine_options import EngineOptions
from eguard.detection.features import FEATURE_NAMES
from eguard.detection.fitted_tables import FittedTables
from eguard.events import Event, EventBatch, EventClass
from eguard.mlops import replay_alerts
from eguard.mlops.replay_alerts import NetworkReplay, summarise

DAY = 86_400.0
COLUMN = {name: index for index, name in enumerate(FEATURE_NAMES)}


def alert(time, host, rule, detector="wazuh", label="", size=100):
    return Event(
        time_unix=float(time),
        host_id=host,
        event_class=EventClass.ALERT,
        event_type="alert",
        group="net",
        rule_id=rule,
        detector=detector,
        label=label,
        event_bytes=size,
    )


def network(n=300, seed=1, hosts=("net/a", "net/b", "net/c")):
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, 3 * DAY, n)).round(2)
    return EventBatch.from_events(
        alert(
            time,
            hosts[rng.integers(len(hosts))],
            f"R{rng.integers(6)}",
            ["wazuh", "suricata"][rng.integers(2)],
            ["", "", "dirb", "webshell"][rng.integers(4)],
        )
        for time in times.tolist()
    )


def test_an_alert_has_the_features_that_an_engine_would_give_it():
    batch = network(hosts=("net/a",))
    rows, _ = NetworkReplay("net").run(batch)
    engine = Engine("net/a", options=EngineOptions(reservoir_events=0))
    first_day = np.flatnonzero(batch.time_unix < DAY)
    output = engine.process(batch.take(first_day))
    # A lone host co-occurs with nobody, and on the first day neither path has a fleet table.
    assert np.array_equal(output.features, rows.features[first_day])
    assert output.candidates.keys == [rows.rule_id[index] for index in first_day.tolist()]


def test_labels_and_layout():
    batch = network()
    rows, _ = NetworkReplay("net").run(batch)
    assert rows.label.tolist() == [int(bool(label)) for label in batch.label]
    assert rows.attack_step == batch.label
    assert rows.host_id == batch.host_id
    assert set(rows.label_source) == {"ait_labels"}
    assert not rows.features[:, [COLUMN["event_class_risk"], COLUMN["rule_precision_prior"]]].any()


def test_a_day_is_scored_with_the_tables_of_the_night_before():
    batch = EventBatch.from_events(
        [
            alert(0, "net/a", "R"),
            alert(1, "net/b", "R"),
            alert(2, "net/b", "S"),
            alert(DAY + 1, "net/a", "R"),
            alert(DAY + 2, "net/a", "S"),
            alert(DAY + 3, "net/a", "T"),
        ]
    )
    rarity = NetworkReplay("net").run(batch)[0].features[:, COLUMN["rule_rarity_fleet"]]
    assert rarity.tolist() == pytest.approx([0.5, 0.5, 0.5, 1 - 2.5 / 3, 1 - 1.5 / 3, 1 - 0.5 / 3])


def test_cooccurrence_counts_other_hosts_of_the_network():
    batch = EventBatch.from_events([alert(0, "net/a", "R"), alert(10, "net/b", "R"), alert(20, "net/a", "R")])
    feature = NetworkReplay("net").run(batch)[0].features[:, COLUMN["fleet_cooccurrence"]]
    assert feature.tolist() == pytest.approx([0.0, 1 / 8, 1 / 8])


def test_the_future_changes_nothing_earlier():
    batch = network(400)
    whole = NetworkReplay("net").run(batch)[0].features
    for cut in (1, 57, 200, 399):
        assert np.array_equal(NetworkReplay("net").run(batch.slice(0, cut))[0].features, whole[:cut])


def test_blocks_of_extraction_change_nothing(monkeypatch):
    batch = network()
    whole = NetworkReplay("net").run(batch)[0].features
    monkeypatch.setattr(replay_alerts, "BLOCK_ALERTS", 7)
    assert np.array_equal(NetworkReplay("net").run(batch)[0].features, whole)


def test_a_models_tables_fill_their_columns():
    tables = FittedTables((0.0,) * 7 + (0.5,), {"R0": 0.9}, 0.1)
    batch = network()
    features = NetworkReplay("net", tables).run(batch)[0].features
    assert set(features[:, COLUMN["event_class_risk"]]) == {0.5}
    assert features[:, COLUMN["rule_precision_prior"]].tolist() == [0.9 if r == "R0" else 0.1 for r in batch.rule_id]


def test_a_summary_tells_floods_apart():
    batch = EventBatch.from_events(
        [alert(0, "a", "R", label="dirb"), alert(1, "a", "S", label="webshell"), alert(2, "b", "R")]
    )
    assert summarise(NetworkReplay("net").run(batch)[0]) == {
        "alerts": 3,
        "hosts": 2,
        "rules": 2,
        "attacks": 2,
        "attacks_without_floods": 1,
        "first_unix": 0.0,
        "last_unix": 2.0,
    }


def test_a_network_without_alerts_gives_no_rows():
    rows, points = NetworkReplay("net").run(EventBatch())
    assert (len(rows), points) == (0, [])
    assert summarise(rows)["first_unix"] is None
