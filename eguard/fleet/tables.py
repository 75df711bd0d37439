"""The fleet's tables, once, for every dialect.

Names are those of the operations manual, so that its verification queries run unchanged. Two column types carry what
dialects would otherwise decide for themselves: process keys and agent names compare byte by byte (MariaDB's default
collation takes ``Bash``, ``bash`` and ``bash `` for one key), and times are UTC to the microsecond.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect

from eguard.wire.baseline import MAX_NAME_CHARACTERS
from eguard.wire.process_key import MAX_PROCESS_KEY_CHARACTERS

#: Raised by one with every change of the tables.
SCHEMA_VERSION: Final = 1


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


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _agent_id() -> sa.types.TypeEngine[str]:
    return exact_text(MAX_NAME_CHARACTERS)


def _process_key() -> sa.types.TypeEngine[str]:
    return exact_text(MAX_PROCESS_KEY_CHARACTERS)


schema_version = sa.Table(
    "fleet_schema_version",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("applied_at", UtcTime, nullable=False),
)

endpoint_agent = sa.Table(
    "endpoint_agent",
    metadata,
    sa.Column("agent_id", _agent_id(), primary_key=True),
    sa.Column("incarnation", exact_text(64), nullable=False),
    sa.Column("incarnation_ordinal", sa.Integer, nullable=False),
    sa.Column("group", sa.String(64), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("bundle_version", sa.String(64)),
    sa.Column("policy_revision", sa.BigInteger),
    sa.Column("last_heartbeat", UtcTime, index=True),
    sa.Column("enrolled_at", UtcTime, nullable=False),
    sa.Column("quarantined_at", UtcTime),
)

#: Every incarnation that an agent ever had, in the order in which the server first heard of it.
endpoint_incarnation = sa.Table(
    "endpoint_incarnation",
    metadata,
    sa.Column("agent_id", _agent_id(), sa.ForeignKey("endpoint_agent.agent_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("incarnation", exact_text(64), primary_key=True),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("registered_at", UtcTime, nullable=False),
)

endpoint_baseline = sa.Table(
    "endpoint_baseline",
    metadata,
    sa.Column("agent_id", _agent_id(), sa.ForeignKey("endpoint_agent.agent_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("process_key", _process_key(), primary_key=True),
    sa.Column("event_distribution", sa.JSON, nullable=False),
    sa.Column("distribution_vector", sa.LargeBinary(32), nullable=False),
    sa.Column("sample_count", sa.BigInteger, nullable=False),
    sa.Column("entropy_threshold", sa.Double, nullable=False),
    sa.Column("learned_at", UtcTime, nullable=False),
    sa.Column("continuous", sa.JSON(none_as_null=True)),
    sa.Column("prior_generation", sa.BigInteger),
    sa.Column("key_shard", sa.SmallInteger, nullable=False),
    sa.Column("updated_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False, index=True),
    sa.Column("incarnation", exact_text(64), nullable=False),
    sa.Column("incarnation_ordinal", sa.Integer, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Index(None, "key_shard", "process_key", "agent_id"),
)


def _fleet_columns() -> list[sa.Column[object]]:
    """Columns that the current generation and its history share."""
    return [
        sa.Column("median_distribution", sa.JSON, nullable=False),
        sa.Column("agent_count", sa.Integer, nullable=False),
        sa.Column("voter_samples", sa.BigInteger, nullable=False),
        sa.Column("stddev_kl", sa.Double, nullable=False),
        sa.Column("pre_norm_mass", sa.Double, nullable=False),
        sa.Column("tolerated_faults", sa.Integer, nullable=False),
        sa.Column("continuous", sa.JSON(none_as_null=True)),
        sa.Column("computed_at", UtcTime, nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("source_version", sa.String(64)),
    ]


fleet_baseline = sa.Table(
    "fleet_baseline",
    metadata,
    sa.Column("process_key", _process_key(), primary_key=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    *_fleet_columns(),
)

fleet_baseline_history = sa.Table(
    "fleet_baseline_history",
    metadata,
    sa.Column("generation", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("process_key", _process_key(), primary_key=True),
    *_fleet_columns(),
)

fleet_generation = sa.Table(
    "fleet_generation",
    metadata,
    sa.Column("generation", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("computed_at", UtcTime, nullable=False),
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("source_version", sa.String(64)),
    sa.Column("key_count", sa.Integer, nullable=False),
    sa.Column("is_reference", sa.Boolean, nullable=False),
    sa.Column("is_pruned", sa.Boolean, nullable=False),
    sa.Column("report", sa.JSON(none_as_null=True)),
)

fleet_health = sa.Table(
    "fleet_health",
    metadata,
    sa.Column("generation", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("compared_with", sa.String(16), primary_key=True),
    sa.Column("other_generation", sa.BigInteger, nullable=False),
    sa.Column("computed_at", UtcTime, nullable=False),
    sa.Column("common_keys", sa.Integer, nullable=False),
    sa.Column("js_mean", sa.Double),
    sa.Column("js_mean_bias", sa.Double),
    sa.Column("js_max", sa.Double),
    sa.Column("js_max_bias", sa.Double),
    sa.Column("js_max_key", _process_key()),
    sa.Column("new_key_share", sa.Double, nullable=False),
    sa.Column("new_key_count", sa.Integer, nullable=False),
    sa.Column("new_keys", sa.JSON, nullable=False),
    sa.Column("vanished_key_count", sa.Integer, nullable=False),
    sa.Column("vanished_keys", sa.JSON, nullable=False),
)
