"""Migrations: the tables that the code works with, from nothing, from half-way, from before migrations, and back."""

import sqlite3
import threading
import time
from contextlib import closing

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from eguard.clock import SimulatedClock
from eguard.errors import FleetStoreError
from eguard.fleet import FleetStore, migrations
from eguard.fleet.database import Database
from eguard.fleet.schema import HEAD_REVISION, stored_revision
from eguard.fleet.tables import endpoint_agent, metadata, ml_candidate, policy, server_counter
from eguard.wire import BaselineRow

NOW = 1_772_000_000.0

#: Tables as the first releases made them, with a row in each; `endpoint_agent` and `fleet_health` are what changed.
EARLIER = """
CREATE TABLE fleet_schema_version (version INTEGER NOT NULL, applied_at DATETIME NOT NULL,
  CONSTRAINT pk_fleet_schema_version PRIMARY KEY (version));
INSERT INTO fleet_schema_version VALUES (1, '2026-02-25 06:13:20.000000');
CREATE TABLE endpoint_agent (agent_id VARCHAR(128) NOT NULL, incarnation VARCHAR(64) NOT NULL,
  incarnation_ordinal INTEGER NOT NULL, "group" VARCHAR(64) NOT NULL, status VARCHAR(16) NOT NULL,
  bundle_version VARCHAR(64), policy_revision BIGINT, last_heartbeat DATETIME, enrolled_at DATETIME NOT NULL,
  quarantined_at DATETIME, CONSTRAINT pk_endpoint_agent PRIMARY KEY (agent_id));
CREATE INDEX ix_endpoint_agent_last_heartbeat ON endpoint_agent (last_heartbeat);
INSERT INTO endpoint_agent VALUES ('a', 'second', 2, 'default', 'active', 'b1', 7, '2026-02-25 06:13:20.250000',
  '2026-02-24 06:13:20.000000', NULL);
CREATE TABLE endpoint_incarnation (agent_id VARCHAR(128) NOT NULL, incarnation VARCHAR(64) NOT NULL,
  ordinal INTEGER NOT NULL, registered_at DATETIME NOT NULL,
  CONSTRAINT pk_endpoint_incarnation PRIMARY KEY (agent_id, incarnation),
  CONSTRAINT fk_endpoint_incarnation_agent_id_endpoint_agent FOREIGN KEY(agent_id)
  REFERENCES endpoint_agent (agent_id) ON DELETE CASCADE);
INSERT INTO endpoint_incarnation VALUES ('a', 'first', 1, '2026-02-24 06:13:20.000000'),
  ('a', 'second', 2, '2026-02-25 06:13:20.000000');
CREATE TABLE endpoint_baseline (agent_id VARCHAR(128) NOT NULL, process_key VARCHAR(512) NOT NULL,
  event_distribution JSON NOT NULL, distribution_vector BLOB NOT NULL, sample_count BIGINT NOT NULL,
  entropy_threshold DOUBLE NOT NULL, learned_at DATETIME NOT NULL, continuous JSON, prior_generation BIGINT,
  key_shard SMALLINT NOT NULL, updated_at DATETIME NOT NULL, expires_at DATETIME NOT NULL,
  incarnation VARCHAR(64) NOT NULL, incarnation_ordinal INTEGER NOT NULL, seq BIGINT NOT NULL,
  CONSTRAINT pk_endpoint_baseline PRIMARY KEY (agent_id, process_key),
  CONSTRAINT fk_endpoint_baseline_agent_id_endpoint_agent FOREIGN KEY(agent_id)
  REFERENCES endpoint_agent (agent_id) ON DELETE CASCADE);
CREATE INDEX ix_endpoint_baseline_expires_at ON endpoint_baseline (expires_at);
CREATE INDEX ix_endpoint_baseline_key_shard_process_key_agent_id
  ON endpoint_baseline (key_shard, process_key, agent_id);
INSERT INTO endpoint_baseline VALUES ('a', 'bash:sshd', '{"process_exec":1.0}',
  X'0000803F00000000000000000000000000000000000000000000000000000000', 100, 3.0, '2026-02-25 06:13:20.000000', NULL,
  NULL, 7, '2026-02-25 06:13:20.000000', '2026-03-27 06:13:20.000000', 'second', 2, 9);
CREATE TABLE fleet_baseline (process_key VARCHAR(512) NOT NULL, generation BIGINT NOT NULL,
  median_distribution JSON NOT NULL, agent_count INTEGER NOT NULL, voter_samples BIGINT NOT NULL,
  stddev_kl DOUBLE NOT NULL, pre_norm_mass DOUBLE NOT NULL, tolerated_faults INTEGER NOT NULL, continuous JSON,
  computed_at DATETIME NOT NULL, source VARCHAR(16) NOT NULL, source_version VARCHAR(64),
  CONSTRAINT pk_fleet_baseline PRIMARY KEY (process_key));
INSERT INTO fleet_baseline VALUES ('bash:sshd', 3, '{"process_exec":1.0}', 3, 100, 0.0, 1.0, 1, NULL,
  '2026-02-25 06:13:20.000000', 'aggregate', NULL);
CREATE TABLE fleet_generation (generation BIGINT NOT NULL, computed_at DATETIME NOT NULL, source VARCHAR(16) NOT NULL,
  source_version VARCHAR(64), key_count INTEGER NOT NULL, is_reference BOOLEAN NOT NULL, is_pruned BOOLEAN NOT NULL,
  report JSON, CONSTRAINT pk_fleet_generation PRIMARY KEY (generation));
INSERT INTO fleet_generation VALUES (3, '2026-02-25 06:13:20.000000', 'aggregate', NULL, 1, 1, 0, NULL);
"""


@pytest.fixture
def database(database_url):
    made = Database(database_url)
    yield made
    made.dispose()


def migrate(database):
    with database.write() as connection:
        return migrations.upgrade(connection, NOW)


def declarations(database):
    """Return how the database itself tells each table and index, but for the order of a table's keys."""
    with database.read() as connection:
        if database.dialect_name == "sqlite":
            query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
            told = {name: sql.splitlines() for name, sql in connection.exec_driver_sql(query)}
        else:
            names = sa.inspect(connection).get_table_names()
            told = {
                name: connection.exec_driver_sql(f"SHOW CREATE TABLE {name}").one()[1].splitlines() for name in names
            }
    return {name: sorted(line.strip(" ,\t") for line in lines) for name, lines in told.items() if "alembic" not in name}


def test_the_migrated_tables_are_those_that_the_code_declares(database, request, tmp_path):
    assert migrate(database) == migrations.head_revision() == HEAD_REVISION
    with database.write() as connection:
        assert stored_revision(connection) == migrations.current_revision(connection) == HEAD_REVISION
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    if database.dialect_name == "sqlite":
        declared = Database(f"sqlite:///{tmp_path}/declared.db")
    else:
        server = request.getfixturevalue("mariadb")
        name = server.create_database()
        declared = Database(server.url(name))
    with declared.write() as connection:
        metadata.create_all(connection)
    expected = declarations(declared)
    declared.dispose()
    migrated = declarations(database)
    assert set(migrated) == set(expected)
    for name in expected:
        assert migrated[name] == expected[name]


def test_the_first_migration_makes_the_default_policy_and_the_counters(database):
    migrate(database)
    with database.read() as connection:
        (row,) = connection.execute(sa.select(policy)).mappings()
        counters = dict(connection.execute(sa.select(server_counter.c.name, server_counter.c.value)).all())
    assert (row["policy_id"], row["policy_version"], row["revision"], row["created_by"]) == (
        "default",
        "v1",
        1,
        "migration",
    )
    assert row["created_at"] == NOW
    assert row["document"] == {}
    assert counters == {
        "policy_revision": 1,
        "whitelist_revision": 0,
        "audit": 0,
        "fleet_generation": 0,
        "vote_epoch": 0,
    }


def test_migrating_again_keeps_everything(database):
    migrate(database)
    with database.write() as connection:
        connection.execute(sa.update(server_counter).values(value=41))
    before = declarations(database)
    migrate(database)
    assert declarations(database) == before
    with database.read() as connection:
        assert set(connection.execute(sa.select(server_counter.c.value)).scalars()) == {41}


def test_there_is_a_way_back_from_tables_that_hold_data(database):
    migrate(database)
    values = {"candidate_id": "c", "digest": "d", "model_version": "m", "contract_hash": "h", "source": "nightly"}
    values |= {"gates_passed": True, "gates": [{"name": "recall"}], "files": {"rules.json": "ab"}, "stage": "stable"}
    values |= {"registered_at": NOW, "registered_by": "ada", "percent": 100.0, "stage_since": NOW, "stage_by": "ada"}
    agent = {"agent_id": "a", "incarnation": "i", "incarnation_ordinal": 1, "group": "g", "status": "active"}
    with database.write() as connection:
        connection.execute(sa.insert(ml_candidate).values(**values, reason="", looks=0))
        connection.execute(
            sa.insert(endpoint_agent).values(**agent, enrolled_at=NOW, bundle_digest="d", shadow={"n": 1})
        )
        migrations.downgrade(connection, "base")
    assert declarations(database) == {}
    with database.read() as connection:
        assert migrations.current_revision(connection) is None
        assert stored_revision(connection) is None
    migrate(database)
    with database.read() as connection:
        assert migrations.current_revision(connection) == migrations.head_revision()


@pytest.mark.parametrize("statement", [5, 23, 50, 75])
def test_a_migration_that_broke_off_is_completed_by_the_next_one(database, statement):
    class PulledPlugError(Exception):
        pass

    seen = 0

    def pull(_connection, _cursor, text, *_):
        nonlocal seen
        seen += text.startswith(("\nCREATE", "CREATE", "INSERT"))
        if seen == statement:
            raise PulledPlugError

    writer, _ = database._connected()
    sa.event.listen(writer, "before_cursor_execute", pull)
    try:
        migrate(database)
    except PulledPlugError:
        with database.read() as connection:
            assert migrations.current_revision(connection) is None
    else:
        assert seen < statement
    sa.event.remove(writer, "before_cursor_execute", pull)
    migrate(database)
    with database.read() as connection:
        assert len(connection.execute(sa.select(policy.c.revision)).all()) == 1
        assert len(connection.execute(sa.select(server_counter.c.name)).all()) == 5
        assert set(sa.inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}
        for table in metadata.tables.values():
            indexes = {item["name"] for item in sa.inspect(connection).get_indexes(table.name)}
            assert indexes >= {index.name for index in table.indexes}


def test_two_servers_that_start_at_once_migrate_once(database_url):
    outcomes = []

    def start():
        with FleetStore(database_url, SimulatedClock(NOW)) as store:
            outcomes.append(store.migrate())

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [migrations.head_revision()] * 3


def test_rows_of_a_database_from_before_migrations_are_kept(tmp_path):
    path = tmp_path / "fleet.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(EARLIER)
    url = f"sqlite:///{path}"
    row = BaselineRow(
        process_key="bash:sshd",
        event_distribution={"process_exec": 1.0},
        sample_count=100,
        entropy_threshold=3.0,
        learned_at_unix=0.0,
        seq=9,
    )
    with FleetStore.create(url, SimulatedClock(NOW)) as store:
        assert store.upsert_baselines("a", "second", [row]).unchanged == 1
        assert store.upsert_baselines("a", "first", [row]).stale == 1
        (seed,) = store.fleet_rows()
        assert (seed.process_key, seed.agent_count, store.current_generation()) == ("bash:sshd", 3, 3)
        assert store.reference_generation() == 3
        assert store.aggregate().generation == 4
    taken_over, fresh = Database(url), Database(f"sqlite:///{tmp_path}/fresh.db")
    migrate(fresh)
    assert declarations(taken_over) == declarations(fresh)
    taken_over.dispose()
    fresh.dispose()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE fleet_schema_version SET version = 3", "form 3"),
        ("CREATE TABLE rollout (rollout_id TEXT); INSERT INTO rollout VALUES ('r')", "1 rows in rollout"),
    ],
    ids=["unknown form", "a server's rows"],
)
def test_what_cannot_be_taken_over_is_left_as_it_was(tmp_path, change, says):
    path = tmp_path / "fleet.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(EARLIER + change)
        before = list(connection.iterdump())
    with FleetStore(f"sqlite:///{path}") as store, pytest.raises(FleetStoreError, match=says) as caught:
        store.migrate()
    assert caught.value.remedy
    with closing(sqlite3.connect(path)) as connection:
        assert list(connection.iterdump()) == before


def test_a_database_of_a_later_version_is_left_alone(database):
    migrate(database)
    with database.write() as connection:
        connection.execute(sa.text("update alembic_version set version_num = '9999'"))
    with pytest.raises(FleetStoreError, match="9999") as caught:
        migrate(database)
    assert caught.value.context["reason"] == "schema_version"


def test_an_empty_sqlite_database_is_made_quickly():
    FleetStore.create("sqlite://").close()  # loads the migration tool
    seconds = []
    for _ in range(5):
        started = time.process_time()
        FleetStore.create("sqlite://").close()
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.15
