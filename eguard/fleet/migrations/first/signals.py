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
)
