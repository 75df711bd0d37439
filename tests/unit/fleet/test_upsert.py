"""The upsert keeps, changes or guards rows, and does the same on both databases."""

import itertools

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.mysql import mariadb

from eguard.fleet.database import Database
from eguard.fleet.upsert import upsert

tables = sa.MetaData()
register = sa.Table(
    "register",
    tables,
    sa.Column("host", sa.String(64), primary_key=True),
    sa.Column("order", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("major", sa.Integer, nullable=False, server_default="0"),
    sa.Column("minor", sa.Integer, nullable=False, server_default="0"),
    sa.Column("value", sa.Integer),
    sa.Column("note", sa.String(64)),
)
KEYS = ["host", "order"]


@pytest.fixture
def connection(database_url):
    database = Database(database_url)
    with database.write() as made:
        tables.create_all(made)
    with database.write() as made:
        yield made
    database.dispose()


def stored(connection):
    columns = register.c
    return [tuple(row) for row in connection.execute(sa.select(columns.major, columns.minor, columns.value))]


def test_only_what_is_given_is_changed(connection):
    connection.execute(upsert(register, KEYS), {"host": "a", "order": 1, "value": 5, "note": "kept"})
    connection.execute(upsert(register, KEYS), {"host": "a", "order": 1, "value": 6})
    connection.execute(upsert(register, KEYS).values(host="a", order=1, major=7))
    connection.execute(upsert(register, KEYS).values([{"host": "a", "order": 1, "minor": 8}]))
    assert connection.execute(sa.select(register)).one() == ("a", 1, 7, 8, 6, "kept")


def test_rows_of_one_call_are_taken_one_after_the_other(connection):
    rows = [{"host": "a", "order": number % 2, "value": number} for number in range(5)]
    connection.execute(upsert(register, KEYS), rows)
    assert stored(connection) == [(0, 0, 4), (0, 0, 3)]


def test_without_columns_to_update_the_row_that_is_there_stays(connection):
    for value in (1, 2):
        connection.execute(upsert(register, KEYS, update=[]), {"host": "a", "order": 1, "value": value})
    assert stored(connection) == [(0, 0, 1)]


def test_named_columns_alone_are_changed(connection):
    for value in (1, 2):
        row = {"host": "a", "order": 1, "value": value, "major": value}
        connection.execute(upsert(register, KEYS, update=["major"]), row)
    assert stored(connection) == [(2, 0, 1)]


def test_a_guard_of_two_columns_compares_them_like_a_tuple_and_changes_all_or_nothing(connection):
    """Every pair of versions: assigning one guard column must not decide about the other."""
    statement = upsert(register, KEYS, guard=["major", "minor"])
    pairs = list(itertools.product(range(3), repeat=2))
    for number, (old, new) in enumerate(itertools.product(pairs, repeat=2)):
        row = {"host": "a", "order": number}
        connection.execute(statement, {**row, "major": old[0], "minor": old[1], "value": 1})
        connection.execute(statement, {**row, "major": new[0], "minor": new[1], "value": 2})
        columns = register.c
        found = connection.execute(
            sa.select(columns.major, columns.minor, columns.value).where(columns.order == number)
        ).one()
        assert found == ((*new, 2) if new > old else (*old, 1)), (old, new)


def test_one_guarding_column_is_enough(connection):
    statement = upsert(register, KEYS, guard=["major"])
    for major, value in ((3, 1), (2, 2), (3, 3), (4, 4)):
        connection.execute(statement, {"host": "a", "order": 1, "major": major, "value": value})
    assert stored(connection) == [(4, 0, 4)]


def test_statements_that_differ_only_in_the_conflict_are_not_mixed_up(connection):
    """The toolkit caches compiled statements by what it takes for their identity."""
    row = {"host": "a", "order": 1, "major": 1, "value": 1}
    connection.execute(upsert(register, KEYS), row)
    for statement, expected in (
        (upsert(register, KEYS, update=[]), 1),
        (upsert(register, KEYS, guard=["major"]), 1),
        (upsert(register, KEYS, update=["value"]), 2),
    ):
        connection.execute(statement, {**row, "value": 2})
        assert stored(connection)[0][2] == expected


@pytest.mark.parametrize("dialect", [sqlite.dialect(), mariadb.MariaDBDialect()], ids=["sqlite", "mariadb"])
def test_compiled_statements_are_kept(dialect):
    keys = [upsert(register, KEYS, guard=["major"])._generate_cache_key() for _ in range(2)]
    assert keys[0] is not None
    assert keys[0].key == keys[1].key
    assert keys[0].key != upsert(register, KEYS)._generate_cache_key().key
    assert str(upsert(register, KEYS).compile(dialect=dialect)).count("INSERT") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"keys": []},
        {"keys": ["hots"]},
        {"keys": KEYS, "update": ["vlaue"]},
        {"keys": KEYS, "guard": ["value"]},
        {"keys": KEYS, "guard": ["host"]},
        {"keys": KEYS, "update": ["value"], "guard": ["major"]},
    ],
    ids=["no key", "unknown key", "unknown column", "guard that may be NULL", "guard in the key", "guard that stays"],
)
def test_what_cannot_work_is_refused(wrong):
    with pytest.raises(ValueError, match="register"):
        upsert(register, **wrong)
