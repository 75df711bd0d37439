"""Counts of servers and the state of alert rules, as the first migration makes them. Frozen: a change is later."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from eguard.fleet.migrations.building import FrozenTable, moment

TABLES: Final = (
    FrozenTable(
        "signal_count",
        (
            sa.Column("bucket_at", moment(), nullable=False),
            sa.Column("name", sa.String(32), nullable=False),
            sa.Column("server_id", sa.String(64), nullable=False),
            sa.Column("value", sa.BigInteger(), nullable=False),
            sa.PrimaryKeyConstraint("bucket_at", "name", "server_id", name="pk_signal_count"),
        ),
        {},
    ),
    FrozenTable(
        "alert_state",
        (
            sa.Column("rule", sa.String(64), nullable=False),
            sa.Column("state", sa.String(16), nullable=False),
            sa.Column("since", moment(), nullable=False),
            sa.Column("looked_at", moment(), nullable=False),
            sa.Column("fine_since", moment()),
            sa.Column("numbers", sa.JSON(), nullable=False),
            sa.PrimaryKeyConstraint("rule", name="pk_alert_state"),
        ),
        {},
    ),
    FrozenTable(
        "calibration_reference",
        (
            sa.Column("model_digest", sa.String(64), nullable=False),
            sa.Column("model_version", sa.String(128), nullable=False),
            sa.Column("calibration_digest", sa.String(64), nullable=False),
            sa.Column("contract_hash", sa.String(64), nullable=False),
            sa.Column("alpha", sa.Double(), nullable=False),
            sa.Column("loaded_at", moment(), nullable=False),
            sa.Column("computed_at", moment()),
            sa.Column("scores", sa.JSON()),
            sa.Column("times", sa.JSON()),
            sa.Column("hosts", sa.JSON()),
            sa.Column("thresholds", sa.JSON()),
            sa.Column("facts", sa.JSON(), nullable=False),
            sa.Column("checked_at", moment()),
            sa.Column("health", sa.JSON()),
            sa.PrimaryKeyConstraint("model_digest", name="pk_calibration_reference"),
        ),
        {},
    ),
)
