"""Messages to operators, as the first migration makes them. Frozen: a change is a later migration."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from eguard.fleet.migrations.building import FrozenTable, moment

TABLES: Final = (
    FrozenTable(
        "notification",
        (
            sa.Column("notification_id", sa.String(32), nullable=False),
            sa.Column("kind", sa.String(64), nullable=False),
            sa.Column("severity", sa.String(16), nullable=False),
            sa.Column("title", sa.String(255), nullable=False),
            sa.Column("detail", sa.JSON(), nullable=False),
            sa.Column("created_at", moment(), nullable=False),
            sa.Column("dispatched_at", moment()),
            sa.PrimaryKeyConstraint("notification_id", name="pk_notification"),
        ),
        {
            "ix_notification_created_at": ("created_at",),
            "ix_notification_dispatched_at": ("dispatched_at",),
        },
    ),
    FrozenTable(
        "notification_delivery",
        (
            sa.Column("notification_id", sa.String(32), nullable=False),
            sa.Column("sink", sa.String(16), nullable=False),
            sa.Column("status", sa.String(16), nullable=False),
            sa.Column("attempts", sa.Integer(), nullable=False),
            sa.Column("next_attempt_at", moment(), nullable=False),
            sa.Column("delivered_at", moment()),
            sa.Column("last_error", sa.String(255)),
            sa.PrimaryKeyConstraint("notification_id", "sink", name="pk_notification_delivery"),
            sa.ForeignKeyConstraint(
                ["notification_id"],
                ["notification.notification_id"],
                name="fk_notification_delivery_notification_id_notification",
                ondelete="CASCADE",
            ),
        ),
        {
            "ix_notification_delivery_status_next_attempt_at": (
                "status",
                "next_attempt_at",
            ),
        },
    ),
)
