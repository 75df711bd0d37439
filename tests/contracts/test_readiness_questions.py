"""What drills ask the database, on SQLite and on MariaDB: the same rows, times in seconds, JSON read."""

import pytest
import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.errors import EvidenceError
from eguard.evidence.readiness.agents import choose_agent, vitals
from eguard.evidence.readiness.course import Course, DrillOptions
from eguard.evidence.readiness.drills import run_drill
from eguard.evidence.readiness.fleet_questions import agents_without_certificate, bundles_in_use
from eguard.evidence.redaction import Redactor
from eguard.fleet import FleetStore
from eguard.fleet.database import Database
from eguard.fleet.tables import audit_log, endpoint_agent, endpoint_inventory
from eguard.wire import BaselineRow

NOW = 1_772_000_000.0


class Answering(Course):
    """A course whose commands answer what a fleet with one generation would."""

    def run(self, *arguments, **_named):
        if arguments[0] != "fleet":
            raise EvidenceError("no server")
        return {"aggregated": 1, "generation": 1, "fleet_baselines": [{}]}


@pytest.fixture
def database(migrated_database_url):
    """Three agents that uploaded, one generation, and uploads after it that name it."""
    row = {
        "process_key": "bash:sshd",
        "event_distribution": {"process_exec": 1.0},
        "sample_count": 100,
        "entropy_threshold": 3.0,
        "learned_at_unix": NOW,
    }
    with FleetStore(migrated_database_url, SimulatedClock(NOW - 100)) as store:
        for name in "abc":
            store.upsert_baselines(name, "first", [BaselineRow(**row, seq=1)], at=NOW - 200)
        store.aggregate()
        for name in "abc":
            store.upsert_baselines(name, "first", [BaselineRow(**row, seq=2, prior_generation=1)], at=NOW - 50)
    made = Database(migrated_database_url)
    texts = ("hostname", "os_type", "os_version", "kernel_version", "architecture", "ip_address", "agent_version")
    with made.write() as connection:
        connection.execute(
            sa.update(endpoint_agent).values(last_heartbeat=NOW - 5.25, last_seed_at=NOW - 60, bundle_version="m1")
        )
        for name in "abc":
            connection.execute(
                sa.insert(endpoint_inventory).values(
                    agent_id=name,
                    **dict.fromkeys(texts, "x"),
                    mac_address="",
                    cpu_count=1,
                    memory_bytes=1,
                    sensor="ebpf",
                    collected_at=NOW,
                )
            )
        for number, (before, after) in enumerate(((0, 1), (1, 5), (5, 20), (20, 100)), 1):
            connection.execute(
                sa.insert(audit_log).values(
                    sequence=number + 1000,
                    at=NOW - 10_000 + 2000 * number,
                    principal="op",
                    role="admin",
                    action="policy.advance",
                    object_type="policy",
                    object_id="mlops",
                    detail={"from_percent": before, "to_percent": after, "forced": []},
                    credential="token",
                    address="",
                    previous_hash="0" * 64,
                    record_hash=f"{number:064d}",
                )
            )
    yield made
    made.dispose()


def course(database, drill="loop"):
    return Answering(drill, Redactor(), SimulatedClock(NOW), database=database)


def test_the_loop_is_seen_on_either_database(database):
    record = run_drill(course(database), DrillOptions(wait_seconds=0.0))
    assert (record["passed"], record["error"]) == (True, "")
    uploads, _, seeded = (each["rows"] for each in record["observed"])
    assert [(row["agent_id"], row["profiles"], row["latest_upload"]) for row in uploads] == [
        (name, 1, NOW - 50) for name in "abc"
    ]
    assert [(row["prior_generation"], row["computed_at"]) for row in seeded] == [(1, NOW - 100)] * 3


def test_the_stages_of_a_rollout_are_read_on_either_database(database):
    record = run_drill(course(database, "canary"), DrillOptions())
    steps = next(each["rows"] for each in record["observed"] if each["title"].startswith("steps of"))
    assert [(row["at"], row["detail"]["to_percent"]) for row in steps] == [
        (NOW - 8000, 1),
        (NOW - 6000, 5),
        (NOW - 4000, 20),
        (NOW - 2000, 100),
    ]


def test_agents_bundles_and_certificates_are_counted_on_either_database(database):
    made = course(database)
    assert choose_agent(made) in {"a", "b", "c"}
    assert vitals(made, "b", "x")["last_heartbeat"] == NOW - 5.25
    assert made.rows("bundles", bundles_in_use(NOW)) == [{"bundle_version": "m1", "agents": 3}]
    assert [row["agent_id"] for row in made.rows("bare", agents_without_certificate(NOW))] == ["a", "b", "c"]
