"""The audit log: a chain that shows where it was broken, and mutations that fail when it cannot be written."""

import threading

import pytest
import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.errors import FleetStoreError, ServerRefusalError
from eguard.fleet import FleetStore
from eguard.fleet.database import Database
from eguard.fleet.tables import audit_log, endpoint_whitelist, server_counter
from eguard.server.principal import Principal, Role
from eguard.server.services.audit import Audit, record
from eguard.server.services.audit_chain import GENESIS, ChainHead, record_hash

ADMIN = Principal("ada", Role.ADMIN, address="192.0.2.7", credential="session")
NOW = 1_772_000_000.25


@pytest.fixture
def database(fleet_database):
    return fleet_database


@pytest.fixture
def audit(database):
    return Audit(database, SimulatedClock(NOW))


def write(database, count, **changes):
    for index in range(count):
        values = {
            "action": "policy.create",
            "object_type": "policy",
            "object_id": f"p{index}",
            "detail": {"percent": 0.1},
        }
        at = NOW + index
        database.retrying(
            lambda connection, values=values, at=at: record(connection, ADMIN, **(values | changes), now=at)
        )


def test_numbers_follow_each_other_and_the_first_record_follows_nothing(database):
    write(database, 3)
    with database.read() as connection:
        rows = connection.execute(sa.select(audit_log).order_by(audit_log.c.sequence)).mappings().all()
    assert [row["sequence"] for row in rows] == [1, 2, 3]
    assert [row["previous_hash"] for row in rows] == [GENESIS, rows[0]["record_hash"], rows[1]["record_hash"]]


def test_a_record_hash_is_the_one_that_the_reference_page_computes():
    # Computed with `printf | sha256sum` as docs/reference/audit.md shows.
    values = {
        "sequence": 1,
        "at": NOW,
        "principal": "ada",
        "role": "admin",
        "action": "policy.create",
        "object_type": "policy",
        "object_id": "p0",
        "detail": {"percent": 0.1},
        "address": "192.0.2.7",
        "credential": "session",
        "previous_hash": GENESIS,
    }
    assert record_hash(values) == "69a1505cc1681576c6c23da18da4931acb638be15397b8f9596026d0b32feaee"


def test_the_detail_that_is_hashed_is_the_one_that_is_read_back(database, audit):
    write(database, 1, detail={"ids": ("a", "b"), "none": None, "share": 1e-9, "name": "é\u2028"})
    assert audit.search().records[0].detail == {"ids": ["a", "b"], "none": None, "share": 1e-9, "name": "é\u2028"}
    assert audit.verify().intact


def test_an_empty_log_is_intact(audit):
    report = audit.verify()
    assert (report.intact, report.records, report.head) == (True, 0, None)


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("principal", "eve"),
        ("role", "analyst"),
        ("action", "policy.delete"),
        ("object_type", "agent"),
        ("object_id", "p9"),
        ("detail", {"percent": 0.2}),
        ("address", ""),
        ("credential", "t9"),
        ("at", NOW + 0.000001),
        ("record_hash", "0" * 64),
    ],
)
def test_a_changed_column_is_found_at_its_record(database, audit, change, value):
    write(database, 5)
    with database.write() as connection:
        connection.execute(sa.update(audit_log).where(audit_log.c.sequence == 3).values({change: value}))
    report = audit.verify()
    assert (report.intact, report.broken_at, report.records) == (False, 3, 2)


def test_a_record_that_was_hashed_anew_breaks_the_next(database, audit):
    write(database, 5)
    with database.write() as connection:
        row = dict(connection.execute(sa.select(audit_log).where(audit_log.c.sequence == 3)).mappings().one())
        row["principal"] = "eve"
        row["record_hash"] = record_hash(row)
        connection.execute(sa.update(audit_log).where(audit_log.c.sequence == 3).values(row))
    report = audit.verify()
    assert (report.broken_at, report.reason) == (4, "record 4 does not follow the record before it")


@pytest.mark.parametrize(
    ("gone", "broken_at", "reason"),
    [
        ([1], 2, "records before 2 are missing, and no retention says so"),
        ([3], 3, "records 3 to 3 are missing"),
        ([2, 3, 4], 2, "records 2 to 4 are missing"),
        ([4, 5], 4, "records 4 to 5 are missing"),
        ([1, 2, 3, 4, 5], 1, "records 1 to 5 are missing"),
    ],
)
def test_removed_records_are_named(database, audit, gone, broken_at, reason):
    write(database, 5)
    with database.write() as connection:
        connection.execute(sa.delete(audit_log).where(audit_log.c.sequence.in_(gone)))
    report = audit.verify()
    assert (report.broken_at, report.reason) == (broken_at, reason)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET detail = '{' WHERE sequence = 3",
        "UPDATE audit_log SET detail = '[]' WHERE sequence = 3",
        "UPDATE audit_log SET at = 'yesterday' WHERE sequence = 3",
        "UPDATE audit_log SET principal = x'00ff' WHERE sequence = 3",
    ],
    ids=["broken-json", "no-object", "no-time", "no-text"],
)
def test_a_record_that_cannot_be_read_any_more_is_named(tmp_path, statement):
    # Where the database itself would not let such things be written, nobody finds them either.
    FleetStore.create(f"sqlite:///{tmp_path}/fleet.db").close()
    database = Database(f"sqlite:///{tmp_path}/fleet.db")
    write(database, 5)
    with database.write() as connection:
        connection.exec_driver_sql(statement)
    assert Audit(database, SimulatedClock(NOW)).verify().broken_at == 3
    database.dispose()


def test_a_log_that_was_computed_anew_differs_from_the_head_that_was_kept(database, audit):
    write(database, 4)
    kept = audit.verify().head
    with database.write() as connection:
        connection.execute(sa.delete(audit_log))
        connection.execute(sa.update(server_counter).where(server_counter.c.name == "audit").values(value=0))
    write(database, 5, object_id="forged")
    assert audit.verify().intact
    report = audit.verify(kept)
    assert (report.broken_at, report.reason) == (4, "record 4 is not the one whose hash was kept")


def test_a_head_that_was_kept_holds_while_the_log_grows(database, audit):
    write(database, 2)
    kept = audit.verify().head
    write(database, 2)
    assert audit.verify(kept).intact
    assert not audit.verify(ChainHead(sequence=9, record_hash=kept.record_hash)).intact


def test_retention_removes_the_oldest_says_so_and_leaves_the_chain_whole(database, audit):
    write(database, 5)
    assert audit.prune(ADMIN, NOW + 3) == 3
    report = audit.verify()
    assert (report.intact, report.first_sequence, report.records) == (True, 4, 3)
    assert audit.search().records[0].action == "audit.prune"
    assert audit.prune(ADMIN, NOW + 3) == 0
    assert audit.verify().head == report.head


def test_retention_never_removes_the_newest_record(database, audit):
    write(database, 3)
    assert audit.prune(ADMIN, NOW + 1e6) == 2
    assert audit.verify().intact


def test_removing_what_retention_would_not_have_removed_is_found(database, audit):
    write(database, 5)
    audit.prune(ADMIN, NOW + 2)
    with database.write() as connection:
        connection.execute(sa.delete(audit_log).where(audit_log.c.sequence == 3))
    assert audit.verify().broken_at == 4


def test_search_pages_from_the_newest_without_gap_or_repetition(database, audit):
    write(database, 7)
    seen, cursor = [], None
    while True:
        page = audit.search(limit=3, cursor=cursor)
        seen += [entry.sequence for entry in page.records]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [7, 6, 5, 4, 3, 2, 1]


def test_filters_are_exact_and_combine(database, audit):
    write(database, 2)
    write(database, 1, action="endpoint.enroll", object_type="agent", object_id="host-1")
    assert len(audit.search(principal="ada").records) == 3
    assert len(audit.search(principal="Ada").records) == 0
    assert [entry.object_id for entry in audit.search(action="endpoint.enroll").records] == ["host-1"]
    assert len(audit.search(object_type="policy", object_id="p1").records) == 1
    assert [entry.at_unix for entry in audit.search(since=NOW + 1).records] == [NOW + 1]
    assert len(audit.search(until=NOW + 1).records) == 2


@pytest.mark.parametrize("cursor", ["", "-1", "1e3", "x", "9" * 30, "\u0661"])
def test_a_made_up_cursor_is_refused(audit, cursor):
    with pytest.raises(ServerRefusalError) as caught:
        audit.search(cursor=cursor)
    assert (caught.value.status, caught.value.reason) == (422, "invalid_cursor")


def test_a_mutation_whose_record_cannot_be_written_is_not_made(database):
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE audit_log RENAME TO audit_log_gone")
    entry = {
        "entry_id": "w1",
        "kind": "ip",
        "value": "192.0.2.1",
        "scope": "fleet",
        "scope_id": "",
        "reason": "",
        "created_by": "ada",
        "created_at": NOW,
    }

    def allow():
        with database.write() as connection:
            connection.execute(sa.insert(endpoint_whitelist).values(entry))
            record(
                connection,
                ADMIN,
                action="whitelist.add",
                object_type="whitelist",
                object_id="w1",
                detail={},
                now=NOW,
            )

    try:
        with pytest.raises(FleetStoreError):
            allow()
    finally:
        with database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE audit_log_gone RENAME TO audit_log")
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(endpoint_whitelist)).scalar_one() == 0
    assert Audit(database, SimulatedClock(NOW)).verify().intact


def test_a_transaction_that_is_undone_leaves_no_gap(database, audit):
    write(database, 1)

    def fail_after_writing():
        with database.write() as connection:
            record(connection, ADMIN, action="a.b", object_type="a", object_id="1", detail={}, now=NOW)
            raise LookupError

    with pytest.raises(LookupError):
        fail_after_writing()
    write(database, 1)
    assert audit.verify().intact
    assert audit.verify().records == 2


def test_writers_at_once_make_one_chain(database, audit):
    threads = [threading.Thread(target=write, args=(database, 10)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = audit.verify()
    assert (report.intact, report.records) == (True, 80)
