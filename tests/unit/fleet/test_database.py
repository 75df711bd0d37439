"""Transactions: whole or not at all, readers on a snapshot, no driver error and no password past the module."""

import threading

import pytest
import sqlalchemy as sa

from eguard.errors import FleetStoreError
from eguard.fleet.database import Database

PASSWORD = "canary-of-the-database"


@pytest.fixture
def database(database_url):
    made = Database(database_url)
    with made.write() as connection:
        connection.execute(sa.text("create table t (n integer primary key)"))
    yield made
    made.dispose()


@pytest.fixture
def file_database(tmp_path):
    made = Database(f"sqlite:///{tmp_path}/x.db")
    with made.write() as connection:
        connection.execute(sa.text("create table t (n integer primary key)"))
    yield made
    made.dispose()


@pytest.fixture
def server_database(mariadb_url):
    made = Database(mariadb_url)
    yield made
    made.dispose()


def count(connection):
    return connection.execute(sa.text("select count(*) from t")).scalar()


def insert(connection, number=1):
    connection.execute(sa.text("insert into t values (:n)"), {"n": number})


class BreakdownError(Exception):
    """Stands for anything that goes wrong in a block."""


def test_file_databases_are_durable_and_concurrent(file_database):
    with file_database.write() as connection:
        found = {
            name: connection.exec_driver_sql(f"pragma {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_sessions_on_a_server_are_strict_in_utc_and_isolated(server_database):
    query = sa.text("select @@sql_mode, @@time_zone, @@foreign_key_checks, @@character_set_client, @@tx_isolation")
    with server_database.write() as connection:
        mode, zone, checks, characters, isolation = connection.execute(query).one()
    assert "STRICT_ALL_TABLES" in mode
    assert (zone, checks, characters, isolation) == ("+00:00", 1, "utf8mb4", "READ-COMMITTED")
    with server_database.read() as connection:
        assert connection.execute(query).one()[-1] == "REPEATABLE-READ"


def test_values_that_do_not_fit_are_refused_and_not_cut(server_database):
    with server_database.write() as connection:
        connection.execute(sa.text("create table short (word varchar(3))"))
    with pytest.raises(FleetStoreError, match="too long"), server_database.write() as connection:
        connection.execute(sa.text("insert into short values ('four')"))


@pytest.mark.parametrize("call", ["write", "retrying"])
def test_a_block_that_fails_leaves_nothing(database, call):
    def insert_and_break(connection):
        insert(connection)
        raise BreakdownError

    def run():
        if call == "retrying":
            database.retrying(insert_and_break)
        else:
            with database.write() as connection:
                insert_and_break(connection)

    with pytest.raises(BreakdownError):
        run()
    with database.read() as connection:
        assert count(connection) == 0


def test_readers_keep_the_snapshot_they_began_with(database):
    with database.read() as reader:
        # On a server too the snapshot is that of the beginning, not that of the first statement.
        with database.write() as writer:
            insert(writer)
        assert count(reader) == 0
    with database.read() as reader:
        assert count(reader) == 1


def test_readers_cannot_write(database):
    with pytest.raises(FleetStoreError), database.read() as connection:
        insert(connection)


def test_writers_queue_and_never_see_a_lock(database):
    def work(start):
        for number in range(start, start + 25):
            with database.write() as connection:
                insert(connection, number)

    threads = [threading.Thread(target=work, args=(100 * worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        assert count(connection) == 200


def test_a_retried_transaction_gives_its_result_and_is_committed(database):
    assert database.retrying(lambda connection: insert(connection, 5) or count(connection)) == 1
    with database.read() as connection:
        assert count(connection) == 1


@pytest.mark.parametrize("call", ["write", "retrying"])
def test_driver_errors_are_store_errors(database, call):
    def select(connection):
        connection.execute(sa.text("select * from nowhere where secret = :s"), {"s": "hunter2"})

    def run():
        if call == "retrying":
            database.retrying(select)
        else:
            with database.write() as connection:
                select(connection)

    with pytest.raises(FleetStoreError) as caught:
        run()
    assert caught.value.context["reason"] == "database"
    assert caught.value.remedy
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"


def test_a_key_that_is_taken_is_a_conflict(database):
    with database.write() as connection:
        insert(connection)
    with pytest.raises(FleetStoreError) as caught, database.write() as connection:
        insert(connection)
    assert caught.value.context["reason"] == "conflict"


@pytest.mark.parametrize("scheme", ["mysql", "mariadb", "mysql+pymysql", "mariadb+pymysql"])
def test_a_server_is_asked_what_it_is(mariadb_url, scheme):
    database = Database(mariadb_url.replace("mysql", scheme, 1))
    assert database.dialect_name == "mariadb"
    database.dispose()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense", "invalid_url"),
        ("mysql://eguard:canary-of-the-database@host:port/x", "invalid_url"),
        ("postgresql://eguard:canary-of-the-database@host/db", "unsupported_dialect"),
    ],
)
def test_other_databases_are_refused(url, reason):
    with pytest.raises(FleetStoreError) as caught:
        Database(url)
    assert caught.value.context["reason"] == reason
    assert PASSWORD not in f"{caught.value} {caught.value.remedy}"


def test_a_file_that_cannot_be_opened_is_a_store_error(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/missing/folder/x.db")
    with pytest.raises(FleetStoreError), database.write():
        pass
    database.dispose()


def test_a_server_that_is_not_there_is_unavailable(unused_port):
    database = Database(f"mysql://eguard:{PASSWORD}@127.0.0.1:{unused_port}/x")
    for use in (database.write, database.read):
        with pytest.raises(FleetStoreError) as caught, use():
            pass
        assert caught.value.context["reason"] == "database_unavailable"
        assert caught.value.remedy
        assert PASSWORD not in f"{caught.value} {caught.value.__cause__} {database!r} {database.address}"


@pytest.fixture
def unused_port(mariadb_module):
    return mariadb_module.free_port()


def test_a_wrong_password_is_told_without_it(mariadb, mariadb_url):
    database = Database(mariadb_url.replace(PASSWORD, "canary-of-a-wrong-one"))
    with pytest.raises(FleetStoreError, match="Access denied") as caught, database.write():
        pass
    assert caught.value.context["reason"] == "database"
    assert "canary" not in f"{caught.value} {caught.value.remedy} {caught.value.__cause__}"


def test_a_server_is_not_asked_before_it_is_needed(unused_port):
    Database(f"mysql://eguard@127.0.0.1:{unused_port}/x").dispose()
