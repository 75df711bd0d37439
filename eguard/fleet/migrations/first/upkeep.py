"""Maintenance, as the first migration makes it. Frozen: a change is a later migration."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from eguard.fleet.migrations.building import FrozenTable, moment

TABLES: Final = (
    FrozenTable(
        "maintenance_task",
        (
            sa.Column("task_id", sa.String(64), nullable=False),
            sa.Column("schedule", sa.String(64), nullable=False),
            sa.Column("enabled", sa.Boolean(), nullable=False),
            sa.Column("next_due", moment()),
            sa.Column("lease_owner", sa.String(64)),
            sa.Column("lease_until", moment()),
            sa.PrimaryKeyConstraint("task_id", name="pk_maintenance_task"),
        ),
        {},
    ),
    FrozenTable(
        "maintenance_run",
        (
            sa.Column("run_id", sa.String(32), nullable=False),
            sa.Column("task_id", sa.String(64), nullable=False),
            sa.Column("started_by", sa.String(160), nullable=False),
            sa.Column("server_id", sa.String(64), nullable=False),
            sa.Column("status", sa.String(16), nullable=False),
            sa.Column("started_at", moment(), nullable=False),
            sa.Column("finished_at", moment()),
            sa.Column("detail", sa.JSON()),
            sa.PrimaryKeyConstraint("run_id", name="pk_maintenance_run"),
        ),
        {
            "ix_maintenance_run_task_id_started_at": (
                "task_id",
                "started_at",
            ),
        },
    ),
)
