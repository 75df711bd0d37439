"""Column types that mean the same on every dialect, and the one collection of tables.

Names are those of the operations manual, so that its verification queries run unchanged. Two column types carry what
dialects would otherwise decide for themselves: process keys and agent names compare byte by byte (MariaDB's default
collation takes ``Bash``, ``bash`` and ``bash `` for one key), and times are UTC to the microsecond.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect

from eguard.wire.baseline import MAX_NAME_CHARACTERS
from eguard.wire.process_key import MAX_PROCESS_KEY_CHARACTERS


class UtcTime(sa.types.TypeDecorator[float]):
    """Seconds since the epoch in Python, a readable UTC date and time in the database."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[datetime]:
        """Keep microseconds where the default drops them."""
        if dialect.name in {"mysql", "mariadb"}:
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(sa.DateTime())

    def process_bind_param(self, value: float | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - signature
        """Turn seconds into the stored form."""
        return None if value is None else datetime.fromtimestamp(value, UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> float | None:  # noqa: ARG002 - signature
        """Turn the stored form into seconds."""
        return None if value is None else value.replace(tzinfo=UTC).timestamp()


def exact_text(length: int) -> sa.types.TypeEngine[str]:
    """Return a text type that tells apart case, accents, normal forms and trailing blanks."""
    return (
        sa.String(length)
        .with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_nopad_bin"), "mariadb")
        .with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_0900_bin"), "mysql")
    )


def long_text(length: int) -> sa.types.TypeEngine[str]:
    """Return a text type for up to 16 MiB on servers, where `length` would be taken for bytes."""
    return sa.Text(length).with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")


def long_bytes() -> sa.types.TypeEngine[bytes]:
    """Return a type for up to 16 MiB of bytes."""
    return sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")


def fixed_bytes(length: int) -> sa.types.TypeEngine[bytes]:
    """Return a type of exactly `length` bytes."""
    return sa.LargeBinary(length).with_variant(mysql.BINARY(length), "mysql", "mariadb")


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def give_server_options(tables: sa.MetaData) -> None:
    """Have servers keep every table transactional, and compare all of its text byte by byte, as SQLite does."""
    for table in tables.tables.values():
        table.dialect_kwargs.update(
            mariadb_engine="InnoDB",
            mariadb_default_charset="utf8mb4",
            mariadb_collate="utf8mb4_nopad_bin",
            mysql_engine="InnoDB",
            mysql_default_charset="utf8mb4",
            mysql_collate="utf8mb4_0900_bin",
        )


def agent_id_type() -> sa.types.TypeEngine[str]:
    """Return the type of agents' names."""
    return exact_text(MAX_NAME_CHARACTERS)


def process_key_type() -> sa.types.TypeEngine[str]:
    """Return the type of process keys."""
    return exact_text(MAX_PROCESS_KEY_CHARACTERS)
