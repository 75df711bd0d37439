"""Marks of changed keys: never lost, whoever commits when; cleared by the cycle that counted them."""

import threading

import pytest
import sqlalchemy as sa

from eguard.fleet.changes import ChangedKeys, clear_marks, end_epoch, marked_keys
from eguard.fleet.database import Database
from eguard.fleet.store import FleetStore
from eguard.fleet.tables import fleet_changed_key
from eguard.wire import BaselineRow


@pytest.fixture
def database(migrated_database_url):
    made = Database(migrated_database_url)
    yield made
    made.dispose()


def marks(database):
    with database.read() as connection:
        return set(connection.execute(sa.select(fleet_changed_key)).all())


def note(changed, database, *keys):
    with database.write() as connection:
        noted = changed.note(connection, keys)
    changed.committed(noted)
    return noted


def test_a_key_is_marked_once_an_epoch_and_process(database):
    changed = ChangedKeys()
    assert set(note(changed, database, "a:b", "c:d").keys) == {"a:b", "c:d"}
    assert set(note(changed, database, "a:b", "e:f").keys) == {"e:f"}
    assert set(note(ChangedKeys(), database, "a:b").keys) == {"a:b"}  # another process does not know, and may
    assert marks(database) == {("a:b", 0), ("c:d", 0), ("e:f", 0)}


def test_an_epoch_that_ended_takes_its_marks_and_no_later_ones(database):
    changed = ChangedKeys()
    note(changed, database, "a:b", "c:d")
    with database.write() as connection:
        ended = end_epoch(connection)
    note(changed, database, "a:b")
    assert marks(database) == {("a:b", 0), ("c:d", 0), ("a:b", 1)}
    with database.write() as connection:
        clear_marks(connection, ended)
        assert marked_keys(connection) == {"a:b"}


def test_marks_of_a_transaction_that_was_undone_are_made_again(database):
    changed = ChangedKeys()

    def fail():
        with database.write() as connection:
            changed.note(connection, ["a:b"])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert marks(database) == set()
    assert set(note(changed, database, "a:b").keys) == {"a:b"}


def test_an_epoch_waits_for_uploads_that_marked_under_it(database):
    """Else a cycle would clear the mark of an upload that it did not see."""
    order = []

    def end():
        with database.write() as connection:
            end_epoch(connection)
        order.append("ended")

    with database.write() as connection:
        ChangedKeys().note(connection, ["a:b"])
        thread = threading.Thread(target=end)
        thread.start()
        thread.join(timeout=0.3)
        assert thread.is_alive()
        order.append("committed")
    thread.join(timeout=20)
    assert order == ["committed", "ended"]


def test_an_upload_during_a_cycle_is_counted_by_the_next(migrated_database_url):
    def row(seq, name):
        return BaselineRow(
            process_key="bash:sshd",
            event_distribution={name: 1.0},
            sample_count=50,
            entropy_threshold=3.0,
            learned_at_unix=0.0,
            seq=seq,
        )

    with FleetStore(migrated_database_url) as store:
        for agent in "abc":
            store.upsert_baselines(agent, "first", [row(1, "login")])
        store.aggregate()

        def upload(label, *_):
            if label == "aggregate":  # the votes are read by then
                for agent in "abc":
                    store.upsert_baselines(agent, "first", [row(2, "alert")])

        report = store.aggregate(progress=upload, is_full=True)
        assert report.updated == 0
        report = store.aggregate()
        assert (report.recomputed_keys, report.updated, report.full_because) == (1, 1, None)
        assert store.fleet_rows()[0].median_distribution == {"alert": 1.0}
        assert store.aggregate().recomputed_keys == 0
