"""Generations of a small fleet whose move is built in."""

import hashlib

import pytest

from eguard.clock import SimulatedClock
from eguard.errors import ConfigError
from eguard.fleet import FleetStore
from eguard.mlops.drift_fleet import fleet_report, grown_reference, level_alarms
from eguard.wire import BaselineBatch, BaselineRow, encode_baseline_batch, receive_baseline_batch


def upload(store, keys, distribution, seq):
    for agent in "abc":
        rows = [
            BaselineRow(
                process_key=key,
                event_distribution=distribution,
                sample_count=1_000,
                entropy_threshold=4.0,
                learned_at_unix=1_772_000_000.0,
                seq=seq,
            )
            for key in keys
        ]
        body = encode_baseline_batch(BaselineBatch(agent_id=agent, batch_id="b", baselines=rows))
        store.upsert_received("first", receive_baseline_batch(body))
    store.aggregate()


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "fleet.db"
    with FleetStore.create(f"sqlite:///{path}", SimulatedClock(1_772_000_000.0)) as store:
        store.aggregate()  # a generation without keys
        upload(store, ["sh:init"], {"process_exec": 0.5, "process_exit": 0.5}, 1)
        upload(store, ["ls:sh", "cat:sh"], {"process_exec": 0.5, "process_exit": 0.5}, 1)
        for seq in (2, 3):
            upload(store, ["sh:init"], {"process_exec": 1.0}, seq)
    return path


def test_generations_are_compared_with_the_one_before_the_first_and_the_grown_one(database):
    figures, details = fleet_report(database, 0.1)
    rows = details["generations"]
    assert [row["keys"] for row in rows] == [0, 1, 3, 3, 3]
    assert [row["new_keys"] for row in rows] == [0, 1, 2, 0, 0]
    assert [row["vanished_keys"] for row in rows] == [0] * 5
    assert figures["pinned_generation"] == 3
    # JS of (1, 0) and (1/2, 1/2) is .2158: alone among the first generation's keys, a third of it among three.
    assert rows[3]["first_excess_nats"] == pytest.approx(0.2158, abs=0.002)
    assert rows[3]["pinned_excess_nats"] == pytest.approx(0.2158 / 3, abs=0.002)
    assert rows[3]["pinned_largest_key"] == "sh:init"
    assert rows[4]["previous_excess_nats"] == 0.0
    assert figures["series"]["first"]["alarms"] == [5]
    assert figures["series"]["pinned"] == {
        "last_excess_nats": rows[4]["pinned_excess_nats"],
        "common_keys": 3,
        "alarms": [],
    }


def test_profiles_are_those_of_the_last_generation(database):
    _, details = fleet_report(database, 0.1)
    assert [(row["image"], row["parent"], row["agents"]) for row in details["profiles"]] == [
        ("cat", "sh", 3),
        ("ls", "sh", 3),
        ("sh", "init", 3),
    ]
    assert details["profiles"][2]["distribution"] == [1.0] + [0.0] * 7
    assert details["profiles"][0]["tolerated_faults"] == 1


def test_the_database_is_only_read(database):
    before = hashlib.sha256(database.read_bytes()).digest()
    fleet_report(database, 0.1)
    assert hashlib.sha256(database.read_bytes()).digest() == before
    assert [path.name for path in database.parent.iterdir()] == ["fleet.db"]


def test_an_empty_fleet_and_a_missing_one(tmp_path):
    with FleetStore.create(f"sqlite:///{tmp_path}/fleet.db", SimulatedClock(1_772_000_000.0)):
        pass
    figures, details = fleet_report(tmp_path / "fleet.db", 0.1)
    assert (figures["generations"], figures["pinned_generation"]) == (0, None)
    assert details == {"profiles": [], "generations": []}
    with pytest.raises(ConfigError, match="no fleet database"):
        fleet_report(tmp_path / "absent.db", 0.1)


def test_the_reference_waits_for_the_fleet_to_grow():
    assert grown_reference({}) is None
    assert grown_reference({1: 0, 2: 0}) is None
    assert grown_reference({7: 2, 8: 3, 9: 4}) == 7


def test_one_generation_above_the_level_is_no_alarm():
    assert level_alarms({1: 0.2, 2: 0.0, 3: 0.2}, 0.1) == []
    assert level_alarms({1: 0.2, 2: 0.2}, 0.1) == [2]
    assert level_alarms({1: 0.1, 2: 0.2}, 0.1) == []
