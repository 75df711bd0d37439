"""What every test shares: names that are the same in each process that collects them, and databases to test on."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
import structlog


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a binary parameter by its length: gzip, for one, writes the time of day into what it makes."""
    if isinstance(val, bytes) and not (val.isascii() and val.decode().isprintable()):
        return f"{argname}-{len(val)}-bytes"
    return None


@pytest.fixture(autouse=True)
def _logs_go_where_they_went():
    """Undo what a command set up for its logs: the stream that it wrote to ends with its test."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()


def _mariadb_server():
    name = "eguard_mariadb_server"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("mariadb_server.py"))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def mariadb_module():
    """The module `mariadb_server`, for tests that need a server of their own."""
    return _mariadb_server()


@pytest.fixture(scope="session")
def mariadb(mariadb_module, tmp_path_factory):
    """A MariaDB server of this test process alone; a test that kills it starts it again."""
    mariadb_module.require()
    server = mariadb_module.MariadbServer(tmp_path_factory.mktemp("mariadb"))
    server.install()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def mariadb_url(mariadb):
    """URL of an empty database on MariaDB, gone after the test."""
    name = mariadb.create_database()
    yield mariadb.url(name)
    mariadb.drop_database(name)


@pytest.fixture(params=["sqlite", "mariadb"])
def database_url(request, tmp_path):
    """URL of an empty database: each test runs once on SQLite and once on MariaDB."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/fleet.db"
    return request.getfixturevalue("mariadb_url")


@pytest.fixture
def migrated_mariadb_url(mariadb):
    """URL of a database on MariaDB with eGuard's tables in it."""
    with mariadb.migrated_database() as name:
        yield mariadb.url(name)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory):
    """A SQLite file with eGuard's tables, to be copied: that is quicker than to make them for every test."""
    from eguard.fleet import FleetStore

    path = tmp_path_factory.mktemp("migrated") / "fleet.db"
    FleetStore.create(f"sqlite:///{path}").close()
    return path


@pytest.fixture(params=["sqlite", "mariadb"])
def migrated_database_url(request, tmp_path):
    """URL of a database with eGuard's tables in it: each test runs once on SQLite and once on MariaDB."""
    if request.param == "mariadb":
        return request.getfixturevalue("migrated_mariadb_url")
    path = shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "fleet.db")
    return f"sqlite:///{path}"
