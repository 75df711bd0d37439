"""Maintenance: tasks, who holds them, and every run."""

from __future__ import annotations

import sqlalchemy as sa

from eguard.fleet.tables.columns import UtcTime, metadata

#: One row a task. Whoever holds the lease runs it; one that ended without giving it back loses it when it expires.
maintenance_task = sa.Table(
    "maintenance_task",
    metadata,
    sa.Column("task_id", sa.String(64), primary_key=True),
    sa.Column("schedule", sa.String(64), nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("next_due", UtcTime),
    sa.Column("lease_owner", sa.String(64)),
    sa.Column("lease_until", UtcTime),
)

#: `started_by` is ``schedule``, ``catch-up`` or who asked; `status` is running, success, skipped, failed or lost.
maintenance_run = sa.Table(
    "maintenance_run",
    metadata,
    sa.Column("run_id", sa.String(32), primary_key=True),
    sa.Column("task_id", sa.String(64), nullable=False),
    sa.Column("started_by", sa.String(160), nullable=False),
    sa.Column("server_id", sa.String(64), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("started_at", UtcTime, nullable=False),
    sa.Column("finished_at", UtcTime),
    sa.Column("detail", sa.JSON(none_as_null=True)),
    sa.Index(None, "task_id", "started_at"),
)
