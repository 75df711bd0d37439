"""A fleet's database with two agents, on SQLite and on MariaDB, for services that need no HTTP."""

import shutil

import pytest
import sqlalchemy as sa

from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_agent, metadata


@pytest.fixture(scope="session")
def mariadb_tables(mariadb):
    """URL of one database with all tables, for tests that leave rows behind but no tables."""
    name = mariadb.create_database()
    database = Database(mariadb.url(name))
    with database.write() as connection:
        metadata.create_all(connection)
    database.dispose()
    yield mariadb.url(name)
    mariadb.drop_database(name)


@pytest.fixture(params=["sqlite", "mariadb"])
def fleet(request, tmp_path):
    """Two agents, a1 and a2, of the group web."""
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path}/fleet.db")
        with database.write() as connection:
            metadata.create_all(connection)
    else:
        database = Database(request.getfixturevalue("mariadb_tables"))
        with database.write() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(sa.delete(table))
    with database.write() as connection:
        for agent_id in ("a1", "a2"):
            connection.execute(
                sa.insert(endpoint_agent).values(
                    agent_id=agent_id,
                    incarnation="i",
                    incarnation_ordinal=1,
                    group="web",
                    group_revision=0,
                    status="active",
                    enrolled_at=1_772_000_000.0,
                )
            )
    yield database
    database.dispose()


@pytest.fixture
def one_database(request, tmp_path, sqlite_template):
    """A migrated database on SQLite, or on the dialect that a test asks for by indirect parameters."""
    if getattr(request, "param", "sqlite") == "mariadb":
        database = Database(request.getfixturevalue("migrated_mariadb_url"))
    else:
        database = Database(f"sqlite:///{shutil.copy(sqlite_template, tmp_path)}")
    yield database
    database.dispose()
