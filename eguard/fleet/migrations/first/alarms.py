"""Drift of the fleet's baseline, as the first migration makes it. Frozen: a change is a later migration."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from eguard.fleet.migrations.building import FrozenTable, exact, long_bytes, long_text, moment

TABLES: Final = (
    FrozenTable(
        "fleet_drift_series",
        (
            sa.Column("series", sa.String(32), nullable=False),
            sa.Column("compared_with", sa.String(16), nullable=False),
            sa.Column("generation", sa.BigInteger(), nullable=False),
            sa.Column("state", long_text(65_536), nullable=False),
            sa.PrimaryKeyConstraint("series", "compared_with", name="pk_fleet_drift_series"),
        ),
        {},
    ),
    FrozenTable(
        "fleet_drift_block",
        (
            sa.Column("block", sa.SmallInteger(), nullable=False, autoincrement=False),
            sa.Column("version", sa.SmallInteger(), nullable=False),
            sa.Column("generation", sa.BigInteger(), nullable=False),
            sa.Column("process_keys", long_text(1 << 20), nullable=False),
            sa.Column("state", long_bytes(), nullable=False),
            sa.PrimaryKeyConstraint("block", name="pk_fleet_drift_block"),
        ),
        {},
    ),
    FrozenTable(
        "fleet_alarm",
        (
            sa.Column("alarm_id", sa.String(32), nullable=False),
            sa.Column("raised_at", moment(), nullable=False),
            sa.Column("generation", sa.BigInteger(), nullable=False),
            sa.Column("kind", sa.String(16), nullable=False),
            sa.Column("series", exact(512), nullable=False),
            sa.Column("compared_with", sa.String(16), nullable=False),
            sa.Column("value", sa.Double(), nullable=False),
            sa.Column("threshold", sa.Double(), nullable=False),
            sa.Column("detail", sa.JSON(), nullable=False),
            sa.Column("resolved_at", moment()),
            sa.Column("resolved_by", sa.String(128)),
            sa.Column("resolution", sa.String(16)),
            sa.PrimaryKeyConstraint("alarm_id", name="pk_fleet_alarm"),
        ),
        {
            "ix_fleet_alarm_raised_at": ("raised_at",),
            "ix_fleet_alarm_resolved_at": ("resolved_at",),
        },
    ),
)
