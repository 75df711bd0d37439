"""Transactions: whole or not at all, readers on a snapshot, and no driver error past the module."""

import threading

import pytest
import sqlalchemy as sa

from eguard.errors import FleetStoreError
from eguard.fleet.database import Database


@pytest.fixture
def database(tmp_path):
    made = Database(f"sqlite:///{tmp_path}/x.db")
    with made.write() as connection:
        connection.execute(sa.text("create table t (n integer primary key)"))
    yield made
    made.dispose()


def count(connection):
    return connection.execute(sa.text("select count(*) from t")).scalar()


class BreakdownError(Exception):
    """Stands for anything that goes wrong in a block."""


def test_file_databases_are_durable_and_concurrent(database):
    with database.write() as connection:
        found = {
            name: connection.exec_driver_sql(f"pragma {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_block_that_fails_leaves_nothing(database):
    def insert_and_break():
        with database.write() as connection:
            connection.execute(sa.text("insert into t values (1)"))
            raise BreakdownError

    with pytest.raises(BreakdownError):
        insert_and_break()
    with database.read() as connection:
        assert count(connection) == 0


def test_readers_keep_the_snapshot_they_began_with(database):
    with database.read() as reader:
        assert count(reader) == 0
        with database.write() as writer:
            writer.execute(sa.text("insert into t values (1)"))
        assert count(reader) == 0
    with database.read() as reader:
        assert count(reader) == 1


def test_readers_cannot_write(database):
    with pytest.raises(FleetStoreError), database.read() as connection:
        connection.execute(sa.text("insert into t values (1)"))


def test_writers_queue_and_never_see_a_lock(database):
    def work(start):
        for number in range(start, start + 25):
            with database.write() as connection:
                connection.execute(sa.text("insert into t values (:n)"), {"n": number})

    threads = [threading.Thread(target=work, args=(100 * worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        assert count(connection) == 200


def test_driver_errors_are_store_errors(database):
    with pytest.raises(FleetStoreError) as caught, database.write() as connection:
        connection.execute(sa.text("select * from nowhere"))
    assert caught.value.context["reason"] == "database"
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("url", "reason"), [("nonsense", "invalid_url"), ("postgresql://host/db", "unsupported_dialect")]
)
def test_other_databases_are_refused(url, reason):
    with pytest.raises(FleetStoreError) as caught:
        Database(url)
    assert caught.value.context["reason"] == reason


def test_a_file_that_cannot_be_opened_is_a_store_error(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/missing/folder/x.db")
    with pytest.raises(FleetStoreError), database.write():
        pass
    database.dispose()
