"""Tables: the manual's names, its queries, and types that dialects do not reinterpret."""

import datetime as dt

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.dialects.mysql import mariadb
from sqlalchemy.schema import CreateTable

from eguard.fleet.database import Database
from eguard.fleet.store import FleetStore
from eguard.fleet.tables import UtcTime, metadata


def test_names_are_those_of_the_contract():
    assert set(metadata.tables) >= {
        "endpoint_agent",
        "endpoint_baseline",
        "fleet_baseline",
        "fleet_baseline_history",
        "fleet_health",
    }
    assert set(metadata.tables["endpoint_agent"].c.keys()) >= {
        "agent_id",
        "incarnation",
        "group",
        "status",
        "bundle_version",
        "policy_revision",
        "last_heartbeat",
        "enrolled_at",
        "quarantined_at",
    }
    assert set(metadata.tables["endpoint_baseline"].c.keys()) >= {
        "agent_id",
        "process_key",
        "event_distribution",
        "distribution_vector",
        "sample_count",
        "entropy_threshold",
        "learned_at",
        "continuous",
        "prior_generation",
        "incarnation",
        "seq",
        "key_shard",
        "updated_at",
        "expires_at",
    }
    assert set(metadata.tables["fleet_baseline"].c.keys()) >= {
        "process_key",
        "median_distribution",
        "agent_count",
        "stddev_kl",
        "pre_norm_mass",
        "tolerated_faults",
        "continuous",
        "generation",
        "computed_at",
        "source",
        "source_version",
    }
    assert list(metadata.tables["endpoint_baseline"].c.keys())[-1] == "seq"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT COUNT(*) FROM endpoint_baseline;",
        "SELECT COUNT(*) FROM fleet_baseline;",
        "SELECT process_key, agent_count, computed_at FROM fleet_baseline ORDER BY computed_at DESC;",
    ],
)
def test_the_manuals_queries_run(tmp_path, query):
    url = f"sqlite:///{tmp_path}/fleet.db"
    FleetStore.create(url).close()
    database = Database(url)
    with database.read() as connection:
        connection.exec_driver_sql(query).all()
    database.dispose()


@pytest.mark.parametrize(
    ("dialect", "collation"), [(mariadb.MariaDBDialect(), "utf8mb4_nopad_bin"), (mysql.dialect(), "utf8mb4_0900_bin")]
)
def test_keys_are_binary_on_servers(dialect, collation):
    for name in ("endpoint_baseline", "fleet_baseline", "fleet_baseline_history"):
        statement = str(CreateTable(metadata.tables[name]).compile(dialect=dialect))
        (line,) = [line for line in statement.splitlines() if line.strip().startswith("process_key ")]
        assert collation in line
        assert "DATETIME(6)" in statement


def test_every_text_has_a_length_and_every_constraint_a_name():
    for table in metadata.tables.values():
        for column in table.c:
            if isinstance(column.type, sa.String):
                assert column.type.length, column
        assert all(constraint.name for constraint in table.constraints)
        assert all(index.name for index in table.indexes)


def test_server_keys_fit_an_index():
    for table in metadata.tables.values():
        for columns in [table.primary_key.columns, *(index.columns for index in table.indexes)]:
            size = sum(4 * column.type.length if isinstance(column.type, sa.String) else 8 for column in columns)
            assert size <= 3072


def test_times_are_readable_utc_and_come_back_as_seconds():
    dialect = sqlite.dialect()
    stored = UtcTime().process_bind_param(1_772_000_000.25, dialect)
    assert stored == dt.datetime(2026, 2, 25, 6, 13, 20, 250_000)  # noqa: DTZ001 - stored without zone
    assert UtcTime().process_result_value(stored, dialect) == 1_772_000_000.25
    assert UtcTime().process_bind_param(None, dialect) is None
    assert UtcTime().process_result_value(None, dialect) is None
