"""What operators are told: each message once, and what became of it at every sink."""

from __future__ import annotations

import sqlalchemy as sa

from eguard.fleet.tables.columns import UtcTime, metadata

#: `dispatched_at` is when the deliveries were made: to the sinks that were set up at that moment.
notification = sa.Table(
    "notification",
    metadata,
    sa.Column("notification_id", sa.String(32), primary_key=True),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("severity", sa.String(16), nullable=False),
    sa.Column("title", sa.String(255), nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False, index=True),
    sa.Column("dispatched_at", UtcTime, index=True),
)

#: One row a message and sink. `sink` is ``webhook`` or ``syslog``; `status` is ``waiting``, ``delivered`` or
#: ``given_up``.
notification_delivery = sa.Table(
    "notification_delivery",
    metadata,
    sa.Column(
        "notification_id",
        sa.String(32),
        sa.ForeignKey("notification.notification_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("sink", sa.String(16), primary_key=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_attempt_at", UtcTime, nullable=False),
    sa.Column("delivered_at", UtcTime),
    sa.Column("last_error", sa.String(255)),
    sa.Index(None, "status", "next_attempt_at"),
)
