"""A database with the fleet's tables on each dialect, an authority, and people to act."""

import shutil

import pytest

from eguard.clock import SimulatedClock
from eguard.fleet import FleetStore
from eguard.fleet.database import Database
from eguard.server.pki import Authority
from eguard.server.principal import Principal, Role

START = 1_790_000_000.25


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory):
    """A new database file; copying it takes a hundredth of the time that migrating takes."""
    path = tmp_path_factory.mktemp("template") / "fleet.db"
    FleetStore.create(f"sqlite:///{path}").close()
    return path


@pytest.fixture(params=["sqlite", "mariadb"])
def fleet_database(request, tmp_path, sqlite_template):
    """A database with the fleet's tables: each test runs once on SQLite and once on MariaDB."""
    if request.param == "mariadb":
        url = request.getfixturevalue("migrated_mariadb_url")
    else:
        url = f"sqlite:///{shutil.copy(sqlite_template, tmp_path)}"
    database = Database(url)
    yield database
    database.dispose()


@pytest.fixture
def fleet_clock():
    return SimulatedClock(START)


@pytest.fixture(scope="session")
def authority():
    return Authority.create(START)[0]


@pytest.fixture
def ada():
    return Principal("ada", Role.ADMIN, address="192.0.2.7", credential="session")
