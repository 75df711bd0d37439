"""Rows that go into one statement are stored as the toolkit would store them, and counted."""

from itertools import repeat

import pytest
import sqlalchemy as sa

from eguard.fleet.bulk import MAX_PIECE_ROWS, BulkInsert
from eguard.fleet.database import Database
from eguard.fleet.tables.columns import UtcTime
from eguard.fleet.upsert import upsert

TABLE = sa.Table(
    "thing",
    sa.MetaData(),
    sa.Column("name", sa.String(16), primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("number", sa.BigInteger),
    sa.Column("facts", sa.JSON(none_as_null=True)),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("seen", UtcTime),
)
STATEMENT = upsert(TABLE, ["name"], guard=["seq"])


@pytest.fixture
def connection(database_url):
    database = Database(database_url)
    with database.write() as connection:
        TABLE.drop(connection, checkfirst=True)
        TABLE.create(connection)
        yield connection
    with database.write() as connection:
        TABLE.drop(connection)
    database.dispose()


def columns(count: int, seq: int, number: list[int | None], facts: list[object]) -> dict[str, object]:
    return {
        "name": [f"n{index:05}" for index in range(count)],
        "seq": repeat(seq),
        "number": number,
        "facts": facts,
        "at": [1_772_000_000.25 + index for index in range(count)],
        "seen": [None] * count,
    }


@pytest.mark.parametrize("number", [[None] * 3, [None, 7, None], [1, 2, 3]], ids=["none", "some", "all"])
@pytest.mark.parametrize("facts", [[None] * 3, [None, {"a": "two\nlines"}, None]], ids=["nothing", "something"])
def test_nothing_is_stored_as_null_wherever_it_stands(connection, number, facts):
    given = columns(3, 1, number, facts)
    BulkInsert(STATEMENT).execute(connection, given)
    stored = connection.execute(sa.select(TABLE).order_by(TABLE.c.name)).all()
    assert [row.number for row in stored] == number
    assert [row.facts for row in stored] == facts
    assert [row.at for row in stored] == given["at"]
    assert [row.seen for row in stored] == [None] * 3
    is_null = sa.select(sa.func.count()).where(TABLE.c.facts.is_(None))
    assert connection.execute(is_null).scalar_one() == facts.count(None)


def test_sqlite_counts_the_rows_that_were_changed():
    database = Database("sqlite://")
    many = MAX_PIECE_ROWS + 300
    with database.write() as connection:
        TABLE.create(connection)
        insert = BulkInsert(STATEMENT)
        assert insert.execute(connection, columns(many, 1, [None] * many, [{}] * many)) == many
        assert insert.execute(connection, columns(many, 1, [None] * many, [{}] * many)) == 0
        assert insert.execute(connection, columns(7, 3, [None] * 7, [{}] * 7)) == 7
        assert insert.execute(connection, columns(many, 2, [None] * many, [{}] * many)) == many - 7
    database.dispose()
