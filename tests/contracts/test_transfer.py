"""A database that moves keeps every row as it was, in both directions."""

import pytest
import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.errors import FleetStoreError
from eguard.fleet import FleetStore
from eguard.fleet.database import Database
from eguard.fleet.tables import audit_log, endpoint_agent, metadata, policy, server_counter
from eguard.fleet.transfer import copy_database
from eguard.wire import BaselineRow, ContinuousMoments, Moments

NOW = 1_772_000_000.123456


def rows_of(database):
    with database.read() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key))]
            for table in metadata.sorted_tables
        }


@pytest.fixture
def source(migrated_database_url):
    """A database in which a fleet has lived: two generations, keys of all kinds, a policy and a record more."""
    with FleetStore(migrated_database_url, SimulatedClock(NOW)) as store:
        for seq in (1, 2):
            for agent in ("a", "ä", "Ä", "🦀"):
                rows = [
                    BaselineRow(
                        process_key=key,
                        event_distribution={"process_exec": 0.25, "alert": 0.75},
                        sample_count=10**12 + number,
                        entropy_threshold=3.1,
                        learned_at_unix=NOW,
                        seq=seq,
                        continuous=ContinuousMoments(interarrival=Moments(count=7, mean=0.1 + number, m2=0.3)),
                    )
                    for number, key in enumerate(("bash:sshd", "Bash:sshd", "bäsh:sshd", "ba\u0308sh:sshd"))
                ]
                store.upsert_baselines(agent, "first", rows)
            store.aggregate()
    made = Database(migrated_database_url)
    with made.write() as connection:
        connection.execute(sa.update(server_counter).where(server_counter.c.name == "audit").values(value=1))
        connection.execute(sa.update(policy).values(reason="changed"))
        connection.execute(
            sa.insert(audit_log).values(
                sequence=1,
                at=NOW,
                principal="x",
                role="admin",
                action="a.b",
                object_type="o",
                object_id="i",
                detail={"ü": [1, 2.5, None, True]},
                address="",
                credential="",
                previous_hash="0" * 64,
                record_hash="1" * 64,
            )
        )
    yield made
    made.dispose()


@pytest.fixture
def target(source, tmp_path, request):
    url = f"sqlite:///{tmp_path}/target.db"
    if source.dialect_name == "sqlite":
        url = request.getfixturevalue("mariadb_url")
    made = Database(url)
    yield made
    made.dispose()


def test_every_row_arrives_as_it_was(source, target):
    told = []
    copied = copy_database(source, target, 0.0, lambda *call: told.append(call))
    expected = rows_of(source)
    assert rows_of(target) == expected
    assert copied == {name: len(rows) for name, rows in expected.items()}
    assert (copied["endpoint_baseline"], copied["fleet_baseline_history"], copied["audit_log"]) == (16, 4, 1)
    assert told[-1][1:] == (len(expected), len(expected))


def test_the_fleet_goes_on_where_it_was(source, target):
    copy_database(source, target, 0.0)
    with FleetStore(target._url.render_as_string(hide_password=False)) as store:
        assert store.aggregate().generation == 3


def test_a_database_in_use_is_not_written_into(source, target):
    copy_database(source, target, 0.0)
    before = rows_of(target)
    with pytest.raises(FleetStoreError, match="in use") as caught:
        copy_database(source, target, 0.0)
    assert caught.value.context["reason"] == "not_empty"
    assert rows_of(target) == before


def test_a_copy_that_breaks_off_leaves_no_row(source, target):
    class BrokenOffError(Exception):
        pass

    def break_off(name, *_):
        if name == "endpoint_baseline":
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        copy_database(source, target, 0.0, break_off)
    with target.read() as connection:
        assert connection.execute(sa.select(endpoint_agent.c.agent_id)).all() == []
        assert connection.execute(sa.select(policy.c.created_by)).scalars().all() == ["migration"]
    copy_database(source, target, 0.0)
    assert rows_of(target) == rows_of(source)


def test_what_was_never_migrated_is_not_copied(tmp_path):
    source, target = Database(f"sqlite:///{tmp_path}/a.db"), Database(f"sqlite:///{tmp_path}/b.db")
    with pytest.raises(FleetStoreError, match="schema None"):
        copy_database(source, target, 0.0)
    source.dispose()
    target.dispose()
