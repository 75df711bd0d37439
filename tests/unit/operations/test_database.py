import sqlite3

import pytest

from eguard.fleet import FleetStore
from eguard.operations import database


def test_an_agent_needs_none(examine):
    assert examine("database").state == "skipped"


def test_without_sqlalchemy_the_reason_is_told(examine, monkeypatch):
    monkeypatch.setattr(database, "find_spec", lambda _: None)
    found = examine("database", database_url="sqlite:////nowhere/fleet.sqlite")
    assert (found.state, "eguard[server]" in found.cause) == ("skipped", True)


def test_a_migrated_database_is_fine(examine, tmp_path):
    url = f"sqlite:///{tmp_path}/fleet.sqlite"
    FleetStore.create(url).close()
    assert examine("database", database_url=url).state == "ok"


def test_a_missing_file_is_not_made(examine, tmp_path):
    found = examine("database", database_url=f"sqlite:///{tmp_path}/fleet.sqlite")
    assert (found.state, "there is no database" in found.cause) == ("failed", True)
    assert not (tmp_path / "fleet.sqlite").exists()


def test_a_database_of_something_else_is_told(examine, tmp_path):
    connection = sqlite3.connect(tmp_path / "fleet.sqlite")
    connection.execute("CREATE TABLE other (x)")
    connection.close()
    found = examine("database", database_url=f"sqlite:///{tmp_path}/fleet.sqlite")
    assert (found.state, "not migrated" in found.cause) == ("failed", True)


def test_a_schema_of_another_version_is_told(examine, tmp_path):
    url = f"sqlite:///{tmp_path}/fleet.sqlite"
    FleetStore.create(url).close()
    connection = sqlite3.connect(tmp_path / "fleet.sqlite")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    assert "schema 9999" in examine("database", database_url=url).cause


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "not a database URL"),
        ("mysql://eguard:hunter2@127.0.0.1:1/fleet", "does not answer"),
        ("postgresql://eguard:hunter2@db.example/fleet", "no support for postgresql"),
        ("sqlite:///{tmp_path}/garbage", "not a database"),
    ],
    ids=["no url", "no server", "dialect", "garbage"],
)
def test_what_is_no_database_is_told_without_its_password(examine, tmp_path, url, says):
    (tmp_path / "garbage").write_bytes(b"garbage" * 1000)
    found = examine("database", database_url=url.format(tmp_path=tmp_path))
    assert found.state == "failed"
    assert says in found.cause
    assert "hunter2" not in found.cause + found.remedy


def test_a_migrated_server_is_fine(examine, migrated_mariadb_url):
    found = examine("database", database_url=migrated_mariadb_url)
    assert (found.state, "(mariadb)" in found.cause) == ("ok", True)
    assert "canary" not in found.cause


def test_an_empty_server_is_told_to_be_migrated(examine, mariadb_url):
    found = examine("database", database_url=mariadb_url)
    assert (found.state, "not migrated" in found.cause, "eguard server migrate" in found.remedy) == (
        "failed",
        True,
        True,
    )


def test_a_wrong_password_is_told_without_it(examine, mariadb_url):
    found = examine("database", database_url=mariadb_url.replace("canary-of-the-database", "canary-of-a-wrong-one"))
    assert (found.state, "Access denied" in found.cause) == ("failed", True)
    assert "canary" not in found.cause + found.remedy


def test_a_database_from_before_migrations_is_told_to_be_taken_over(examine, tmp_path):
    connection = sqlite3.connect(tmp_path / "fleet.sqlite")
    connection.execute("CREATE TABLE fleet_schema_version (version INTEGER)")
    connection.close()
    found = examine("database", database_url=f"sqlite:///{tmp_path}/fleet.sqlite")
    assert (found.state, "before migrations" in found.cause, "migrate" in found.remedy) == ("failed", True, True)
