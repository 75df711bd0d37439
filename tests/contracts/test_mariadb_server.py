"""Tests that need MariaDB skip where there is none, and fail where there has to be one."""

import pytest


@pytest.fixture
def nowhere(mariadb_module, monkeypatch):
    monkeypatch.setattr(mariadb_module, "search_path", lambda: "")
    for name in ("CI", "EGUARD_REQUIRE_MARIADB"):
        monkeypatch.delenv(name, raising=False)
    return mariadb_module


def test_without_a_server_the_reason_is_told(nowhere):
    with pytest.raises(pytest.skip.Exception, match="apt-get install mariadb-server"):
        nowhere.require()


@pytest.mark.parametrize("name", ["CI", "EGUARD_REQUIRE_MARIADB"])
def test_where_it_is_required_nothing_is_skipped(nowhere, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    with pytest.raises(pytest.fail.Exception, match="mariadbd"):
        nowhere.require()


def test_with_a_server_nothing_is_said(mariadb, mariadb_module):
    mariadb_module.require()
    assert mariadb.execute("SELECT 1") == ((1,),)
